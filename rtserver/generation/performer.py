"""The performer: a recurrent network over note events that is told what was played and asked what comes next.

`feed` tells, `query` asks; a query changes nothing but the dice, so a plan can be dropped at no cost. About 0.1 ms per sampled event on
one core, see `benchmarks/performer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserver import zoo
from rtserver.errors import ConfigError
from rtserver.generation import vocabulary as v
from rtserver.generation.constraints import Constraints, Mask
from rtserver.generation.note_network import CONDITIONS, OPTIONAL, NoteNetwork
from rtserver.generation.sampling import draw
from rtserver.generation.vocabulary import Float, NoteEvent

FIRST = NoteEvent(0, v.START, v.UNKNOWN_DURATION)
_NOTHING = {k: np.zeros(n, np.float32) for k, n in CONDITIONS.items()}
SAFE_PITCH = 60  # middle C, where there is nothing else to go by
STEEPEST = 3.0  # of steering: e to its power is what an octave, or half the waiting, is made likelier by
_OCTAVES = (np.arange(v.N_PITCH, dtype=np.float32) - SAFE_PITCH) / 12.0
_SOONER = -np.log2(1.0 + np.arange(v.N_DT, dtype=np.float32)).astype(np.float32)

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Snapshot:
    """All that `Performer.restore` needs to go on as if nothing had happened since."""

    h: Float
    c: Float
    conditions: dict[str, Float]
    last: NoteEvent
    tick: int
    sounding: tuple[tuple[int, int], ...]
    heard: tuple[tuple[int, int], ...]
    dice: dict[str, Any]


class Performer:
    """Samples notes one by one within hard constraints. Same seed and same calls, same notes.

    Parameters
    ----------
    model : str
        Name in the zoo.
    seed : int
        Seed of the object's own random generator.
    temperature : float or (float, float, float)
        Of dt, pitch and duration; 1 is the network's own opinion, lower is safer, 0 always takes the likeliest.
    top_p : float or (float, float, float)
        Draw among the likeliest choices that together have this probability (Holtzman et al. 2020, nucleus sampling).
    texture : str
        "line" (one voice), "chords" (a keyboard), or "unknown": as the music so far suggests.
    part : str
        Which part of the whole it plays: "upper", "inner", "lower", "all", or "unknown", the only choice for a model that knows no parts.
    folder : Path
        Where the zoo is.

    Raises
    ------
    ModelError
        The files are missing, altered, or not of the note vocabulary.
    ConfigError
        A parameter is out of range.

    Attributes
    ----------
    tick : int
        Onset of the last event that was fed, in ticks of 1/24 quarter; `query` counts its dt from here.
    last : NoteEvent
        The last event that was fed; its pitch is `vocabulary.START` where there is none.
    n_nan : int
        How often the network's output was not finite; its memory was then cleared and a safe note chosen.
    n_waits : int
        How often no onset within `max_dt` was left: a voice was busy, or the present had moved on. The performer then waited longer.
    """

    def __init__(
        self,
        model: str = "performer",
        seed: int = 0,
        *,
        temperature: float | Three = 1.0,
        top_p: float | Three = 1.0,
        texture: str = "unknown",
        part: str = "unknown",
        folder: Path = zoo.FOLDER,
    ) -> None:
        if texture not in v.TEXTURES:
            raise ConfigError("texture", f"expected one of {', '.join(v.TEXTURES)}, got {texture!r}")
        if part not in v.PARTS:
            raise ConfigError("part", f"expected one of {', '.join(v.PARTS)}, got {part!r}")
        self.set_sampling(temperature, top_p)
        self.steer()
        self.seed = seed
        self.network = NoteNetwork(model, folder)
        self.network.set_texture(v.TEXTURES.index(texture))
        self._deaf = OPTIONAL - self.network.takes
        if part != "unknown":
            self._need("part")
        self.network.set_part(v.PARTS.index(part))
        self.reset()

    def set_bar(self, bar_line: int, bar: int) -> None:
        """Where the bar lines lie: one at the tick `bar_line`, the next `bar` ticks later. Without effect on a model that knows no bars."""
        self.network.set_bar(bar_line, bar)
        self._stepped = False

    def reset(self) -> None:
        """As new: nothing heard, the dice as seeded, counters at zero."""
        self.n_nan = 0
        self.n_waits = 0
        self.tick = 0
        self.last = FIRST
        self._sounding: list[tuple[int, int]] = []  # (release tick, pitch) of own notes
        self._heard: list[tuple[int, int]] = []  # the same of all that was fed: what the network is told is down
        self._unheard = set(CONDITIONS)  # those that are known to be absent
        self._stepped = False  # whether the network has taken `last`, at `tick`, with the present condition
        self._dice = np.random.default_rng(self.seed)
        self.network.clear()

    def set_sampling(self, temperature: float | Three, top_p: float | Three) -> None:
        """How boldly to draw, from the next query on. Raises `ConfigError`."""
        self.temperature = _three("temperature", temperature, 10.0)
        self.top_p = _three("top_p", top_p, 1.0)

    def steer(self, higher: float = 0.0, sooner: float = 0.0) -> None:
        """Lean the odds, whatever the model was trained with, from the next query on: exponential tilting of its distributions.

        Parameters
        ----------
        higher : float
            Each octave up is likelier by ``exp(higher)``; -3 to 3.
        sooner : float
            Each halving of the wait for the next onset is likelier by ``exp(sooner)``; -3 to 3.

        Raises
        ------
        ConfigError
        """
        for name, value in (("higher", higher), ("sooner", sooner)):
            if not abs(value) <= STEEPEST:
                raise ConfigError(name, f"expected -{STEEPEST:g} to {STEEPEST:g}, got {value:g}")
        self.higher, self.sooner = higher, sooner

    def seek(self, tick: int, sounding: list[tuple[int, int]] | None = None) -> None:
        """Say anew where the last onset lies, after a jump of the musical clock. The memory stays.

        sounding : (release tick, pitch) of own notes that are still down, on the new axis; None keeps what is known.
        """
        self.tick = tick
        self._stepped = False
        if sounding is not None:
            self._sounding = list(sounding)
            self._heard = list(sounding)

    def feed(self, event: NoteEvent, sounding: bool = True) -> None:
        """Tell the performer that `event` was played, or will be. At most one run of the network.

        `event.dt` may exceed 96: the network then sees it folded. `sounding` = False for notes of others: they are history, but take no
        voice. A note of unknown duration (0) takes none either.
        """
        if not 0 <= event.pitch < v.N_PITCH or event.dt < 0 or event.duration < 0:
            raise ValueError(f"expected a note with dt >= 0, a pitch of 0..127 and a duration >= 0, got {event}")
        if not self._stepped:
            self._step()
        self.network.swap()
        self._stepped = False
        self.tick += event.dt
        self.last = NoteEvent(v.fold(event.dt), event.pitch, min(event.duration, v.MAX_DURATION))
        self._sounding = [s for s in self._sounding if s[0] > self.tick]
        if sounding and event.duration > 0:
            self._sounding.append((self.tick + event.duration, event.pitch))
        self._heard = [s for s in self._heard if s[0] > self.tick]
        self._heard.append((self.tick + (self.last.duration or v.TICKS_PER_QUARTER), event.pitch))  # a key still held: a quarter, say

    def query(
        self,
        constraints: Constraints,
        condition: Float | None = None,
        earliest: int | None = None,
        dt: int | None = None,
        *,
        ahead: Float | None = None,
        controls: Float | None = None,
    ) -> NoteEvent:
        """Ask for the next note; feed it (or another) to go on, or ask again.

        Parameters
        ----------
        constraints : Constraints
            Kept always.
        condition : float32 (13,) or None
            What is heard, see `vocabulary.condition`. None: nobody to listen to.
        earliest : int or None
            The onset may not come before this tick.
        dt : int or None
            Ask only for pitch and duration of a note that comes after `dt` ticks: one whose dt an earlier query has drawn.
        ahead : float32 (25,) or None
            What is known to come, see `vocabulary.ahead`. For a model that takes it.
        controls : float32 (4,) or None
            Density and register that are asked for, see `vocabulary.controls`. For a model that takes them.

        Returns
        -------
        NoteEvent
            Its `dt` exceeds `max_dt` only where keys still down or `earliest` leave nothing else.

        Raises
        ------
        ConfigError
            Something is asked for that the model was not trained with.
        """
        self._listen(condition, ahead, controls)
        if not self._stepped:
            self._step()
            self._stepped = True
        u: list[float] = self._dice.random(3).tolist()
        network, heads = self.network, zip(self.temperature, self.top_p, u, strict=True)
        finite = True
        if dt is None:
            dt, finite = self._draw_dt(constraints, earliest, next(heads))
        else:
            next(heads)
        pitches = self._pitches(constraints, dt)
        durations = self._durations(constraints, dt)
        if finite:
            self._show(network.next_sounding, self.tick + dt)
            network.run_pitch(dt, self.tick + dt)
            logits = network.pitch_logits + self.higher * _OCTAVES if self.higher else network.pitch_logits
            pitch = draw(logits, pitches, *next(heads))
            if pitch >= 0:
                network.run_duration(pitch)
                duration = draw(network.duration_logits, durations, *next(heads))
                if duration >= 0:
                    return NoteEvent(dt, pitch, duration)
        # Not finite: the memory is lost, the music is not. Near the last pitch, for as long as the step was.
        self.n_nan += 1
        self._stepped = False
        network.clear()
        return NoteEvent(dt, _nearest(pitches, SAFE_PITCH if self.last == FIRST else self.last.pitch), _nearest(durations, max(dt, 1)))

    def circumstances(self) -> tuple[object, ...]:
        """What decides its next note beside the memory and what is asked: equal if the same will come, where nothing was fed meanwhile."""
        dice = self._dice.bit_generator.state["state"]
        return (
            *(self.last, self.tick, tuple(self._sounding), tuple(self._heard), dice["state"], dice["inc"]),
            *(self.temperature, self.top_p, self.higher, self.sooner),
        )

    def snapshot(self) -> Snapshot:
        """The whole state, a few kilobytes."""
        h, c = self.network.state
        dice = dict(self._dice.bit_generator.state)
        dice["state"] = dict(dice["state"])
        conditions = {k: x.copy() for k, x in self.network.conditions.items()}
        return Snapshot(h.copy(), c.copy(), conditions, self.last, self.tick, tuple(self._sounding), tuple(self._heard), dice)

    def restore(self, state: Snapshot) -> None:
        """Go back to a snapshot of this performer, or of another one with the same model. Counters go on."""
        h, c = self.network.state
        h[...], c[...] = state.h, state.c
        for k, x in state.conditions.items():
            self.network.conditions[k][...] = x
        self._unheard.clear()
        self.last, self.tick, self._sounding, self._heard = state.last, state.tick, list(state.sounding), list(state.heard)
        self._dice.bit_generator.state = state.dice
        self._stepped = False

    def _step(self) -> None:
        self._show(self.network.sounding, self.tick)
        self.network.step(self.last, self.tick)

    def _show(self, sounding: Float, tick: int) -> None:
        """Write which keys are down at `tick`, as far as has been fed, for a model that looks."""
        if "sounding" in self._deaf:
            return
        sounding[...] = 0.0
        for release, pitch in self._heard:
            if release > tick:
                sounding[pitch] = 1.0

    def _listen(self, condition: Float | None, ahead: Float | None, controls: Float | None) -> None:
        for name, given in (("chroma", condition), ("ahead", ahead), ("controls", controls)):
            if given is not None:
                self._need(name)
            elif name in self._deaf or name in self._unheard:
                continue
            there = self.network.conditions[name]
            if not np.array_equal(there, _NOTHING[name] if given is None else given):
                there[...] = 0.0 if given is None else given
                self._stepped = False
            (self._unheard.add if given is None else self._unheard.discard)(name)

    def _need(self, condition: str) -> None:
        """Refuse what the model would not hear."""
        if condition in self._deaf:
            known = ", ".join(sorted(self.network.takes)) or "nothing of the kind"
            raise ConfigError(condition, f"this model was trained without it and takes {known}: leave it out, or choose another model")

    def _draw_dt(self, constraints: Constraints, earliest: int | None, head: tuple[float, float, float]) -> tuple[int, bool]:
        """The next step, and whether the network's odds of it were finite."""
        releases = sorted(r for r, _ in self._sounding)
        free = releases[-constraints.voices] if len(releases) >= constraints.voices else self.tick
        chord = constraints.min_dt == 0 and bool(self._pitches(constraints, 0).any())
        mask, wait = constraints.onsets(self.tick, max(free, self.tick if earliest is None else earliest), chord)
        if not mask.any():
            self.n_waits += 1
            return wait, True
        dt = draw(self.network.dt_logits + self.sooner * _SOONER if self.sooner else self.network.dt_logits, mask, *head)
        return (dt, True) if dt >= 0 else (_nearest(mask, v.TICKS_PER_QUARTER), False)

    def _pitches(self, constraints: Constraints, dt: int) -> Mask:
        """Allowed pitches after `dt` ticks: not a key that is still down, and in a chord only above the last one."""
        allowed = constraints.pitches.copy()
        onset = self.tick + dt
        for release, pitch in self._sounding:
            if release > onset:
                allowed[pitch] = False
        if dt == 0 and self.last != FIRST:
            allowed[: self.last.pitch + 1] = False
        return allowed

    def _durations(self, constraints: Constraints, dt: int) -> Mask:
        onset = self.tick + dt
        allowed = np.zeros(v.N_DURATION, np.bool_)
        longest = constraints.longest(onset, [r for r, _ in self._sounding if r > onset])
        allowed[constraints.min_duration : longest + 1] = True
        return allowed


def _three(name: str, x: float | Three, high: float) -> Three:
    values: Three = x if isinstance(x, tuple) else (float(x), float(x), float(x))
    if len(values) != 3 or not all(0.0 <= y <= high for y in values):
        raise ConfigError(name, f"expected a number from 0 to {high:g}, or three of them (dt, pitch, duration), got {x!r}")
    return values


def _nearest(mask: Mask, wanted: int) -> int:
    allowed = np.flatnonzero(mask)
    return int(allowed[np.argmin(np.abs(allowed - wanted))])
