"""The parts that HPSS is held against: of the stems of a clip, and of nothing else that lies beside them."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "models"))  # the clips that its tests make

from hpss_quality import load  # noqa: E402
from stemclips import RATE, stems, write  # noqa: E402


def test_the_parts_of_a_clip_are_its_drums_and_the_sum_of_the_rest(tmp_path: Path) -> None:
    sounds = stems(1.0, 0)
    truth, rate = load(write(tmp_path / "made_a", sounds))
    assert rate == RATE
    np.testing.assert_array_equal(truth["percussive"], sounds["drums"])
    np.testing.assert_allclose(truth["harmonic"], sounds["bass"] + sounds["other"] + sounds["vocals"], atol=1e-6)


def test_a_mixture_beside_the_stems_is_none_of_them(tmp_path: Path) -> None:
    with_it, without = (load(write(tmp_path / name, stems(1.0, 0), mixture=name == "with"))[0] for name in ("with", "without"))
    np.testing.assert_array_equal(with_it["harmonic"], without["harmonic"])


def test_a_clip_without_drums_is_named(tmp_path: Path) -> None:
    clip = write(tmp_path / "made_a", {"bass": stems(1.0, 0)["bass"]})
    with pytest.raises(SystemExit, match="made_a: expected drums and at least one other stem"):
        load(clip)
