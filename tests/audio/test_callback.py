"""The callback's own arithmetic; the callback itself is tried live."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtserver.audio import callback
from rtserver.shared import histogram


@given(st.integers(0, 2**40))
def test_a_time_falls_into_the_same_bucket_natively(ns: int) -> None:
    assert callback.bucket(ns) == histogram.bucket(ns)
