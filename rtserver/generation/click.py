"""The click: the beats of the musical clock as notes, and bars that are counted in before it runs. Pure.

A click is a note of part ``click``, committed once, when it falls due within the horizon. Between two epochs of the transport, beats come
one after the other and none twice. After a jump they come as the new line has them, but for one that would follow the last click by less
than half of what two clicks lie apart: that one has been heard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rtserver.config.click import PART
from rtserver.events import Note
from rtserver.generation.metre import NEAR, Metre
from rtserver.node import Emit
from rtserver.transport import Transport

FIRST_NOTE_ID = 1 << 50  # above those of cues and below those of performers: two for each frame, one a deck
LENGTH_S = 0.05  # of a note; drums take no notice
SNAP = 0.125  # quarters: half of the shortest value that somebody is likely to enter on
BETWEEN = 0.6  # velocity of what lies between beats, as a share of a beat's


@dataclass(frozen=True)
class Strokes:
    """How clicks sound: MIDI pitches and velocities of a beat and of a bar line, channel 0..15."""

    pitch: int = 77
    accent_pitch: int = 76
    velocity: int = 90
    accent_velocity: int = 120
    channel: int = 9


class Walk:
    """The beats along a transport, each once."""

    def __init__(self, transport: Transport, metre: Metre, stop: float = math.inf) -> None:
        self.transport, self.metre, self.stop = transport, metre, stop
        self._epoch = -1
        self._from = 0.0
        self._jumped = False  # since the last beat

    def due(self, frame: int, horizon_frames: int, parts: int, whole_until: float) -> Iterator[tuple[int, float, bool]]:
        """(due frame, quarter, whether the clock has jumped since the one before) of what is due before `frame` + `horizon_frames`.

        Before quarter `whole_until` only whole beats count, whatever `parts`.
        """
        transport = self.transport
        if not transport.running:
            self._epoch = -1
            return
        if transport.epoch != self._epoch:  # what lies before the present, or before the line, is none of its beats
            self._epoch, self._from, self._jumped = transport.epoch, transport.quarter_at(max(frame, transport.frame)), True
        while True:
            quarter = self.metre.next_beat(self._from, 1 if self._from < whole_until - NEAR else parts)
            at = transport.frame_of(quarter)
            if quarter > self.stop - NEAR or at >= frame + horizon_frames:
                return
            self._from = quarter + 2 * NEAR
            yield at, quarter, self._jumped
            self._jumped = False


class Click:
    """Clicks at the beats of `transport`, and count-ins.

    Parameters
    ----------
    transport : Transport
        The musical clock; driven by somebody else.
    metre : Metre
    strokes : Strokes
    enabled : bool
        Whether beats are clicked while the transport runs; count-ins are in any case.
    subdivision : int
        Clicks a beat.
    deck : int
        Of the song, so that no two clicks have the same id.

    Attributes
    ----------
    starts_at : float
        The quarter before which nobody plays: what lies before it is counted in. Minus infinity where nothing is.
    n_committed, n_late, n_near : int
        Clicks emitted; left out because they were past when the clock told of them; left out because they had just been heard.
    """

    def __init__(
        self,
        transport: Transport,
        metre: Metre,
        strokes: Strokes = Strokes(),
        *,
        enabled: bool = False,
        subdivision: int = 1,
        deck: int = 0,
    ) -> None:
        self.transport, self.metre, self.strokes = transport, metre, strokes
        self.enabled, self.subdivision = enabled, subdivision
        self.starts_at = -math.inf
        self.n_committed = self.n_late = self.n_near = 0
        self._id = FIRST_NOTE_ID + deck
        self._walk = Walk(transport, metre)
        self._count: Walk | None = None
        self._last: int | None = None  # due frame of the last click

    def start(self, frame: int, n_bars: int = 0, quarter: float = 0.0) -> None:
        """Start the transport at `frame`: `n_bars` whole bars are counted before the bar of `quarter`, and its part before `quarter`."""
        self._count = None
        self.starts_at = quarter
        self.transport.start(frame, _entry(self.metre.regular_at(quarter), quarter, n_bars))

    def count_in(self, frame: int, n_bars: int, quarter: float, tempo_bpm: float) -> None:
        """Count in from `frame` on for somebody who comes in at `quarter`, while the transport stands. It ends when the transport runs.

        Who stands a little beside a beat, as followers and clocks that have stopped do, comes in on the beat.
        """
        beat = self.metre.next_beat(quarter - SNAP)
        quarter = beat if beat <= quarter + SNAP else quarter
        metre = self.metre.regular_at(quarter)
        clock = Transport(self.transport.sample_rate, tempo_bpm)
        clock.start(frame, _entry(metre, quarter, n_bars))
        self._count = Walk(clock, metre, stop=quarter)

    def reset(self) -> None:
        """Forget a count-in. Ids go on, for they are frames."""
        self._count = None
        self.starts_at = -math.inf

    def advance(self, frame: int, horizon_frames: int, emit: Emit) -> None:
        """Commit every click due in [frame, frame + horizon_frames). Call it at least once a horizon; at the same frames, the same clicks.

        Parameters
        ----------
        frame : int
            The present session frame; becomes `available_frame` of the notes.
        horizon_frames : int
            How far ahead of their due frames clicks are committed.
        emit : callable
            Takes each `Note`.
        """
        if self.transport.running:
            self._count = None
        elif self._count is not None:
            for at, quarter, jumped in self._count.due(frame, horizon_frames, 1, 0.0):
                self._strike(self._count, at, quarter, jumped, frame, emit)
        for at, quarter, jumped in self._walk.due(frame, horizon_frames, self.subdivision, self.starts_at):
            if self.enabled or quarter < self.starts_at - NEAR:
                self._strike(self._walk, at, quarter, jumped, frame, emit)

    def _strike(self, walk: Walk, at: int, quarter: float, jumped: bool, frame: int, emit: Emit) -> None:  # noqa: PLR0917
        transport, metre, strokes = walk.transport, walk.metre, self.strokes
        apart = metre.bar_at(quarter).beat / self.subdivision * transport.frames_per_quarter
        if at < frame:
            self.n_late += 1
            return
        if self._last is not None and (at <= self._last or (jumped and at - self._last < 0.5 * apart)):
            self.n_near += 1
            return
        if metre.is_line(quarter):
            pitch, velocity = strokes.accent_pitch, strokes.accent_velocity
        else:
            whole = abs(metre.next_beat(quarter) - quarter) <= NEAR
            pitch, velocity = strokes.pitch, strokes.velocity if whole else max(1, round(BETWEEN * strokes.velocity))
        duration = round(min(LENGTH_S * transport.sample_rate, 0.5 * apart))
        self._last = at
        self.n_committed += 1
        emit(Note(at, frame, self._id + 2 * at, pitch, velocity, duration, strokes.channel, PART))


def _entry(metre: Metre, quarter: float, n_bars: int) -> float:
    """Where the counting of `n_bars` begins."""
    if n_bars == 0:
        return quarter
    bar = metre.bar_at(quarter)
    return bar.start - n_bars * bar.length
