"""Causal harmonic/percussive separation by kernel additive modelling. (Over a whole file: `backfitting`.)"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.masks import HARMONIC_FACTOR, N_SETTINGS, PERCUSSIVE_FACTOR, SOFT, Masks, apportion, shares
from rtserver.dsp.median import MAX_NETWORK, exchange_sorted, median_of
from rtserver.dsp.spatial import LOUDEST, N_PLANES, extract, forget, learn
from rtserver.errors import SpecError
from rtserver.kernels import jit
from rtserver.node import Array, Spec

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]

MAX_ITERATIONS = 10
_LARGEST = np.float32(np.finfo(np.float32).max)
_LARGEST_SPATIAL = np.float32(1e36)  # a filter between two channels may make a bin larger than it was, though never by much

# Iterating drives shares towards 0 and 1, and squares of small ones into denormals, which take the processor a hundred times as long.
_LEAST = np.float32(1e-5)  # of a share between two iterations: -100 dB
_FAINTEST = np.float32(1e-24)  # of a power that is iterated


@cache
def _kernel(n_bins: int, n_past: int, past_step: int, n_around: int, n_fill: int, spatial: bool) -> Any:  # noqa: PLR0917
    """The kernel of `Kam` for one set of sizes, which are constants of the code, as in `Hpss`."""
    pad = n_around // 2
    sorted_rows = n_past > MAX_NETWORK
    # state: for each iteration what `Hpss` has, the history of the harmonic source, [phase][slot][bin], where rows are kept sorted the same
    # again, and what the past is taken to have been; then the covariances of both sources, of which the first iteration has one
    history = past_step * n_past * n_bins
    before = history * (2 if sorted_rows else 1)
    covariance = N_PLANES * n_bins
    r, q = before + n_bins, before + n_bins + covariance
    stride = before + n_bins + (2 * covariance if spatial else 0)
    # scratch: strength of the percussive source with its mirrored margins, of the harmonic one, both medians, which become the shares;
    # then the power of the input, or where its channels differ in place the input, and both sources of it
    zh_at = n_bins + 2 * pad
    h_at, p_at = zh_at + n_bins, zh_at + 2 * n_bins
    x_at = zh_at + 3 * n_bins
    sh_at, sp_at = x_at + covariance, x_at + 2 * covariance
    largest = _LARGEST_SPATIAL if spatial else _LARGEST

    @jit(
        "int64(complex64[:,::1], complex64[:,:,::1], float32[::1], float32[::1], float32[::1], float32[::1],"
        " int64, int64, float32, float32)"
    )
    def separate(  # noqa: PLR0917
        x: C64, out: C64, settings: F32, wiener: F32, state: F32, scratch: F32, n_iterations: int, n_hops: int, rate: float, loading: float
    ) -> int:
        """One hop, the `n_hops`-th since reset; returns how many bins were not finite (and taken as 0)."""
        xs, outs = x.view(np.float32), out.view(np.float32)
        n_nonfinite = 0
        for k in range(n_bins):
            scratch[pad + k] = np.float32(0.0)
        for c in range(x.shape[0]):
            spectrum, percussive = xs[c], outs[1, c]
            for k in range(n_bins):
                re, im = spectrum[2 * k], spectrum[2 * k + 1]
                finite = (abs(re) <= largest) & (abs(im) <= largest)
                n_nonfinite += not finite
                re = re if finite else np.float32(0.0)
                im = im if finite else np.float32(0.0)
                percussive[2 * k], percussive[2 * k + 1] = re, im
                value = re * re + im * im
                value = scratch[pad + k] + (value if value < LOUDEST else LOUDEST)
                scratch[pad + k] = value if value < LOUDEST else LOUDEST
            if spatial:
                for k in range(n_bins):
                    scratch[x_at + 2 * c * n_bins + k] = percussive[2 * k]
                    scratch[x_at + (2 * c + 1) * n_bins + k] = percussive[2 * k + 1]
        if spatial and n_hops == 0:
            for iteration in range(n_iterations):
                forget(state[iteration * stride :], r, n_bins)
                forget(state[iteration * stride :], q, n_bins)

        for iteration in range(n_iterations):
            mine = state[iteration * stride : (iteration + 1) * stride]
            # how strong both sources are in each bin: at first each is half of the input, and so the same
            if iteration == 0:
                if spatial:
                    learn(scratch, x_at, pad, mine, r, n_bins, rate, loading)
                else:
                    for k in range(n_bins):
                        scratch[x_at + k] = scratch[pad + k] if scratch[pad + k] > _FAINTEST else np.float32(0.0)
                for k in range(n_bins):
                    scratch[zh_at + k] = scratch[pad + k]
            elif spatial:
                earlier = state[(iteration - 1) * stride : iteration * stride]
                extract(scratch, x_at, sh_at, h_at, p_at, earlier, r, r if iteration == 1 else q, n_bins, loading)
                for plane in range(0, covariance, n_bins):
                    for k in range(n_bins):  # where there is nothing, the difference is what rounding left
                        rest = scratch[x_at + plane + k] - scratch[sh_at + plane + k]
                        scratch[sp_at + plane + k] = rest if scratch[p_at + k] > np.float32(0.0) else np.float32(0.0)
                learn(scratch, sh_at, zh_at, mine, r, n_bins, rate, loading)
                learn(scratch, sp_at, pad, mine, q, n_bins, rate, loading)
            else:
                for k in range(n_bins):
                    h, p, power = scratch[h_at + k], scratch[p_at + k], scratch[x_at + k]
                    scratch[zh_at + k], scratch[pad + k] = h * h * power, p * p * power

            # the same medians as in `Hpss`, of each source's own strength
            for i in range(pad):
                scratch[pad - 1 - i] = scratch[pad + i]
                scratch[pad + n_bins + i] = scratch[pad + n_bins - 1 - i]
            for k in range(n_bins):
                scratch[p_at + k] = median_of(scratch, k, 1, n_around)

            if n_hops < n_fill:
                for k in range(n_bins):
                    # what stands out has sounded before; the later iterations have it from the first one
                    ridge = scratch[zh_at + k] - (scratch[p_at + k] if iteration == 0 else np.float32(0.0))
                    mine[before + k] = ridge if ridge > np.float32(0.0) else np.float32(0.0)
                    scratch[h_at + k] = mine[before + k]
            else:
                n = n_hops - n_fill
                rows = n % past_step * n_past * n_bins
                if n < past_step:
                    for i in range(n_past):
                        for k in range(n_bins):
                            mine[rows + i * n_bins + k] = mine[before + k]
                            if sorted_rows:
                                mine[history + rows + i * n_bins + k] = mine[before + k]
                newest = rows + n // past_step % n_past * n_bins
                if sorted_rows:
                    for k in range(n_bins):
                        scratch[h_at + k] = scratch[zh_at + k]
                    exchange_sorted(mine, history + rows, n_past, n_bins, mine, newest, scratch, h_at)
                for k in range(n_bins):
                    mine[newest + k] = scratch[zh_at + k]
                if sorted_rows:
                    for k in range(n_bins):
                        scratch[h_at + k] = mine[history + rows + n_past // 2 * n_bins + k]
                else:
                    for k in range(n_bins):
                        scratch[h_at + k] = median_of(mine, rows + k, n_bins, n_past)

            if iteration == n_iterations - 1:
                shares(scratch, h_at, p_at, n_bins, settings)
            else:
                shares(scratch, h_at, p_at, n_bins, wiener)
                for k in range(2 * n_bins):
                    scratch[h_at + k] = scratch[h_at + k] if scratch[h_at + k] > _LEAST else np.float32(0.0)

        if not spatial or n_iterations == 1:  # one covariance for both sources cancels out
            apportion(outs, scratch, h_at, p_at, n_bins, settings)
            return n_nonfinite
        for k in range(n_bins):  # `mine` and `others` of a filter sum to one
            scratch[zh_at + k] = np.float32(1.0) - scratch[h_at + k]
        last = state[(n_iterations - 1) * stride : n_iterations * stride]
        extract(scratch, x_at, sh_at, h_at, zh_at, last, r, q, n_bins, loading)
        complete = settings[HARMONIC_FACTOR] == 1.0 and settings[PERCUSSIVE_FACTOR] == 1.0
        if not complete:
            for k in range(n_bins):
                scratch[zh_at + k] = np.float32(1.0) - scratch[p_at + k]
            extract(scratch, x_at, sp_at, p_at, zh_at, last, q, r, n_bins, loading)
        for c in range(2):
            harmonic, percussive = outs[0, c], outs[1, c]
            for part in range(2):
                h, p = sh_at + (2 * c + part) * n_bins, sp_at + (2 * c + part) * n_bins
                if out.shape[0] == 3:
                    residual = outs[2, c]
                    for k in range(n_bins):
                        rest = percussive[2 * k + part] - scratch[h + k] - scratch[p + k]
                        residual[2 * k + part] = np.float32(0.0) if complete else rest
                for k in range(n_bins):
                    value = scratch[h + k]
                    rest = percussive[2 * k + part] - value
                    harmonic[2 * k + part] = value
                    percussive[2 * k + part] = rest if complete else scratch[p + k]
        return n_nonfinite

    return separate


class Kam(Hpss):
    """Causal harmonic/percussive separation by kernel additive modelling [1]_.

    `Hpss` looks once: what is steady in the *input* is harmonic, what is broad is percussive. Here both medians are then taken again, each
    of what its own source was found to be, and the input is shared out anew, as often as `iterations` says (kernel backfitting, Algorithm 1
    of [1]_). Where a source lies between two channels is learnt too, bin by bin (`spatial`), and used to tell it from the other one. With
    one iteration and without `spatial` this is `Hpss`, bit for bit.

    Input    spectrum ``(n_channels, n_bins)`` complex64
    Output   ``(n_parts, n_channels, n_bins)`` complex64, labels as those of `Hpss`
    Latency  0 frames. (What starts to sound counts as percussive for ``n_past // 2 * past_step`` hops.)

    Parameters
    ----------
    n_past, n_around, past_step : int
        The proximity kernels, as in `Hpss`: past spectra for the harmonic source, neighbouring bins for the percussive one.
    masks : Masks
        How the last iteration shares out a bin, `set` changes it between two hops; all others are Wiener filters, as in the paper. With
        `spatial` a share is a weight of the multichannel Wiener filter (eq. 7).
    residual : bool, optional
        As in `Hpss`.
    iterations : int
        1 to 10. Each one keeps a history of its own: one for all locks to zero, for what a mask has zeroed would be all that it hears.
    spatial : bool
        Whether covariances are learnt. Mono has none to learn; more than two channels are refused.
    time_constant_s : float
        Seconds over which a covariance is averaged, exponentially, where the paper has the mean of the whole file.
    loading : float
        Share of the identity in a covariance where it is inverted, 0.001 to 1.

    Notes
    -----
    All parts sum to the input, as those of `Hpss` do: the last one is what the others leave. A bin that is NaN or infinite, or with
    `spatial` above 1e36, is taken as 0 and counted in `n_nonfinite`. Start-up as in `Hpss`; a covariance begins as the identity.

    Memory: `iterations` times that of `Hpss`, and with `spatial` ``8 * iterations * n_bins`` float32 more. An iteration hears what the one
    before it made of the past, so the node forgets an input after ``iterations * n_past * past_step`` hops; with `spatial` it fades with
    the time constant.

    References
    ----------
    .. [1] D. FitzGerald, A. Liutkus, Z. Rafii, B. Pardo and L. Daudet, "Harmonic/percussive separation using kernel additive modelling",
       ISSC 2014.
    """

    def __init__(
        self,
        n_past: int = 17,
        n_around: int = 17,
        past_step: int = 1,
        masks: Masks = SOFT,
        residual: bool | None = None,
        *,
        iterations: int = 2,
        spatial: bool = True,
        time_constant_s: float = 1.0,
        loading: float = 0.05,
    ) -> None:
        super().__init__(n_past, n_around, past_step, masks, residual)
        self.iterations = iterations
        self.spatial = spatial
        self.time_constant_s = time_constant_s
        self.loading = loading
        self._wiener = np.zeros(N_SETTINGS, np.float32)
        SOFT.write(self._wiener)

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a spectrum, for even or too long medians, and for `spatial` with more than two channels."""
        n_bins = self._check(spec)
        n_channels = spec.shape[0]
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise SpecError(f"Kam expects iterations in 1..{MAX_ITERATIONS}, got {self.iterations}")
        if self.spatial and n_channels > 2:
            raise SpecError(f"Kam expects one or two channels with spatial, got {n_channels} — spatial = false takes any number")
        if not (math.isfinite(self.time_constant_s) and self.time_constant_s > 0.0):
            raise SpecError(f"Kam expects time_constant_s > 0, got {self.time_constant_s}")
        if not 0.001 <= self.loading <= 1.0:
            raise SpecError(f"Kam expects loading in 0.001..1, got {self.loading}")
        spatial = self.spatial and n_channels == 2
        self._rate = 1.0 - math.exp(-spec.hop_s / self.time_constant_s)
        rows = self.n_past * self.past_step * (2 if self.n_past > MAX_NETWORK else 1) + 1
        self._state = np.zeros(self.iterations * (rows + (2 * N_PLANES if spatial else 0)) * n_bins, np.float32)
        self._scratch = np.zeros((4 + (3 * N_PLANES if spatial else 1)) * n_bins + self.n_around - 1, np.float32)
        n_fill = -(-2 * (n_bins - 1) // spec.hop_size)
        self.kernel = _kernel(n_bins, self.n_past, self.past_step, self.n_around, n_fill, spatial)
        self.reset()
        return self._parts(spec)

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(
            x, out, self._settings, self._wiener, self._state, self._scratch, self.iterations, self._n_hops, self._rate, self.loading
        )
        self._n_hops += 1
