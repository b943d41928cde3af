"""Histograms of durations: buckets, quantiles, names."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.shared import histogram
from rtserver.shared.histogram import LOWEST, MAX_ROWS, N_BUCKETS, N_OCTAVES, Histogram, HopTimes, bucket, edge_ns
from rtserver.shared.memory import Block, Layout

WITHIN = st.integers(1 << LOWEST, (1 << (LOWEST + N_OCTAVES)) - 1)  # what has a bucket of its own


def filled(durations: list[int]) -> Histogram:
    times = Histogram()
    for ns in durations:
        times.add(ns)
    return times


def table() -> HopTimes:
    layout = Layout()
    HopTimes.declare(layout)
    return HopTimes(Block.create(layout))


@given(WITHIN)
def test_a_duration_lies_between_the_edges_of_its_bucket(ns: int) -> None:
    assert edge_ns(bucket(ns)) <= ns < edge_ns(bucket(ns) + 1)


@given(st.integers(0, N_BUCKETS - 1))
def test_a_bucket_is_no_wider_than_an_eighth_of_its_edge(index: int) -> None:
    assert edge_ns(index + 1) - edge_ns(index) <= edge_ns(index) / 8


@given(st.integers(0, 1 << 62))
def test_every_duration_has_a_bucket(ns: int) -> None:
    assert 0 <= bucket(ns) < N_BUCKETS


@given(st.lists(WITHIN, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_off_by_an_eighth_at_most(durations: list[int], q: float) -> None:
    exact = np.quantile(durations, q, method="inverted_cdf") * 1e-9
    assert 8 / 9 * exact * 0.999 <= filled(durations).quantile(q) <= 9 / 8 * exact * 1.001


@given(st.lists(st.integers(0, 1 << 40), max_size=50))
def test_nothing_is_lost(durations: list[int]) -> None:
    times = filled(durations)
    assert times.count == len(durations) == times.cumulative()[-1][1]
    assert times.sum_s == pytest.approx(sum(durations) * 1e-9)
    assert times.max_s == pytest.approx(max(durations, default=0) * 1e-9)


@given(st.lists(WITHIN, max_size=20), st.lists(WITHIN, max_size=20))
def test_the_difference_of_two_moments_is_what_came_between(before: list[int], after: list[int]) -> None:
    times = filled(before)
    earlier = times.copy()
    for ns in after:
        times.add(ns)
    assert times.since(earlier).cumulative() == filled(after).cumulative()


def test_an_empty_histogram_has_no_quantile() -> None:
    assert Histogram().quantile(0.99) == 0.0


def test_a_summary_travels() -> None:
    summary = filled([1000, 2000]).summary()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(summary)) == summary


def test_readers_find_histograms_by_name() -> None:
    times = table()
    times.claim("stft").add(1000)
    times.claim("hpss")
    times.claim("stft").add(1000)
    assert {name: h.count for name, h in times.all().items()} == {"stft": 2, "hpss": 0}


def test_a_full_table_goes_on_without_the_rest() -> None:
    times = table()
    for i in range(MAX_ROWS + 2):
        times.claim(f"node{i}").add(1000)
    assert len(times.all()) == MAX_ROWS


def test_a_new_engine_begins_with_an_empty_table() -> None:
    times = table()
    times.claim("stft").add(1000)
    times.clear()
    times.claim("hpss")
    assert {name: h.count for name, h in times.all().items()} == {"hpss": 0}


def test_a_timed_process_is_called_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times, called = table(), list[object]()
    clock = iter([1_000_000, 1_004_000])
    monkeypatch.setattr(histogram.time, "perf_counter_ns", lambda: next(clock))
    times.timed("stft", called.append)("x")
    assert called == ["x"]
    assert (times.all()["stft"].count, times.all()["stft"].sum_s) == (1, pytest.approx(4e-6))
