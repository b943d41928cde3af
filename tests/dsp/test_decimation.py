"""The half-band filter that halves rates."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.decimation import N_TAPS, PASS, STOP, group_delay, half_band, halve

FREQUENCY = np.arange(4097) / 8192


def response() -> np.ndarray:
    return np.abs(np.fft.rfft(half_band(), 8192))


def test_what_is_kept_is_flat_and_what_would_fold_is_gone() -> None:
    db = 20 * np.log10(response())
    assert np.abs(db[FREQUENCY <= PASS]).max() < 0.01
    assert db[FREQUENCY >= STOP].max() < -72.0


def test_it_delays_by_a_few_samples() -> None:
    delays = group_delay(np.linspace(0.0, PASS, 50))
    assert delays.min() > 2.0
    assert delays.max() < 6.0


def test_the_declared_delay_is_that_of_a_slow_envelope() -> None:
    """A tone burst comes out with its middle that much later."""
    n = np.arange(4096)
    for f in (0.02, 0.1, 0.19):
        envelope = np.exp(-(((n - 1500) / 300.0) ** 2))
        burst = envelope * np.exp(2j * np.pi * f * n)
        power = np.abs(np.convolve(burst, half_band())[: len(n)]) ** 2
        assert abs((n @ power) / power.sum() - 1500 - group_delay(f)) < 0.05


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_every_second_output_of_the_whole_signal_however_it_comes(sizes: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(sum(sizes)).astype(np.float32)
    taps = np.ascontiguousarray(half_band()[::-1], np.float32)
    line, low = np.zeros(N_TAPS + 40, np.float32), np.zeros(300, np.float32)
    before, n_put = 0, 0
    for size in sizes:
        line[: len(line) - size] = line[size:].copy()
        line[len(line) - size :] = x[before : before + size]
        n_put += halve(line, size, before, low, len(low), taps)
        before += size
    expected = np.convolve(x, half_band())[: len(x)][1::2] if len(x) else np.zeros(0)
    assert n_put == len(expected)
    np.testing.assert_allclose(low[len(low) - n_put :], expected, atol=1e-5)
