"""The network of the zoo as a stepping machine: three ONNX graphs on fixed arrays, state swapped A/B.

``step`` takes the last event and gives the logits of the next dt; the heads of pitch and duration are asked once the choice before them
is made. Nothing is copied and nothing is made per run: ONNX Runtime is bound to these very arrays.
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
    chroma : float32 (13,)
        The condition, an input of `step` and `run_pitch`; write into it.
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

        self._event = ints("dt", "pitch", "duration", "phase", "texture")
        self._next = ints("dt", "phase", "pitch")
        self._chroma = floats(1, 1, v.N_CHROMA)
        self._h = [floats(n_layers, 1, hidden) for _ in range(2)]
        self._c = [floats(n_layers, 1, hidden) for _ in range(2)]
        dt, pitch, duration = floats(1, 1, v.N_DT), floats(1, 1, v.N_PITCH), floats(1, 1, v.N_DURATION)
        self.dt_logits, self.pitch_logits, self.duration_logits, self.chroma = dt[0, 0], pitch[0, 0], duration[0, 0], self._chroma[0, 0]
        features = {"features": floats(1, 1, hidden)}
        when = {k: self._next[k] for k in ("dt", "phase")}

        def bind(part: str, inputs: dict[str, _Array], outputs: dict[str, _Array]) -> Callable[[], None]:
            zoo.expect(*loaded[part], inputs, outputs)
            return zoo.bind(sessions[part], inputs, outputs)

        sessions = {part: zoo.open_session(p) for part, (p, _) in loaded.items()}
        self._run_step = [
            bind(
                "step",
                self._event | {"chroma": self._chroma, "h": self._h[a], "c": self._c[a]},
                {"dt_logits": dt} | features | {"h_out": self._h[1 - a], "c_out": self._c[1 - a]},
            )
            for a in (0, 1)
        ]
        self._run_pitch = bind("pitch", features | when | {"chroma": self._chroma}, {"pitch_logits": pitch})
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

    def clear(self) -> None:
        """Forget everything but the texture."""
        self._chroma[...] = 0.0
        for x in (*self._h, *self._c):
            x[...] = 0.0

    def step(self, event: NoteEvent, tick: int) -> None:
        """Take the last event, whose onset is at `tick`; writes `dt_logits` and the state after it, keeps the state before it."""
        inputs = self._event
        inputs["dt"][0, 0], inputs["pitch"][0, 0], inputs["duration"][0, 0] = event
        inputs["phase"][0, 0] = tick % v.N_PHASE
        self._run_step[self._a]()

    def swap(self) -> None:
        """Accept the last step: its state becomes the state."""
        self._a = 1 - self._a

    def run_pitch(self, dt: int, onset: int) -> None:
        """Say when the next note comes; writes `pitch_logits`."""
        self._next["dt"][0, 0] = v.fold(dt)
        self._next["phase"][0, 0] = onset % v.N_PHASE
        self._run_pitch()

    def run_duration(self, pitch: int) -> None:
        """Say which pitch it has (after `run_pitch`); writes `duration_logits`."""
        self._next["pitch"][0, 0] = pitch
        self._run_duration()
