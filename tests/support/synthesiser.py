"""FluidSynth for tests that hear something: the real one, or the test is skipped and says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rtserver.following.rendered import as_midi
from rtserver.following.score import Score
from rtserver.node import Array
from rtserver.synthesis import FONTS, synthesise


def played(score: Score) -> tuple[Array, int]:
    """`score` as a piano plays it, nearly as loud as may be: (2, frames) float32 and its sample rate."""
    if shutil.which("fluidsynth") is None or not any(Path(font).exists() for font in FONTS):
        pytest.skip("fluidsynth or its sound font is not installed (make setup): nothing can be rendered")
    signal, sample_rate = synthesise(as_midi(score))
    return signal * np.float32(0.8 / np.abs(signal).max()), sample_rate
