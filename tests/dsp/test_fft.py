import numpy as np
import pytest

from rtserver.dsp.fft import MAX_SIZE, MIN_SIZE, fft_plan, fold, unfold
from rtserver.errors import SpecError
from rtserver.kernels import jit

SIZES = [1 << i for i in range(MIN_SIZE.bit_length() - 1, MAX_SIZE.bit_length())]


@jit("void(float32[::1], float32[::1], float32[::1])", cache=False)
def forward(x, plan, bins):
    h = len(x) // 2
    for i in range(h):
        plan[i], plan[h + i] = x[2 * i], x[2 * i + 1]
    unfold(plan, h, bins)


@jit("void(float32[::1], float32[::1], float32[::1])", cache=False)
def inverse(bins, plan, x):
    h = len(x) // 2
    z = fold(plan, h, bins)
    for i in range(h):
        x[2 * i], x[2 * i + 1] = plan[z + h + i] / h, plan[z + i] / h


@pytest.mark.parametrize("size", SIZES)
def test_forward_is_the_transform_of_numpy(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    bins = np.zeros(size + 2, np.float32)
    forward(x, fft_plan(size), bins)
    expected = np.fft.rfft(x.astype(np.float64))
    assert np.abs(bins.view(np.complex64) - expected).max() < 4e-7 * np.abs(expected).max()


@pytest.mark.parametrize("size", SIZES)
def test_inverse_undoes_forward(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    plan, bins, back = fft_plan(size), np.zeros(size + 2, np.float32), np.zeros(size, np.float32)
    forward(x, plan, bins)
    inverse(bins, plan, back)
    np.testing.assert_allclose(back, x, atol=2e-6)


@pytest.mark.parametrize("size", [0, 8, 1000, 2 * MAX_SIZE])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(SpecError, match="power of two"):
        fft_plan(size)
