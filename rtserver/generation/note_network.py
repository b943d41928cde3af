"""The network of the zoo as a stepping machine: three ONNX graphs on fixed arrays, state swapped A/B.

``step`` takes the last event and gives the logits of the next dt; the heads of pitch and duration are asked once the choice before them
is made. Nothing is copied and nothing is made per run: ONNX Runtime is bound to these very arrays.

A model takes the conditions that it was trained with: those of OPTIONAL that its entry in the manifest lists.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver import zoo
from rtserver.errors import ModelError
from rtserver.generation import vocabulary as v
from rtserver.generation.vocabulary import NoteEvent

KIND = "note_events"
EVENT = ("dt", "pitch", "duration")
CONDITIONS = {"chroma": v.N_CHROMA, "ahead": v.N_AHEAD, "controls": v.N_CONTROLS}
# Inputs without which there are models: bar and metre, the part, what comes, density and register, the last pitch and the keys that are
# down for the pitch head.
OPTIONAL = frozenset({"bar", "metre", "part", "ahead", "controls", "last", "sounding"})
WARM_UP_RUNS = 20  # ONNX Runtime's first runs plan memory and are up to a hundred times slower

_Array = npt.NDArray[Any]


class NoteNetwork:
    """One note model of the zoo, warmed up. Raises `ModelError` where its files are missing, altered or of another vocabulary.

    Parameters
    ----------
    model : str
        Name in the zoo; its heads are `model`-pitch and `model`-duration.
    folder : Path
        Where the zoo is.

    Attributes
    ----------
    dt_logits, pitch_logits, duration_logits : float32 (97,), (128,), (97,)
        Views of what the last run of each graph wrote.
    conditions : dict of float32 (13,), (25,), (4,)
        ``chroma``, ``ahead``, ``controls``, see `vocabulary`: inputs of `step`, the first two also of `run_pitch`. Write into them.
    sounding, next_sounding : float32 (128,)
        1 for each key that is down: after the last event, an input of `step`; at the onset of the next, of `run_pitch`. Write into them.
    takes : frozenset of str
        Which of OPTIONAL the model listens to; what is written into the others has no effect.
    """

    def __init__(self, model: str = "performer", folder: Path = zoo.FOLDER) -> None:
        loaded = {
            part: zoo.load_model(model + suffix, folder) for part, suffix in (("step", ""), ("pitch", "-pitch"), ("duration", "-duration"))
        }
        path, entry = loaded["step"]
        for p, e in loaded.values():
            if e.get("kind") != KIND:
                raise ModelError(f"{p} is a model of kind {e.get('kind')!r}: the performer expects {KIND!r} — is {model!r} the right name?")
        try:
            n_layers, hidden = int(entry["layers"]), int(entry["hidden_size"])
        except (KeyError, TypeError, ValueError) as e:
            raise ModelError(f"the manifest entry of {path} lacks layers or hidden_size ({e}) — export the model anew") from e

        def ints(*names: str) -> dict[str, _Array]:
            return {k: np.zeros((1, 1), np.int64) for k in names}

        def floats(*shape: int) -> _Array:
            return np.zeros(shape, np.float32)

        self.takes = OPTIONAL & {k for _, e in loaded.values() for k in e["inputs"]}
        self._event = ints(*EVENT, "phase", "bar", "metre", "texture", "part")
        self._next = ints("dt", "phase", "bar", "pitch", "last")
        conditions = {k: floats(1, 1, n) for k, n in CONDITIONS.items()}
        sounding, next_sounding = floats(1, 1, v.N_PITCH), floats(1, 1, v.N_PITCH)
        self._h = [floats(n_layers, 1, hidden) for _ in range(2)]
        self._c = [floats(n_layers, 1, hidden) for _ in range(2)]
        dt, pitch, duration = floats(1, 1, v.N_DT), floats(1, 1, v.N_PITCH), floats(1, 1, v.N_DURATION)
        self.dt_logits, self.pitch_logits, self.duration_logits = dt[0, 0], pitch[0, 0], duration[0, 0]
        self.conditions = {k: x[0, 0] for k, x in conditions.items()}
        self.sounding, self.next_sounding = sounding[0, 0], next_sounding[0, 0]
        self._bar = (0, 0)
        features = {"features": floats(1, 1, hidden)}
        when = {k: self._next[k] for k in ("dt", "phase", "bar")}
        heard = {k: conditions[k] for k in ("chroma", "ahead")}

        def bind(part: str, known: dict[str, _Array], outputs: dict[str, _Array]) -> Callable[[], None]:
            inputs = {k: x for k, x in known.items() if k not in OPTIONAL or k in loaded[part][1]["inputs"]}
            zoo.expect(*loaded[part], inputs, outputs)
            return zoo.bind(sessions[part], inputs, outputs)

        sessions = {part: zoo.open_session(p) for part, (p, _) in loaded.items()}
        self._run_step = [
            bind(
                "step",
                self._event | conditions | {"sounding": sounding, "h": self._h[a], "c": self._c[a]},
                {"dt_logits": dt} | features | {"h_out": self._h[1 - a], "c_out": self._c[1 - a]},
            )
            for a in (0, 1)
        ]
        down = {"last": self._next["last"], "sounding": next_sounding}
        self._run_pitch = bind("pitch", features | when | heard | down, {"pitch_logits": pitch})
        self._run_duration = bind("duration", features | when | {"pitch": self._next["pitch"]}, {"duration_logits": duration})
        self._a = 0
        for _ in range(WARM_UP_RUNS):
            self.step(NoteEvent(0, v.START, v.UNKNOWN_DURATION), 0)
            self.swap()
            self.run_pitch(0, 0)
            self.run_duration(0)
        self.clear()

    @property
    def state(self) -> tuple[_Array, _Array]:
        """h and c before the last event; write into them to go somewhere else."""
        return self._h[self._a], self._c[self._a]

    def set_texture(self, index: int) -> None:
        """What the performer is asked to be, an index of `vocabulary.TEXTURES`."""
        self._event["texture"][...] = index

    def set_part(self, index: int) -> None:
        """Which part it is asked to play, an index of `vocabulary.PARTS`."""
        self._event["part"][...] = index

    def set_bar(self, bar_line: int, bar: int) -> None:
        """Where the bar lines lie: one at the tick `bar_line`, the next `bar` ticks later; 0 ticks where the metre is not known."""
        self._bar = bar_line, bar

    def clear(self) -> None:
        """Forget everything but the texture, the part and the metre."""
        for x in (*self.conditions.values(), self.sounding, self.next_sounding, *self._h, *self._c):
            x[...] = 0.0

    def step(self, event: NoteEvent, tick: int) -> None:
        """Take the last event, whose onset is at `tick`; writes `dt_logits` and the state after it, keeps the state before it."""
        inputs = self._event
        inputs["dt"][0, 0], inputs["pitch"][0, 0], inputs["duration"][0, 0] = event
        inputs["phase"][0, 0] = tick % v.N_PHASE
        inputs["bar"][0, 0], inputs["metre"][0, 0] = v.bar_place(tick, *self._bar)
        self._next["last"][0, 0] = event.pitch
        self._run_step[self._a]()

    def swap(self) -> None:
        """Accept the last step: its state becomes the state."""
        self._a = 1 - self._a

    def run_pitch(self, dt: int, onset: int) -> None:
        """Say when the next note comes; writes `pitch_logits`."""
        self._next["dt"][0, 0] = v.fold(dt)
        self._next["phase"][0, 0] = onset % v.N_PHASE
        self._next["bar"][0, 0] = v.bar_place(onset, *self._bar)[0]
        self._run_pitch()

    def run_duration(self, pitch: int) -> None:
        """Say which pitch it has (after `run_pitch`); writes `duration_logits`."""
        self._next["pitch"][0, 0] = pitch
        self._run_duration()
