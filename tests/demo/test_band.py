"""The band of the demonstration: three sounds that are always the same, and a verdict that knows when a network is worth nothing."""

import numpy as np
import pytest

from rtserver.demo.band import PEAK, STEMS, band
from rtserver.demo.stems import Stems
from rtserver.errors import SynthesisError

RATE = 48000


@pytest.fixture(scope="module")
def sounds() -> dict[str, np.ndarray]:
    try:
        return band(RATE)
    except SynthesisError as error:
        pytest.skip(str(error))


def test_its_stems_are_as_long_as_each_other_and_peak_together(sounds: dict[str, np.ndarray]) -> None:
    assert tuple(sounds) == STEMS
    assert len({x.shape for x in sounds.values()}) == 1
    assert float(np.abs(sum(sounds.values())).max()) == pytest.approx(PEAK, abs=1e-3)


def test_it_plays_for_ten_seconds_and_ends_in_silence(sounds: dict[str, np.ndarray]) -> None:
    for x in sounds.values():
        assert 9.0 < x.shape[1] / RATE < 11.0
        assert x[0, -1] == 0.0


def test_it_is_the_same_every_time(sounds: dict[str, np.ndarray]) -> None:
    again = band(RATE)
    for stem in STEMS:
        np.testing.assert_array_equal(again[stem], sounds[stem])


def verdict(network_db: float, measured: int = 896, on_time: float = 1.0) -> dict[str, bool]:
    """Name -> whether a check passes, with medians at 1 dB in every stem."""
    stems = Stems(896, measured, on_time, dict.fromkeys(STEMS, (-3.0, 1.0, network_db)), ())
    return {name: value <= limit if rule == "<=" else value >= limit for name, value, rule, limit, _ in stems.checks()}


def test_a_network_that_is_ahead_passes() -> None:
    assert all(verdict(3.0).values())


def test_a_network_that_is_no_better_than_medians_fails() -> None:
    assert [name for name, passed in verdict(1.2).items() if not passed] == [
        "stems: the network's drums ahead of the medians'",
        "stems: the network ahead of the medians, mean",
    ]


def test_another_latency_than_stated_fails() -> None:
    assert not verdict(3.0, measured=897)["stems: measured minus stated latency"]


def test_too_much_that_was_late_fails() -> None:
    assert not verdict(3.0, on_time=0.8)["stems: share of frames on time"]
