"""Facts about the judge of the demonstration."""

import numpy as np
import pytest

from rtserver.demo import TRUTH
from rtserver.demo.truth import Truth, judge, read_truth


@pytest.fixture
def truth():
    """Twelve quarters at two a second; after the sixth the player leaps from 6 to 20."""
    quarter = np.concatenate([np.arange(6.0), np.arange(20.0, 26.0)])
    return Truth(quarter, 1.0 + np.arange(12) / 2, np.repeat([0, 1], 6))


def follow(truth, delay_s=0.0, step_s=0.01):
    """A follower that is right, `delay_s` late."""
    time_s = np.arange(0.0, truth.time_s[-1] + 2.0, step_s)
    at = np.searchsorted(truth.time_s, time_s - delay_s, side="right") - 1
    return time_s, np.where(at < 0, -1.0, truth.quarter[np.maximum(at, 0)])


def test_a_perfect_follower_has_no_error(truth):
    accuracy = judge(truth, *follow(truth))
    assert accuracy.percentile(95) <= 0.011
    assert accuracy.within(0.02) == 1.0
    assert accuracy.relock_s[0] <= 0.011


def test_a_late_follower_is_as_late_as_it_is(truth):
    accuracy = judge(truth, *follow(truth, 0.2))
    assert accuracy.percentile(50) == pytest.approx(0.2, abs=0.011)
    assert accuracy.within(0.1) == 0.0
    assert accuracy.relock_s[0] == pytest.approx(0.2, abs=0.02)


def test_a_follower_that_does_not_leap_is_lost_and_says_so(truth):
    time_s = np.arange(0.0, 8.0, 0.01)
    accuracy = judge(truth, time_s, np.clip((time_s - 1.0) * 2, 0, None))
    assert accuracy.relock_s == [float("inf")]
    assert accuracy.lost >= 0.4
    assert accuracy.percentile(95) == float("inf")


def test_no_position_at_all_is_all_lost(truth):
    accuracy = judge(truth, np.zeros(0), np.zeros(0))
    assert accuracy.lost == 1.0
    assert accuracy.percentile(50) == float("inf")


def test_the_built_in_truth_has_one_leap():
    truth = read_truth(TRUTH)
    assert set(truth.segment) == {0, 1}
    assert (np.diff(truth.time_s) > 0).all()
