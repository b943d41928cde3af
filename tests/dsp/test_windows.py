import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.dsp.windows import WindowPair, check_reconstruction, window_pair
from rtserver.errors import SpecError


@given(hop=st.integers(1, 300), overlaps=st.integers(1, 4), extra=st.integers(0, 2000))
def test_pairs_reconstruct_at_every_size(hop: int, overlaps: int, extra: int) -> None:
    synthesis = 2 * hop * overlaps
    pair = window_pair(synthesis + 2 * extra, hop, synthesis)
    product = pair.analysis[2 * extra :] * pair.synthesis
    np.testing.assert_allclose(product.reshape(-1, hop).sum(axis=0), 1.0, atol=1e-5)


def test_equal_sizes_give_the_square_root_hann_pair() -> None:
    pair = window_pair(512, 256)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    np.testing.assert_allclose(pair.analysis, np.sqrt(hann), atol=1e-6)
    np.testing.assert_allclose(pair.synthesis, np.sqrt(hann), atol=1e-6)


def test_latency_is_the_overlap_of_the_synthesis_windows() -> None:
    assert window_pair(2048, 128, 256).latency == 128


@pytest.mark.parametrize(("window", "hop", "synthesis"), [(512, 300, None), (512, 128, 1024), (512, 0, None), (512, 96, 256), (511, 1, 2)])
def test_sizes_that_cannot_reconstruct_are_refused(window: int, hop: int, synthesis: int | None) -> None:
    with pytest.raises(SpecError, match="windows expect"):
        window_pair(window, hop, synthesis)


def test_a_foreign_pair_that_does_not_reconstruct_is_refused() -> None:
    hamming = np.hamming(512).astype(np.float32)
    with pytest.raises(SpecError, match="do not reconstruct"):
        check_reconstruction(WindowPair(hamming, hamming, 256))


def test_nan_in_a_window_is_refused() -> None:
    window = np.full(512, np.nan, np.float32)
    with pytest.raises(SpecError, match="do not reconstruct"):
        check_reconstruction(WindowPair(window, window, 256))
