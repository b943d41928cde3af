"""The musical clock: beats against frames, driven by a follower, by MIDI clock or by a fixed tempo."""

from __future__ import annotations

import math

from rtserver.events import Position

JUMP = 0.5  # quarters by which a fix that is taken as it is may move the clock without being a jump
LEAP = 1.0  # quarters: further off the player is somewhere else; nearer he is ahead or behind
PULL_S = 0.25  # a small error is caught up with in this time
USUAL, MOST = 0.15, 0.5  # share by which the clock runs faster or slower than the player: what passes for expression, and at most
NEAR_S = 0.05  # an error beyond which it may be more than usual: being out by so much is heard, too
GROW = 2.0  # by so much more, a second of error
WAIT_S, STAND_S = 0.1, 0.25  # so far ahead of a player who does not go on the clock begins to wait for him, and stands
TEMPO_S = 0.3  # the player's tempo is taken over in this time: a follower's estimate trembles from note to note
DRIFT_S = 0.4  # where an error lasts, the tempo is wrong: it is put right in this time
SURE = 0.5  # confidence from which on the follower is believed entirely
LEAST_TRUST = 0.2
LONGEST_STEP_S = 0.1  # between two positions that the tempo is learnt from
SLOWEST_BPM, FASTEST_BPM = 10.0, 600.0
STANDING = 1e-3  # share of the tempo at which a clock that waits still goes, so that every quarter has a frame


class Transport:
    """Maps quarters to session frames along a line (position, tempo).

    Parameters
    ----------
    sample_rate : int
        Frames per second.
    tempo_bpm : float
        Quarters a minute until something better is known.

    Attributes
    ----------
    frame, quarter : int, float
        Where the line begins.
    tempo_bpm : float
        The tempo that is played; how long notes last goes by it.
    line_bpm : float
        The tempo of the line: the same, but for what catches up with the player.
    epoch : int
        Rises at each leap and at each start, so that whoever planned ahead knows to plan anew.

    Notes
    -----
    `update` takes a fix as it is: of a clock that is even itself. `follow` takes what a follower says, which trembles, stands before each
    onset and leaps over what it noticed late. It is the input of a phase-locked loop of second order, of phase and logarithm of the tempo
    (F. M. Gardner, "Phaselock Techniques"): the line always goes on from where it is, at a speed that brings it to the player. So between
    two epochs the clock never goes back and never jumps. Both depend on their arguments alone.
    """

    def __init__(self, sample_rate: int, tempo_bpm: float = 120.0) -> None:
        self.sample_rate = sample_rate
        self.tempo_bpm = self.line_bpm = tempo_bpm
        self.quarter = 0.0
        self.frame = 0
        self.running = False
        self.epoch = 0

    def start(self, frame: int, quarter: float = 0.0) -> None:
        """Let `quarter` be at `frame` and run."""
        self.frame, self.quarter, self.running, self.line_bpm = frame, quarter, True, self.tempo_bpm
        self.epoch += 1

    def stop(self, frame: int) -> None:
        """Stand still from `frame` on, at the position reached there."""
        self.quarter, self.frame, self.running = self.quarter_at(frame), frame, False

    def update(self, frame: int, quarter: float, tempo_bpm: float) -> None:
        """Be at `quarter` at `frame`, and go on at this tempo. Starts the transport where it stood still."""
        if not self.running or abs(quarter - self.quarter_at(frame)) > JUMP:
            self.epoch += 1
        self.frame, self.quarter, self.tempo_bpm, self.line_bpm, self.running = frame, quarter, tempo_bpm, tempo_bpm, True

    def follow(self, now: int, position: Position, leapt: bool = False) -> None:
        """From frame `now` on run toward where the player is said to have been at the frame of `position`.

        Starts the transport where it stood still. It is with the player at once where he has `leapt`, or is further off than a quarter.
        """
        tempo_bpm = min(max(position.tempo_bpm, SLOWEST_BPM), FASTEST_BPM)
        error = position.quarter - self.quarter_at(position.frame)
        if not self.running or leapt or abs(error) > LEAP:
            self.frame, self.quarter, self.tempo_bpm, self.line_bpm = position.frame, position.quarter, tempo_bpm, tempo_bpm
            self.running = True
            self.epoch += 1
            return
        behind_s = error * 60.0 / self.tempo_bpm
        trust = min(max(position.confidence / SURE, LEAST_TRUST), 1.0)
        most = min(USUAL + GROW * max(abs(behind_s) - NEAR_S, 0.0), MOST)
        speed = 1.0 + min(max(trust * behind_s / PULL_S, -most), most)
        self.quarter, self.frame, since = self.quarter_at(now), now, max(now - self.frame, 0)
        if behind_s < -WAIT_S:  # who waits learns nothing of the tempo
            speed *= max((STAND_S + behind_s) / (STAND_S - WAIT_S), 0.0)
        else:
            share = trust * min(since / self.sample_rate, LONGEST_STEP_S)
            change = share * (math.log(tempo_bpm / self.tempo_bpm) / TEMPO_S + min(behind_s, WAIT_S) / DRIFT_S)
            self.tempo_bpm = min(max(self.tempo_bpm * math.exp(change), SLOWEST_BPM), FASTEST_BPM)
        self.line_bpm = self.tempo_bpm * max(speed, STANDING)

    @property
    def frames_per_quarter(self) -> float:
        """Length of a quarter at the present tempo."""
        return 60.0 * self.sample_rate / self.tempo_bpm

    def quarter_at(self, frame: float) -> float:
        """The position at session frame `frame`."""
        if not self.running:
            return self.quarter
        return self.quarter + (frame - self.frame) * self.line_bpm / (60.0 * self.sample_rate)

    def frame_of(self, quarter: float) -> int:
        """The session frame at which `quarter` is due along the line."""
        return self.frame + round((quarter - self.quarter) * 60.0 * self.sample_rate / self.line_bpm)
