"""The embedded demonstration: a minuet, a human-like performance of it, and the truth between the two (see README.md here)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_FOLDER = Path(str(files(__name__)))  # an installed wheel is always unpacked, so the resources are plain files

SCORE = _FOLDER / "score.musicxml"
"""The score with its repeat signs: 24 measures written, 32 (96 quarters) unfolded."""

PERFORMANCE = _FOLDER / "performance.mid"
"""The piano as played, without the percussion. One tick is one millisecond."""

TRUTH = _FOLDER / "truth.csv"
"""When each score onset was played; ``segment`` counts up where the player jumps."""

RECORDING = _FOLDER / "performance.flac"
"""The performance as audio: 48 kHz, stereo, 16 bits, with reverberation and soft percussion; on the time axis of `PERFORMANCE`."""
