"""One recording: a folder with what came in, what went out, and every event. Sample n of each file is session frame `first_frame` + n.

What cannot be had (the stream stood still, or the disk kept us longer than the rings last) is silence, and is told as a ``gap``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rtserver.errors import RtserverError
from rtserver.events import Event, Recording
from rtserver.recording.flac import Flac
from rtserver.recording.log import FILE_NAME, header, to_line
from rtserver.recording.wave import Wave
from rtserver.shared.ring import SampleRing
from rtserver.shared.session import Session
from rtserver.wire.sink import FileSink

MARGIN = 4096  # frames: what the writer may overwrite while we read
PIECE_S = 0.5  # what is read at a time
TOO_SLOW = "the disk was too slow"


def sources(session: Session) -> dict[str, SampleRing]:
    """What is recorded: what came in, and what went to the device, both with all its channels."""
    wanted = session.config.recording
    rings = {"input": (wanted.input, session.input_ring), "played": (wanted.played, session.played)}
    return {name: ring for name, (on, ring) in rings.items() if on}


def oldest(ring: SampleRing) -> int:
    """The first frame that can still be read with ease."""
    return max(int(ring.span[0]), ring.written_to - ring.capacity + MARGIN, 0)


def new_folder(session: Session) -> Path:
    """A folder of its own: when (UTC), and which session."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{session.block.boot_id:016x}"
    above = Path(session.config.recording.folder).expanduser()
    folder, n = above / name, 1
    while folder.exists():
        folder, n = above / f"{name}-{n}", n + 1
    folder.mkdir(parents=True)
    return folder


@dataclass
class Totals:
    """What a recording has taken so far, in frames of the first source and events."""

    n_frames: int = 0
    gap_frames: int = 0  # silence because the stream stood still
    lost_frames: int = 0  # silence because we came too late
    n_events: int = 0


class Take:
    """A recording that is going on.

    Parameters
    ----------
    session : Session
    folder : Path
        Exists.
    first_frame : int
        Session frame of sample 0.
    resume : bool
        Go on with the files of a predecessor that died.

    Notes
    -----
    Everything raises `OSError` where the disk refuses; then `close` it: what was written before is whole.
    """

    def __init__(self, session: Session, folder: Path, first_frame: int, resume: bool = False) -> None:
        self.folder, self.first_frame = folder, first_frame
        self.totals = Totals()
        self._files: list[tuple[SampleRing, Wave | Flac]] = []
        self._sink: FileSink | None = None
        settings, sample_rate = session.config.recording, session.config.audio.sample_rate
        self._piece_size = round(PIECE_S * sample_rate)
        try:
            if settings.events:
                self._sink = FileSink(folder / FILE_NAME, append=True)
                if not resume:
                    self._write(header(session, first_frame, time.time_ns()))
            for name, ring in sources(session).items():
                path, n_channels = folder / f"{name}.{settings.format}", len(ring.samples)
                kind = Flac if settings.format == "flac" else Wave
                self._files.append((ring, kind(path, sample_rate, n_channels, resume)))
        except BaseException:
            self.close()
            raise

    def send(self, event: Event, deck: int = 0) -> None:
        """Record an event that was said by or to the roles of a deck."""
        if self._sink is not None:
            self._write(event, deck)
            self.totals.n_events += 1

    def _write(self, event: Event, deck: int = 0) -> None:
        assert self._sink is not None
        if not self._sink.put(to_line(event, deck)):
            raise self._sink.error or OSError("the file is closed")

    def pump(self) -> list[Recording]:
        """Write what has come since the last call, half a second of each file at most. Returns the gaps that were left."""
        gaps: list[Recording] = []
        for i, (ring, file) in enumerate(self._files):
            frame = self.first_frame + file.n_frames
            first = oldest(ring)
            if frame < first:
                file.skip(first - frame)
                why = "the stream stood still" if frame <= int(ring.span[0]) else TOO_SLOW
                gaps.append(self._gap(file, frame, first - frame, why, counts=i == 0))
                continue
            n = min(ring.written_to - frame, self._piece_size)
            if n <= 0:
                continue
            x = np.empty((len(ring.samples), n), np.float32)
            if ring.read(frame, x):
                file.write(x)
                self.totals.n_frames += n if i == 0 else 0
        for gap in gaps:
            self.send(gap)
        return gaps

    def _gap(self, file: Wave | Flac, frame: int, n_frames: int, why: str, counts: bool) -> Recording:
        if counts and why == TOO_SLOW:
            self.totals.lost_frames += n_frames
        elif counts:
            self.totals.gap_frames += n_frames
        return Recording(frame, frame + n_frames, "gap", str(self.folder), f"{file.path.name}: {n_frames} frames of silence, {why}")

    @property
    def behind(self) -> bool:
        """Whether there is still much to write."""
        return any(ring.written_to - self.first_frame - file.n_frames >= self._piece_size for ring, file in self._files)

    def check(self) -> None:
        """Raises `OSError` if the folder or a file in it has vanished: then every write would succeed and be lost."""
        if not self.folder.is_dir() or any(file.gone for _, file in self._files) or (self._sink is not None and self._sink.gone):
            raise FileNotFoundError("the folder or a file in it has vanished")

    def close(self) -> None:
        """End every file, whatever becomes of the others. Raises the first `OSError`."""
        errors: list[OSError] = []
        for _, file in self._files:
            try:
                file.close()
            except OSError as error:
                errors.append(error)
        if self._sink is not None:
            self._sink.close()
        self._files = []
        if errors:
            raise errors[0]


def reason(error: OSError | RtserverError) -> str:
    """What a failure means, and what to do."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}; free some space or choose another recording.folder, then start the recording again"
    return str(error)
