import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rtserver.dsp.median import exchange_sorted, median_of, sorting_network
from rtserver.kernels import jit


def network_median(n: int, stride: int):
    @jit("float32(float32[::1], int64)", cache=False)
    def median(values, first):
        return median_of(values, first, stride, n)

    return median


MEDIANS = {(n, stride): network_median(n, stride) for n, stride in [(1, 1), (3, 2), (9, 1), (17, 1), (21, 3)]}
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@pytest.mark.parametrize("n", range(1, 11))
def test_network_sorts_all_zeros_and_ones(n: int) -> None:
    # Knuth's 0-1 principle: a network that sorts these sorts everything.
    for bits in itertools.product((0, 1), repeat=n):
        values = list(bits)
        for i, j in sorting_network(n):
            if values[i] > values[j]:
                values[i], values[j] = values[j], values[i]
        assert values == sorted(bits)


@pytest.mark.parametrize("size", MEDIANS)
def test_network_median_is_numpys(size: tuple[int, int]) -> None:
    n, stride = size

    @settings(max_examples=50, deadline=None)
    @given(arrays(np.float32, 2 + n * stride, elements=FLOATS))
    def check(values: np.ndarray) -> None:
        assert MEDIANS[size](values, 2) == np.median(values[2 : 2 + n * stride : stride])

    check()


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(2, 40))
def test_exchange_keeps_the_window_sorted(data: st.DataObject, n: int) -> None:
    # Few distinct values, so that equal ones are exchanged often.
    history = data.draw(arrays(np.float32, (n + 5, 3), elements=st.sampled_from([0.0, 1.0, 1.5, 7.0, 1e30])))
    rows = np.sort(history[:n], axis=0).ravel()
    for i in range(5):
        carry = history[n + i].copy()
        exchange_sorted(rows, 0, n, 3, history[i].copy(), 0, carry, 0)
        np.testing.assert_array_equal(rows.reshape(n, 3), np.sort(history[i + 1 : i + 1 + n], axis=0))
