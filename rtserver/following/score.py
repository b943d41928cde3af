"""A score as arrays: what the follower needs, and nothing that has to be parsed again.

Parsing is slow and may fail, so it happens ahead of time and in a process of its own: `load_score` and `Score.to_npz` there,
`Score.from_npz` wherever the follower lives.

Three axes
----------
written quarter : quarters from the first sounding note of the score as printed.
quarter : quarters from the first sounding note of the score as unfolded, every repeat and ending played (the *maximal* unfolding).
    Every position that rtserver reports is on this axis.
beat : the same in the beats of the metre (quavers in 6/8), 0 at the first full bar's downbeat, so that a pick-up is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from rtserver.errors import ScoreError

if TYPE_CHECKING:
    from rtserver.following.onsets import Onsets
    from rtserver.following.places import Place

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

FORMAT_VERSION = 2
# Without a tempo mark or a word a score says nothing of its speed: 120 quarters a minute, as the MIDI file standard has it.
DEFAULT_TEMPO_BPM = 120.0
TEXTS = ("parts", "warnings", "bar_text", "mark_text", "hint_text")  # fields that are tuples of str


@dataclass(frozen=True, slots=True, eq=False)
class Notes:
    """Notes sorted by onset, then pitch; all arrays are ``(n_notes,)``. A grace note has duration 0; tied notes are one note.

    Attributes
    ----------
    onset_quarter, duration_quarter : float64, quarters.
    pitch : int32, sounding MIDI pitch (transposing instruments are at concert pitch).
    part : int32, index into `Score.parts`.
    """

    onset_quarter: Floats
    duration_quarter: Floats
    pitch: Ints
    part: Ints

    def __len__(self) -> int:
        return len(self.onset_quarter)

    @property
    def is_grace(self) -> Bools:
        """Bool (n_notes,): a grace note, at the onset of the note that it ornaments."""
        return self.duration_quarter == 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Unfolding:
    """One way through the repeats: the stretches of the maximal unfolding that are played, in order.

    Attributes
    ----------
    name : str
        What is skipped, for people.
    stretches : float64 (n_stretches, 2)
        Start and end of each stretch on the maximal unfolding's quarter axis.
    """

    name: str
    stretches: Floats

    @property
    def length_quarter(self) -> float:
        """Quarters from its first sounding note to its end."""
        return float(np.sum(self.stretches[:, 1] - self.stretches[:, 0]))

    def to_maximal(self, quarter: npt.ArrayLike) -> Floats:
        """Quarters of this unfolding (any shape) as quarters of the maximal unfolding; beyond either end it runs on at the same rate."""
        lengths = self.stretches[:, 1] - self.stretches[:, 0]
        starts = np.concatenate(([0.0], np.cumsum(lengths)[:-1]))
        q = np.asarray(quarter, np.float64)
        k = np.maximum(np.searchsorted(starts, q, side="right") - 1, 0)
        return self.stretches[k, 0] + q - starts[k]


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A parsed score. Build it with `load_score` or `from_npz`.

    Attributes
    ----------
    title : str
    parts : tuple of str
        Names of the parts.
    notes : Notes
        As unfolded maximally, on the quarter axis.
    written : Notes
        As printed, on the written quarter axis.
    segments : float64 (n_segments, 3)
        The maximal unfolding: written start, written end, unfolded start of each stretch, in quarters.
    skips : float64 (n_skips, 2)
        Quarters (source, target): a player who leaves a repeat out goes from source straight to target.
    tempo_quarter, tempo_bpm : float64 (n_tempi,)
        Nominal tempo from each quarter on, in quarters a minute. The first holds from the start.
    beat_quarter, beat : float64 (n,)
        Knots of the piecewise linear beat map.
    bar_quarter, bar_number : (n_bars,)
        Where each bar starts, and its number as printed.
    warnings : tuple of str
        What could not be taken from the file as it stands; to be shown to the user.
    nodes : float64 (n_nodes, 2)
        The folded score: written start and end of each stretch between signs, in order, in written quarters.
    edges : int32 (n_edges, 3)
        Where a player may go on after a node: (from, to, index into `repeats.EDGES`).
    stretch_node : int32 (n_segments,)
        The node of each stretch of `segments`.
    bar_text : tuple of str (n_bars,)
        The bars' numbers as printed, ``"12a"`` allowed.
    bar_into : float64 (n_bars,)
        Quarters that `bar_quarter` lies into its bar: above 0 in a pick-up, and where a stretch begins within a bar.
    metre_quarter : float64 (n_metres,); metre : int32 (n_metres, 2)
        Time signatures: beats and beat type.
    key_quarter : float64 (n_keys,); key : int32 (n_keys, 2)
        Key signatures: fifths, sharps above 0, and mode (0 major, 1 minor, -1 unknown).
    mark_quarter : float64 (n_marks,); mark_text : tuple of str
        Rehearsal marks (MIDI: markers).
    fermata_quarter : float64 (n_fermatas,)
        Onsets of notes, or bar lines, with a fermata.
    ornament_quarter, ornament_pitch, ornament_kind : float64, int32, int32 (n_ornaments,)
        Notes with an ornament; the kind indexes `written.ORNAMENTS`.
    hint_quarter, hint_kind : float64, int32 (n_hints,); hint_text : tuple of str
        Words about tempo; the kind indexes `written.HINTS`. They change no tempo, but that of a score without any tempo mark.
    tuning_hz : float
        A4 of the instrument that plays, cents included.
    """

    title: str
    parts: tuple[str, ...]
    notes: Notes
    written: Notes
    segments: Floats
    skips: Floats
    tempo_quarter: Floats
    tempo_bpm: Floats
    beat_quarter: Floats
    beat: Floats
    bar_quarter: Floats
    bar_number: Ints
    warnings: tuple[str, ...] = ()
    nodes: Floats = field(default_factory=lambda: np.empty((0, 2)))
    edges: Ints = field(default_factory=lambda: np.empty((0, 3), np.int32))
    stretch_node: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    bar_text: tuple[str, ...] = ()
    bar_into: Floats = field(default_factory=lambda: np.zeros(0))
    metre_quarter: Floats = field(default_factory=lambda: np.zeros(1))
    metre: Ints = field(default_factory=lambda: np.array([[4, 4]], np.int32))
    key_quarter: Floats = field(default_factory=lambda: np.zeros(0))
    key: Ints = field(default_factory=lambda: np.empty((0, 2), np.int32))
    mark_quarter: Floats = field(default_factory=lambda: np.zeros(0))
    mark_text: tuple[str, ...] = ()
    fermata_quarter: Floats = field(default_factory=lambda: np.zeros(0))
    ornament_quarter: Floats = field(default_factory=lambda: np.zeros(0))
    ornament_pitch: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    ornament_kind: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    hint_quarter: Floats = field(default_factory=lambda: np.zeros(0))
    hint_kind: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    hint_text: tuple[str, ...] = ()
    tuning_hz: float = 440.0

    @property
    def length_quarter(self) -> float:
        """Quarters from the first onset to the last release."""
        return float(np.max(self.notes.onset_quarter + self.notes.duration_quarter))

    def seconds_at(self, quarter: npt.ArrayLike) -> Floats:
        """Nominal seconds from the first sounding note at `quarter` (any shape)."""
        starts = _tempo_starts(self)
        q = np.asarray(quarter, np.float64)
        k = np.maximum(np.searchsorted(self.tempo_quarter, q, side="right") - 1, 0)
        return starts[k] + (q - self.tempo_quarter[k]) * 60.0 / self.tempo_bpm[k]

    def quarter_at(self, seconds: npt.ArrayLike) -> Floats:
        """The quarter at nominal `seconds` (any shape): the inverse of `seconds_at`."""
        starts = _tempo_starts(self)
        s = np.asarray(seconds, np.float64)
        k = np.maximum(np.searchsorted(starts, s, side="right") - 1, 0)
        return self.tempo_quarter[k] + (s - starts[k]) * self.tempo_bpm[k] / 60.0

    def beat_at(self, quarter: npt.ArrayLike) -> Floats:
        """Beats of the metre at `quarter` (any shape); outside the score the metre goes on."""
        x, y, q = self.beat_quarter, self.beat, np.asarray(quarter, np.float64)
        k = np.clip(np.searchsorted(x, q, side="right") - 1, 0, len(x) - 2)
        return y[k] + (q - x[k]) * (y[k + 1] - y[k]) / (x[k + 1] - x[k])

    def bar_at(self, quarter: float) -> int:
        """Number, as printed, of the bar that holds `quarter`."""
        k = max(int(np.searchsorted(self.bar_quarter, quarter + 1e-9, side="right")) - 1, 0)
        return int(self.bar_number[k])

    def place_at(self, quarter: float) -> Place:
        """Where `quarter` is, for people: bar, beat, rehearsal mark, and for the how many-th time. Any quarter has a place."""
        from rtserver.following.places import place_at

        return place_at(self, quarter)

    def quarter_of_bar(self, number: int | str, beat: float = 1.0, time: int = 1) -> float:
        """The quarter of a bar's beat (both counted from 1) where it is played for the `time`-th time. Raises `ScoreError`."""
        from rtserver.following.places import quarter_of_bar

        return quarter_of_bar(self, number, beat, time)

    def quarter_of_mark(self, text: str, time: int = 1) -> float:
        """The quarter of a rehearsal mark where it is passed for the `time`-th time. Raises `ScoreError`."""
        from rtserver.following.places import quarter_of_mark

        return quarter_of_mark(self, text, time)

    def events(self) -> Onsets:
        """The score as a list of moments at which something begins."""
        from rtserver.following.onsets import onsets_of

        return onsets_of(self)

    def to_npz(self, path: str | PathLike[str]) -> None:
        """Write everything to `path` as plain numpy arrays (no pickle)."""
        arrays: dict[str, npt.NDArray[np.generic]] = {"version": np.array(FORMAT_VERSION)}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Notes):
                arrays |= {f"{f.name}.{g.name}": getattr(value, g.name) for g in fields(value)}
            else:
                arrays[f.name] = np.array(value, np.str_) if isinstance(value, str | tuple) else np.asarray(value)
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @staticmethod
    def from_npz(path: str | PathLike[str]) -> Score:
        """Read what `to_npz` wrote. Raises `ScoreError` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as data:
                if int(data["version"]) != FORMAT_VERSION:
                    raise ScoreError(
                        f"{path}: parsed score of format {int(data['version'])}, expected {FORMAT_VERSION}: parse the score again"
                    )
                notes = {name: Notes(*(data[f"{name}.{f.name}"] for f in fields(Notes))) for name in ("notes", "written")}
                texts = {name: tuple(str(text) for text in data[name]) for name in TEXTS}
                single = {"title": str(data["title"]), "tuning_hz": float(data["tuning_hz"])}
                rest = {f.name: data[f.name] for f in fields(Score) if f.name not in {*notes, *texts, *single}}
                return Score(**single, **notes, **texts, **rest)  # pyright: ignore[reportArgumentType]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ScoreError(f"{path}: not a parsed score ({error}): write it with Score.to_npz") from error


def unfoldings(score: Score, limit: int = 8) -> list[Unfolding]:
    """The plausible ways through the repeats, most plausible first, at most `limit`.

    Every repeat taken; every repeat left out; each repeat alone left out; then pairs, and so on.
    """
    n = len(score.skips)
    subsets = sorted(range(2 ** min(n, 10)), key=lambda bits: (bits != 0, bits != 2 ** min(n, 10) - 1, bits.bit_count(), bits))
    found: list[Unfolding] = []
    for bits in subsets:
        taken = [k for k in range(n) if (bits >> k) & 1]
        stretches: list[tuple[float, float]] = []
        start, used = 0.0, 0
        for k in taken:
            source, target = (float(q) for q in score.skips[k])
            if source < start:  # lies in what an earlier skip has left out
                continue
            stretches.append((start, source))
            start, used = target, used + 1
        if used != len(taken):
            continue
        stretches.append((start, score.length_quarter))
        name = "every repeat" if not taken else "without repeat " + ", ".join(str(k + 1) for k in taken)
        found.append(Unfolding(name, np.array(stretches, np.float64)))
        if len(found) == limit:
            break
    return found


def _tempo_starts(score: Score) -> Floats:
    """Nominal seconds at which each tempo begins; 0 at quarter 0."""
    steps = np.diff(score.tempo_quarter) * 60.0 / score.tempo_bpm[:-1]
    starts = np.concatenate(([0.0], np.cumsum(steps)))
    return starts + score.tempo_quarter[0] * 60.0 / score.tempo_bpm[0]


def load_score(
    path: str | PathLike[str],
    parts: Sequence[str | int] = (),
    *,
    tuning_hz: float = 440.0,
    transpose: int = 0,
    cents: float = 0.0,
) -> Score:
    """Parse a score: MusicXML, MIDI, or what partitura reads besides (`parse.SUFFIXES`).

    Slow (a second for a long movement); never call it in the live path.

    Parameters
    ----------
    parts
        Names, or numbers from 1, of the parts to follow; empty: all.
    tuning_hz
        A4 of the instrument.
    transpose, cents
        By how much the instrument sounds above the notation at concert pitch: a capo, another tuning. Semitones are added to the pitches,
        cents to `Score.tuning_hz`.

    Raises
    ------
    ScoreError
        Says what is wrong with the file, what was expected, and what to do.
    """
    from rtserver.following.parse import parse, tuned

    score = parse(Path(path), tuple(parts))
    return score if (tuning_hz, transpose, cents) == (440.0, 0, 0.0) else tuned(score, tuning_hz, transpose, cents)
