"""What training makes small: errors of the stems' spectra, and of the stems' sound, of single stems and of their sums.

The multi-domain loss adds a spectral mean square error and a weighted signal-to-distortion ratio in the time domain; the combination loss
takes both of every sum of stems as well as of the single ones [1]_.

A mask m of real numbers leaves of a bin the error ``m² |X|² - 2 m Re(X* S) + |S|²``, summed over channels; and of its magnitude
``m² |X|² - 2 m |X| |S| + |S|²``. So all that training needs of a bin are its power and one *cross* a stem, whatever the channels are.

References
----------
.. [1] R. Sawata, S. Uhlich, S. Takahashi and Y. Mitsufuji, "All for one and one for all: improving music separation by bridging
   networks", ICASSP 2021, sections 2.2 and 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from rtserver.dsp.windows import window_pair
from rtserver.separation.features import NETWORK_HOP, WINDOW_SIZE

SPECTRAL_WEIGHT = 30.0  # brings a typical error share of a few percent to about one
SMALLEST = 1e-3  # share of an error below which less is no longer rewarded: -30 dB
QUIETEST = 0.05  # share of the mixture's energy below which a stem counts as no quieter
_EPS = 1e-8


def sums(n_stems: int) -> list[tuple[int, ...]]:
    """All combinations of stems but the empty and the whole one, single stems first."""
    return [c for size in range(1, n_stems) for c in combinations(range(n_stems), size)]


@dataclass(frozen=True)
class Losses:
    """Which parts are on.

    weights : one for each stem, of the single errors
    combine : weight of the errors of sums of several stems (0: off)
    time : α, the weight of the time domain (0: off)
    exponent : of the share of an error. 1: mean square error. Less: easy chunks count for more; near 0 it is the ratio in dB
    level : 0: errors are shares of the mixture's energy; 1: of the stem's own; or between
    """

    weights: tuple[float, ...]
    combine: float = 0.0
    time: float = 0.0
    exponent: float = 1.0
    level: float = 0.0

    def terms(self) -> list[tuple[tuple[int, ...], float]]:
        """Combinations that count, and their weights, which add up to one."""
        n = len(self.weights)
        of = [(c, self.weights[c[0]] if len(c) == 1 else self.combine) for c in sums(n)]
        if n == 2:
            of = of[:1] if self.weights[0] == self.weights[1] else of  # of two stems one error is the other's
        total = sum(w for _, w in of)
        return [(c, w / total) for c, w in of if w > 0.0]


def added(parts: list[Tensor], combination: tuple[int, ...]) -> Tensor:
    """The sum of some of the parts."""
    total = parts[combination[0]]
    for i in combination[1:]:
        total = total + parts[i]
    return total


def spectral(masks: list[Tensor], power: Tensor, cross: Tensor, energy: Tensor, losses: Losses) -> Tensor:
    """Errors of the spectra, as shares of an energy in each chunk (`Losses`); the mean over the batch.

    masks : of all stems, each ``(batch, hops, n_bins)``
    power : ``(batch, hops, n_bins)``, |X|² over the channels
    cross : ``(batch, hops, n_sums, n_bins)``, Re(X* S) or |X| |S| or between, for each of `sums`, or for the single stems alone
    energy : ``(batch, hops, n_sums)``, |S|² over channels and bins

    With exponent 1 and level 0 this is `SPECTRAL_WEIGHT` times the mean square error over the mixture's energy; other exponents have its
    slope where the share of the error is ``1 / SPECTRAL_WEIGHT``.
    """
    index = {c: i for i, c in enumerate(sums(len(masks)))}
    whole = power.sum(dim=(1, 2)) + _EPS
    p = losses.exponent
    total = torch.zeros((), device=power.device)
    for combination, weight in losses.terms():
        i = index[combination]
        mask, own = added(masks, combination), energy[:, :, i].sum(dim=1)
        error = (mask * (mask * power - 2.0 * cross[:, :, i])).sum(dim=(1, 2)) + own
        reference = whole if losses.level == 0.0 else whole * (own / whole + QUIETEST) ** losses.level
        share = error / reference
        if p != 1.0:
            share = ((share.clamp_min(0.0) + SMALLEST) ** p - SMALLEST**p) * (SPECTRAL_WEIGHT ** (p - 1.0) / p)
        total = total + weight * share.mean()
    return SPECTRAL_WEIGHT * total


def analyse(signal: Tensor, synthesis_size: int = 2 * NETWORK_HOP, hop_size: int = NETWORK_HOP) -> Tensor:
    """Spectra ``(…, n_hops, n_bins)`` of ``(…, frames)`` as `Stft` makes them: before the signal there was silence."""
    window = torch.from_numpy(window_pair(WINDOW_SIZE, hop_size, synthesis_size).analysis).to(signal)
    padded = torch.nn.functional.pad(signal, (WINDOW_SIZE - hop_size, 0))
    return torch.fft.rfft(padded.unfold(-1, WINDOW_SIZE, hop_size) * window)


def synthesise(spectra: Tensor, synthesis_size: int = 2 * NETWORK_HOP, hop_size: int = NETWORK_HOP) -> Tensor:
    """Signals ``(…, n_hops * hop_size)`` of spectra ``(…, n_hops, n_bins)`` as `Istft` makes them: late by its latency."""
    window = torch.from_numpy(window_pair(WINDOW_SIZE, hop_size, synthesis_size).synthesis).to(spectra.real)
    pieces = torch.fft.irfft(spectra, WINDOW_SIZE)[..., -synthesis_size:] * window
    n_hops, n_over = pieces.shape[-2], synthesis_size // hop_size
    late = [torch.nn.functional.pad(pieces[..., i * hop_size : (i + 1) * hop_size], (0, 0, i, 0))[..., :n_hops, :] for i in range(n_over)]
    return torch.stack(late).sum(dim=0).flatten(-2)


def weighted_sdr(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Between -1 (perfect) and 1, ``(…,)`` of ``(…, frames)``: the cosine between target and estimate, and that between what is left of
    the mixture, weighted by their energies (Choi et al., "Phase-aware speech enhancement with deep complex U-net", ICLR 2019, eq. 5)."""

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1) / torch.sqrt((a * a).sum(-1) * (b * b).sum(-1) + _EPS)

    rest, rest_estimate = mixture - target, mixture - estimate
    own, other = (target * target).sum(-1), (rest * rest).sum(-1)
    share = own / (own + other + _EPS)
    return -share * cosine(target, estimate) - (1.0 - share) * cosine(rest, rest_estimate)


def in_time(masks: list[Tensor], mixture: Tensor, stems: Tensor, losses: Losses) -> Tensor:
    """Mean weighted SDR loss of one channel: `mixture` ``(batch, hops, n_bins)`` complex, `stems` ``(batch, n_stems, hops, n_bins)``."""
    truth = synthesise(stems)
    whole = truth.sum(dim=1)
    made = synthesise(torch.stack([mask * mixture for mask in masks[:-1]], dim=1))
    estimates = [*made.unbind(1), synthesise(mixture) - made.sum(dim=1)]
    targets = list(truth.unbind(1))
    total = torch.zeros((), device=whole.device)
    for combination, weight in losses.terms():
        total = total + weight * weighted_sdr(added(estimates, combination), added(targets, combination), whole).mean()
    return total
