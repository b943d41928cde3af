"""The stereo Wiener filter behind a separation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.errors import SpecError
from rtserver.node import Spec
from rtserver.separation.wiener import Wiener

N_BINS = 65
SPEC = Spec(48000, 128, (3, 2, N_BINS), np.dtype(np.complex64), ("drums", "bass", "other"))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def run(wiener: Wiener, x: np.ndarray) -> np.ndarray:
    wiener.prepare(SPEC if x.shape[1] == 3 else Spec(48000, 128, x.shape[1:], x.dtype))
    out = np.zeros_like(x)
    for k in range(len(x)):
        wiener.process(x[k], out[k])
    return out


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 30), exponent=st.integers(-40, 30))
def test_stems_add_up_at_any_level(seed: int, exponent: int) -> None:
    x = noise(10, 3, 2, N_BINS, seed=seed) * np.float32(10.0**exponent)
    out = run(Wiener(), x)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(axis=1), x.sum(axis=1), atol=1e-4 * np.abs(x).max())


def test_it_is_the_definition() -> None:
    """v R (Σ v R)⁻¹ of the mixture with recursive covariances, by numpy's inverse in double precision."""
    wiener, x = Wiener(0.05), noise(20, 3, 2, N_BINS)
    found = run(wiener, x)
    keep, sums = np.exp(-SPEC.hop_s / 0.05), np.zeros((3, N_BINS, 2, 2), complex)
    for k, hop in enumerate(x.astype(complex)):
        sums = keep * sums + (1 - keep) * np.einsum("scf,sdf->sfcd", hop, hop.conj())
        mixture = hop.sum(axis=0)
        power = np.sqrt((np.abs(hop) ** 2).sum(axis=1) * (np.abs(mixture) ** 2).sum(axis=0)) / 2
        r = sums / (np.trace(sums, axis1=2, axis2=3).real[..., None, None] / 2)
        of = power[..., None, None] * r
        total = of.sum(axis=0)
        total = total + 1e-4 * np.trace(total, axis1=1, axis2=2)[:, None, None] * np.eye(2)
        wanted = np.einsum("sfab,fbc,cf->saf", of, np.linalg.inv(total), mixture)
        np.testing.assert_allclose(found[k, :2], wanted[:2], atol=2e-3)


def test_it_tells_apart_by_place_what_masks_mixed_up() -> None:
    """Two sounds in the same bins, one on the left and one on the right, of which each estimate has a fifth of the other."""
    a, b = noise(400, N_BINS, seed=1), noise(400, N_BINS, seed=2)
    left, right = np.stack([a, 0 * a], axis=1), np.stack([0 * b, b], axis=1)
    mixed = np.stack([0.8 * left + 0.2 * right, 0.2 * left + 0.8 * right], axis=1).astype(np.complex64)
    out = run(Wiener(), mixed)[100:]

    def error(x: np.ndarray) -> float:
        return float((np.abs(x[:, 0] - left[100:]) ** 2).sum() / (np.abs(left[100:]) ** 2).sum())

    assert error(out) < 0.6 * error(mixed[100:])


def test_stems_that_stand_in_one_place_keep_what_their_masks_gave_them() -> None:
    mono = noise(200, N_BINS, seed=1)
    mixture = np.stack([0.8 * mono, 0.6 * mono], axis=1)
    shares = np.random.default_rng(0).dirichlet((1.0, 1.0, 1.0), N_BINS).T.astype(np.float32)
    masked = np.ascontiguousarray(shares[None, :, None] * mixture[:, None], np.complex64)
    np.testing.assert_allclose(run(Wiener(), masked), masked, atol=2e-3)


def test_silence_stays_silent_and_what_follows_is_as_new() -> None:
    x = noise(30, 3, 2, N_BINS)
    wiener = Wiener()
    fresh = run(wiener, x)
    wiener.reset()
    out = np.ones((3, 2, N_BINS), np.complex64)
    wiener.process(np.zeros_like(out), out)
    assert not out.any()
    wiener.reset()
    for k in range(len(x)):
        wiener.process(x[k], out)
        np.testing.assert_array_equal(out, fresh[k])


@pytest.mark.parametrize("shape", [(3, 1, N_BINS), (3, 3, N_BINS), (2, N_BINS)])
def test_other_than_stems_of_stereo_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=r"stems \(n_stems, 2, n_bins\)"):
        Wiener().prepare(Spec(48000, 128, shape, np.dtype(np.complex64)))
