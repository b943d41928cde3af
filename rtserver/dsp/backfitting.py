"""Kernel backfitting over a whole recording: any number of sources, each known by which bins are like which. (Live: `kam`.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtserver.dsp.proximity import Kernel, check_kernel, median_around
from rtserver.dsp.spatial import Spatial
from rtserver.errors import SpecError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]
C128 = npt.NDArray[np.complex128]

_EPS = 1e-30  # of the loudest bin's power: silence is shared out evenly, as by `masks`


@dataclass(frozen=True)
class Model:
    """What backfitting has found of each source.

    Attributes
    ----------
    strengths : (n_sources, n_bins, n_spectra) float32
        f_j, up to a scale that they share.
    covariances : (n_sources, n_bins, n_channels, n_channels) complex128
        R_j, with a trace of n_channels.
    places : bool
        Whether they were learnt. Else they are the identity.
    """

    strengths: F32
    covariances: C128
    places: bool

    def spectrum(self, x: C64, source: int) -> C64:
        """The posterior mean of one source (eq. 7): ``s_j = f_j R_j (Σ f_i R_i)⁻¹ x``, (n_channels, n_bins, n_spectra)."""
        out = np.empty_like(x)
        for k in range(x.shape[1]):
            out[:, k] = self._filtered(x[:, k].astype(np.complex128), k, source)
        return out

    def _filtered(self, x: C128, k: int, source: int) -> C128:
        f = self.strengths[:, k].astype(np.float64) + _EPS
        if not self.places:
            return x * (f[source] / f.sum(axis=0))
        covariances = self.covariances[:, k]
        return f[source] * (covariances[source] @ _solve(f, covariances, x))


def backfit(
    x: C64,
    kernels: Sequence[Kernel],
    iterations: int = 2,
    *,
    spatial: Spatial = "paper",
    loading: float = 1e-6,
    progress: Callable[[int], object] | None = None,
) -> Model:
    """Kernel backfitting [1]_, Algorithm 1 (and [2]_, for any kernels).

    Every source begins as an equal share of the input, its covariance as the identity. Each iteration filters the sources out of the
    input by what is known (step 3, eq. 7) and learns anew from each of them: ``C_j = s_j s_jᴴ`` (4a); ``R_j = I / T Σ_t C_j / tr C_j``
    (4b), with I channels and T spectra; ``z_j = tr(R_j⁻¹ C_j) / I`` (4c); ``f_j``: the median of z_j over the bin's neighbours (4d).
    `Model.spectrum` is the last step 3.

    With one iteration, `spatial` off, and the kernels `steady` and `broad`, this is median filtering with Wiener masks.

    Parameters
    ----------
    x : (n_channels, n_bins, n_spectra) complex64
        The recording's spectra, finite.
    kernels : sequence of bool arrays
        One a source: see `proximity`.
    iterations : int
        At least 1.
    spatial : {"off", "paper", "power"}
        Off: R_j is the identity, and z_j the power. Paper: step 4b. Then R_j is the same for all sources, for ``C_j / tr C_j`` is that of
        the input, and cancels out of eq. 7; what it does is to whiten z_j. Power: ``R_j = I Σ_t C_j / Σ_t tr C_j``, every spectrum counting
        by the source's power in it, as in [3]_; then sources lie in places of their own.
    loading : float
        R_j is used as ``(1 − loading) R_j + loading · 1``. The paper has none of it, but a source that lies in one point of the stereo
        image makes R_j singular.
    progress : callable
        Called with the bins just done, ``iterations · n_bins`` in all.

    Raises
    ------
    SpecError
        For parameters that make no sense.

    References
    ----------
    .. [1] D. FitzGerald, A. Liutkus, Z. Rafii, B. Pardo and L. Daudet, "Harmonic/percussive separation using kernel additive modelling",
       ISSC 2014.
    .. [2] A. Liutkus, D. FitzGerald, Z. Rafii, B. Pardo and L. Daudet, "Kernel additive models for source separation", IEEE Transactions
       on Signal Processing 62(16), 2014.
    .. [3] N. Duong, E. Vincent and R. Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial covariance
       model", IEEE Transactions on Audio, Speech, and Language Processing 18(7), 2010.
    """
    for kernel in kernels:
        check_kernel(kernel)
    if len(kernels) < 2:
        raise SpecError(f"backfitting expects two or more kernels, one a source, got {len(kernels)}")
    if iterations < 1:
        raise SpecError(f"backfitting expects iterations >= 1, got {iterations}")
    if not 0.0 <= loading <= 1.0:
        raise SpecError(f"backfitting expects loading in 0..1, got {loading}")
    n_channels, n_bins, n_spectra = x.shape
    n_sources = len(kernels)
    scale = 1.0 / max(float(np.abs(x).max(initial=0.0)), 1e-30)
    places = spatial != "off" and n_channels > 1
    identity = np.broadcast_to(np.eye(n_channels, dtype=np.complex128), (n_sources, n_bins, n_channels, n_channels)).copy()
    model = Model(np.zeros((n_sources, n_bins, n_spectra), np.float32), identity, places)
    z = np.empty((n_sources, n_bins, n_spectra), np.float32)
    for iteration in range(iterations):
        for k in range(n_bins):
            xk = x[:, k].astype(np.complex128) * scale
            if iteration == 0:
                sources = np.broadcast_to(xk / n_sources, (n_sources, *xk.shape))
            elif places:
                f = model.strengths[:, k].astype(np.float64) + _EPS
                y = _solve(f, model.covariances[:, k], xk)
                sources = f[:, None] * (model.covariances[:, k] @ y)
            else:
                f = model.strengths[:, k].astype(np.float64) + _EPS
                sources = xk * (f / f.sum(axis=0))[:, None]
            for j, s in enumerate(sources):
                if places:
                    model.covariances[j, k] = _loaded(_covariance(s, equally=spatial == "paper"), loading)
                    z[j, k] = _whitened(s, model.covariances[j, k])
                else:
                    z[j, k] = np.sum(s.real**2 + s.imag**2, axis=0) / n_channels
            if progress is not None:
                progress(1)
        for j, kernel in enumerate(kernels):
            model.strengths[j] = median_around(z[j], kernel)
    return model


def separate(x: C64, kernels: Sequence[Kernel], iterations: int = 2, spatial: Spatial = "paper", loading: float = 1e-6) -> C64:
    """The sources' spectra, (n_sources, n_channels, n_bins, n_spectra), as `backfit` finds them. The last one is what the others leave."""
    model = backfit(x, kernels, iterations, spatial=spatial, loading=loading)
    out = np.empty((len(kernels), *x.shape), np.complex64)
    for j in range(len(kernels) - 1):
        out[j] = model.spectrum(x, j)
    out[-1] = x - out[:-1].sum(axis=0)
    return out


def _covariance(s: C128, *, equally: bool) -> C128:
    """``I / T Σ C / tr C`` or ``I Σ C / Σ tr C`` of a source in one bin, (n_channels, n_spectra). Where it is silent it lies nowhere."""
    power = np.sum(s.real**2 + s.imag**2, axis=0)
    heard = power > _EPS
    n_heard = int(np.count_nonzero(heard))
    if n_heard == 0:
        return np.eye(len(s), dtype=np.complex128)
    if not equally:
        return np.asarray(len(s) / power.sum() * (s @ s.conj().T), np.complex128)
    weights = np.where(heard, 1.0, 0.0) / np.where(heard, power, 1.0)
    return np.asarray(len(s) / n_heard * ((s * weights) @ s.conj().T), np.complex128)


def _loaded(r: C128, loading: float) -> C128:
    return np.asarray((1.0 - loading) * r + loading * np.eye(len(r)), np.complex128)


def _inverse(r: C128) -> C128:
    if len(r) != 2:
        return np.asarray(np.linalg.inv(r), np.complex128)
    (a, b), (c, d) = r
    return np.asarray(np.array([[d, -b], [-c, a]]) / (a * d - b * c), np.complex128)


def _whitened(s: C128, r: C128) -> F64:
    """``tr(R⁻¹ C) / I``: how strong a source is, wherever it lies."""
    return np.sum((s.conj() * (_inverse(r) @ s)).real, axis=0).clip(0.0) / len(s)


def _solve(f: F64, covariances: C128, x: C128) -> C128:
    """``(Σ f_j R_j)⁻¹ x`` in one bin, (n_channels, n_spectra)."""
    n_channels, n_spectra = x.shape
    v = (covariances.reshape(len(f), -1).T @ f).reshape(n_channels, n_channels, n_spectra)
    if n_channels == 2:
        scale = 1.0 / (v[0, 0].real * v[1, 1].real - (v[0, 1].real ** 2 + v[0, 1].imag ** 2))
        y = np.stack([v[1, 1].real * x[0] - v[0, 1] * x[1], v[0, 0].real * x[1] - v[1, 0] * x[0]])
        return np.asarray(y * scale, np.complex128)
    y = np.linalg.solve(v.transpose(2, 0, 1), x.T[:, :, None])[:, :, 0].T
    return np.asarray(y, np.complex128)
