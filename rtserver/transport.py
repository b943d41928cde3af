"""The musical clock: beats against frames, driven by a follower, by MIDI clock or by a fixed tempo."""

from __future__ import annotations


class Transport:
    """Maps quarters to session frames along the latest known line (position, tempo).

    Parameters
    ----------
    sample_rate : int
        Frames per second.
    tempo_bpm : float
        Quarters a minute until something better is known.

    Notes
    -----
    `frame_of` extrapolates from the last `update`; it never runs backwards by itself. `epoch` rises at each jump of more than half a
    quarter, so that whoever planned ahead knows to plan anew.
    """

    def __init__(self, sample_rate: int, tempo_bpm: float = 120.0) -> None:
        self.sample_rate = sample_rate
        self.tempo_bpm = tempo_bpm
        self.quarter = 0.0
        self.frame = 0
        self.running = False
        self.epoch = 0

    def start(self, frame: int, quarter: float = 0.0) -> None:
        """Let `quarter` be at `frame` and run."""
        self.frame, self.quarter, self.running = frame, quarter, True
        self.epoch += 1

    def stop(self, frame: int) -> None:
        """Stand still from `frame` on, at the position reached there."""
        self.quarter, self.frame, self.running = self.quarter_at(frame), frame, False

    def update(self, frame: int, quarter: float, tempo_bpm: float) -> None:
        """Take a new fix. Starts the transport where it stood still."""
        if not self.running or abs(quarter - self.quarter_at(frame)) > 0.5:
            self.epoch += 1
        self.frame, self.quarter, self.tempo_bpm, self.running = frame, quarter, tempo_bpm, True

    @property
    def frames_per_quarter(self) -> float:
        """Length of a quarter at the present tempo."""
        return 60.0 * self.sample_rate / self.tempo_bpm

    def quarter_at(self, frame: float) -> float:
        """The position at session frame `frame`."""
        if not self.running:
            return self.quarter
        return self.quarter + (frame - self.frame) / self.frames_per_quarter

    def frame_of(self, quarter: float) -> int:
        """The session frame at which `quarter` is due at the present tempo."""
        return self.frame + round((quarter - self.quarter) * self.frames_per_quarter)
