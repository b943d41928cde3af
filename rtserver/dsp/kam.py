"""Causal harmonic/percussive separation by kernel additive modelling. (Over a whole file: `backfitting`.)"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from rtserver.dsp.hpss import Hpss
from rtserver.dsp.masks import HARMONIC_FACTOR, N_SETTINGS, PERCUSSIVE_FACTOR, SOFT, Masks, apportion, shares
from rtserver.dsp.median import MAX_NETWORK, median_of, median_of_past
from rtserver.dsp.spatial import LOUDEST, N_PLANES, Spatial, extract, learn
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
def _kernel(n_bins: int, n_past: int, past_step: int, n_around: int, n_fill: int, spatial: Spatial) -> Any:  # noqa: PLR0917
    """The kernel of `Kam` for one set of sizes, which are constants of the code, as in `Hpss`."""
    pad = n_around // 2
    sorted_rows = n_past > MAX_NETWORK
    stereo, apart = spatial != "off", spatial == "power"
    # state: for each iteration what `Hpss` has, the history of the harmonic source, [phase][slot][bin], where rows are kept sorted the same
    # again, and what the past is taken to have been; then the covariances: of the input in the first iteration, of both sources in others
    history = past_step * n_past * n_bins
    before = history * (2 if sorted_rows else 1)
    planes = N_PLANES * n_bins
    stride = before + n_bins + (2 * planes if stereo else 0)
    # scratch: strength of the percussive source with its mirrored margins, of the harmonic one, both medians, which become the shares;
    # the strength of the input; in stereo the input, both sources, and their places
    zh_at = n_bins + 2 * pad
    h_at, p_at = zh_at + n_bins, zh_at + 2 * n_bins
    z_at, x_at = zh_at + 3 * n_bins, zh_at + 4 * n_bins
    sh_at, sp_at, rh_at, rp_at = (x_at + i * planes for i in range(1, 5))
    largest = _LARGEST_SPATIAL if stereo else _LARGEST

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
            if stereo:
                for k in range(n_bins):
                    scratch[x_at + 2 * c * n_bins + k] = percussive[2 * k]
                    scratch[x_at + (2 * c + 1) * n_bins + k] = percussive[2 * k + 1]
        if stereo and n_hops == 0:
            for iteration in range(n_iterations):
                mine = state[iteration * stride : (iteration + 1) * stride]
                for k in range(before + n_bins, stride):
                    mine[k] = np.float32(0.0)

        for iteration in range(n_iterations):
            mine = state[iteration * stride : (iteration + 1) * stride]
            # how strong both sources are in each bin: at first each is half of the input, and so the same
            if iteration == 0:
                if stereo:
                    learn(scratch, x_at, pad, rh_at, mine, before + n_bins, n_bins, not apart, rate, loading)
                for k in range(n_bins):
                    scratch[z_at + k] = scratch[pad + k] if scratch[pad + k] > _FAINTEST else np.float32(0.0)
                for k in range(n_bins):
                    scratch[zh_at + k] = scratch[pad + k]
            elif apart:
                extract(scratch, x_at, sh_at, h_at, p_at, rh_at, rh_at if iteration == 1 else rp_at, n_bins)
                for plane in range(0, planes, n_bins):
                    for k in range(n_bins):  # where there is nothing, the difference is what rounding left
                        rest = scratch[x_at + plane + k] - scratch[sh_at + plane + k]
                        scratch[sp_at + plane + k] = rest if scratch[p_at + k] > np.float32(0.0) else np.float32(0.0)
                learn(scratch, sh_at, zh_at, rh_at, mine, before + n_bins, n_bins, False, rate, loading)
                learn(scratch, sp_at, pad, rp_at, mine, before + n_bins + planes, n_bins, False, rate, loading)
            else:
                for k in range(n_bins):
                    h, p, power = scratch[h_at + k], scratch[p_at + k], scratch[z_at + k]
                    scratch[zh_at + k], scratch[pad + k] = h * h * power, p * p * power

            # the same medians as in `Hpss`, of each source's own strength
            for i in range(pad):
                scratch[pad - 1 - i] = scratch[pad + i]
                scratch[pad + n_bins + i] = scratch[pad + n_bins - 1 - i]
            for k in range(n_bins):
                scratch[p_at + k] = median_of(scratch, k, 1, n_around)

            # what stands out has sounded before; the later iterations have it from the first one
            first = iteration == 0
            median_of_past(mine, scratch, zh_at, p_at, h_at, n_hops, n_bins, n_past, past_step, n_fill, sorted_rows, first)

            if iteration == n_iterations - 1:
                shares(scratch, h_at, p_at, n_bins, settings)
            else:
                shares(scratch, h_at, p_at, n_bins, wiener)
                for k in range(2 * n_bins):
                    scratch[h_at + k] = scratch[h_at + k] if scratch[h_at + k] > _LEAST else np.float32(0.0)

        if not apart or n_iterations == 1:  # one place for both sources cancels out
            apportion(outs, scratch, h_at, p_at, n_bins, settings)
            return n_nonfinite
        for k in range(n_bins):
            scratch[zh_at + k] = np.float32(1.0) - scratch[h_at + k]
        extract(scratch, x_at, sh_at, h_at, zh_at, rh_at, rp_at, n_bins)
        complete = settings[HARMONIC_FACTOR] == 1.0 and settings[PERCUSSIVE_FACTOR] == 1.0
        if not complete:
            for k in range(n_bins):
                scratch[zh_at + k] = np.float32(1.0) - scratch[p_at + k]
            extract(scratch, x_at, sp_at, p_at, zh_at, rp_at, rh_at, n_bins)
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
    of [1]_). Where a source lies between two channels can be learnt too, bin by bin, and used to tell it from the other one (`spatial`).
    With one iteration and without that this is `Hpss`, bit for bit.

    Input    spectrum ``(n_channels, n_bins)`` complex64
    Output   ``(n_parts, n_channels, n_bins)`` complex64, labels as those of `Hpss`
    Latency  0 frames. (What starts to sound counts as percussive for up to ``iterations * (n_past // 2) * past_step`` hops.)

    Parameters
    ----------
    n_past, n_around, past_step : int
        The proximity kernels, as in `Hpss`: past spectra for the harmonic source, neighbouring bins for the percussive one.
    masks : Masks
        How the last iteration shares out a bin, `set` changes it between two hops; all others are Wiener filters, as in the paper. Where
        sources have places, a share is a weight of the multichannel Wiener filter (eq. 7).
    residual : bool, optional
        As in `Hpss`.
    iterations : int
        1 to 10. Each one keeps a history of its own: one for all locks to zero, for what a mask has zeroed would be all that it hears.
    spatial : {"off", "paper", "power"}
        What is learnt of places. Off: nothing. Paper: R_j as in step 4b, every spectrum counting equally. It is the same for all sources,
        for ``s_j s_jᴴ / tr`` does not depend on a share; so it cancels out of the filter, and what it does is to whiten the strengths.
        Power: every spectrum counts by the power of the source in it, as in [2]_; then places differ. Mono has none; more than two
        channels are refused.
    time_constant_s : float
        Seconds over which a covariance is averaged, exponentially, where the paper has the mean of the whole file.
    loading : float
        Share of the identity in a covariance where it is inverted, 0.001 to 1.

    Notes
    -----
    All parts sum to the input, as those of `Hpss` do: the last one is what the others leave. A bin that is NaN or infinite, or with
    places above 1e36, is taken as 0 and counted in `n_nonfinite`. Start-up as in `Hpss`.

    An iteration hears what the one before it made of the past. So what starts to sound counts as percussive for longer with each, and the
    node forgets an input after ``iterations * n_past * past_step`` hops; what it knows of places fades with the time constant.

    Memory: `iterations` times that of `Hpss`, and with places ``8 * iterations * n_bins`` float32 more.

    References
    ----------
    .. [1] D. FitzGerald, A. Liutkus, Z. Rafii, B. Pardo and L. Daudet, "Harmonic/percussive separation using kernel additive modelling",
       ISSC 2014.
    .. [2] N. Duong, E. Vincent and R. Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial covariance
       model", IEEE Transactions on Audio, Speech, and Language Processing 18(7), 2010.
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
        spatial: Spatial = "power",
        time_constant_s: float = 3.0,
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
        """Raises `SpecError` for anything but a spectrum, for even or too long medians, and for places in more than two channels."""
        n_bins = self._check(spec)
        n_channels = spec.shape[0]
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise SpecError(f"Kam expects iterations in 1..{MAX_ITERATIONS}, got {self.iterations}")
        if self.spatial not in get_args(Spatial):
            raise SpecError(f"Kam expects spatial {', '.join(get_args(Spatial))}, got {self.spatial!r}")
        if self.spatial != "off" and n_channels > 2:
            raise SpecError(f"Kam expects one or two channels with places, got {n_channels} — spatial = 'off' takes any number")
        if not (math.isfinite(self.time_constant_s) and self.time_constant_s > 0.0):
            raise SpecError(f"Kam expects time_constant_s > 0, got {self.time_constant_s}")
        if not 0.001 <= self.loading <= 1.0:
            raise SpecError(f"Kam expects loading in 0.001..1, got {self.loading}")
        spatial = self.spatial if n_channels == 2 else "off"
        self._rate = 1.0 - math.exp(-spec.hop_s / self.time_constant_s)
        rows = self.n_past * self.past_step * (2 if self.n_past > MAX_NETWORK else 1) + 1
        self._state = np.zeros(self.iterations * (rows + (0 if spatial == "off" else 2 * N_PLANES)) * n_bins, np.float32)
        self._scratch = np.zeros((5 + (0 if spatial == "off" else 5 * N_PLANES)) * n_bins + self.n_around - 1, np.float32)
        n_fill = -(-2 * (n_bins - 1) // spec.hop_size)
        self.kernel = _kernel(n_bins, self.n_past, self.past_step, self.n_around, n_fill, spatial)
        self.reset()
        return self._parts(spec)

    def process(self, x: Array, out: Array) -> None:
        self.n_nonfinite += self.kernel(
            x, out, self._settings, self._wiener, self._state, self._scratch, self.iterations, self._n_hops, self._rate, self.loading
        )
        self._n_hops += 1
