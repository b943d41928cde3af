"""What `frames` makes of examples with compiled kernels, made with torch, for many at once on a GPU: features, priors, statistics.

The two agree but for rounding. A processor core does what is here ten times slower than the kernels; a GPU, a thousand times faster.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.separation.frames import HOPS, N_AROUND, N_PAST, PAST_STEP, View
from models.separation.losses import added, sums
from models.separation.stems import arranged
from rtserver.dsp.median import sorting_network
from rtserver.dsp.windows import window_pair
from rtserver.separation.features import LIMIT, N_BANDS, N_BINS, NETWORK_HOP, WINDOW_SIZE, band_edges

N_FILL = -(-2 * (N_BINS - 1) // NETWORK_HOP)  # hops until the first window is full, as `Hpss` counts them
FLOOR = 1e-4  # as in `rtserver.separation.features`
_EPS = 1e-30  # as in `rtserver.dsp.masks`


@cache
def _windows(device: Any) -> Tensor:
    """Analysis windows of `HOPS`, ``(len(HOPS), WINDOW_SIZE)``."""
    made = np.stack([window_pair(WINDOW_SIZE, hop, 2 * hop).analysis for hop in HOPS])
    return torch.from_numpy(made).to(device)


@cache
def _bands(device: Any) -> Tensor:
    """``(N_BINS, N_BANDS)``: means of the bins of each band."""
    edges = band_edges()
    made = np.zeros((N_BINS, N_BANDS), np.float32)
    for band in range(N_BANDS):
        made[edges[band] : edges[band + 1], band] = 1.0 / (edges[band + 1] - edges[band])
    return torch.from_numpy(made).to(device)


def transform(signals: Tensor, window: Tensor) -> Tensor:
    """Spectra ``(batch, n_signals, n_hops, N_BINS)`` of ``(batch, n_signals, frames)``, every 256 frames.

    window : ``(batch,)``, index in `HOPS` of the hop that each row's analysis window is made for
    """
    padded = torch.nn.functional.pad(signals, (WINDOW_SIZE - NETWORK_HOP, 0))
    pieces = padded.unfold(-1, WINDOW_SIZE, NETWORK_HOP) * _windows(signals.device)[window][:, None, None]
    return torch.fft.rfft(pieces)


def median(values: list[Tensor]) -> Tensor:
    """Element by element, of an odd number of tensors of one shape, through the sorting network of the live medians."""
    x = list(values)
    for i, j in sorting_network(len(x)):
        x[i], x[j] = torch.minimum(x[i], x[j]), torch.maximum(x[i], x[j])
    return x[len(x) // 2]


def harmonic_gains(power: Tensor) -> Tensor:
    """The harmonic share of each bin by `Hpss` from a fresh start: ``(batch, n_hops, N_BINS)`` of powers of that shape."""
    n_hops, pad = power.shape[1], N_AROUND // 2
    # A mirror at 0 Hz and at half the sample rate, the outermost bins twice.
    mirrored = torch.cat([power[..., :pad].flip(-1), power, power[..., -pad:].flip(-1)], dim=-1)
    across = median([mirrored[..., i : i + N_BINS] for i in range(N_AROUND)])
    ridge = torch.relu(power - across)
    n_fill, reach = min(N_FILL, n_hops), (N_PAST - 1) * PAST_STEP
    past = torch.cat([ridge[:, n_fill - 1 : n_fill].expand(-1, reach + n_fill, -1), power[:, n_fill:]], dim=1)
    along = median([past[:, reach - i * PAST_STEP : reach - i * PAST_STEP + n_hops] for i in range(N_PAST)])
    along = torch.cat([ridge[:, :n_fill], along[:, n_fill:]], dim=1)
    return (along + _EPS) / (along + across + 2.0 * _EPS)


def _means(values: Tensor) -> Tensor:
    """Over the bins of each band; in full precision, for differences of them matter."""
    fast, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    try:
        return values @ _bands(values.device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = fast


def features(mixture: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """``(batch, n_hops, 440)`` and priors ``(batch, n_hops, N_BINS)`` of spectra ``(batch, 2, n_hops, N_BINS)``: see
    `rtserver.separation.features.extract`."""
    left, right = (_means(mixture[:, c].abs().square()) for c in (0, 1))
    cross = _means((mixture[:, 0] * mixture[:, 1].conj()).real)
    energy = torch.log(left + right + FLOOR)
    rise = torch.nn.functional.pad(energy[:, 1:] - energy[:, :-1], (0, 0, 1, 0))
    side = (left - right) / (left + right + FLOOR)
    product = (left * right).clamp_min(0.0).sqrt()
    coherence = ((cross + FLOOR) / (product + FLOOR)).clamp(-1.0, 1.0)
    sure = 1.0 / (1.0 + float(np.exp(-LIMIT)))
    prior = torch.logit(gains.clamp(1.0 - sure, sure)).clamp(-LIMIT, LIMIT)
    return torch.cat([energy, rise, _means(gains), side, coherence], dim=-1), prior


@cache
def _compiled_gains() -> Any:
    return torch.compile(harmonic_gains, dynamic=False)


def observe(stems: Tensor, window: Tensor, view: View, angle: Tensor | None = None, compiled: bool = False) -> dict[str, Tensor]:
    """What `Observer.observe` tells of each example, with the batch in front of every shape and without the score.

    Parameters
    ----------
    stems : ``(batch, 3, 2, frames)`` float32, with voices ``(batch, 4, 2, frames)``
    window : ``(batch,)`` int64, index in `HOPS`
    angle : ``(batch,)``, of the one channel that losses in the time domain look at; needed where ``view.time``
    compiled : whether torch compiles the medians, which takes a minute and is repaid on a GPU
    """
    stems = torch.stack(arranged(stems.unbind(1), view.stems), dim=1)
    _, n_stems, n_channels, _ = stems.shape
    parts = transform(stems.flatten(1, 2), window).unflatten(1, (n_stems, n_channels))  # (batch, stems, channels, hops, bins)
    mixture = parts.sum(dim=1)
    magnitudes = mixture.abs()
    power = magnitudes.square().sum(dim=1)
    wanted = sums(n_stems) if view.combine else sums(n_stems)[:n_stems]
    cross, energy = [], []
    for members in wanted:
        part = added(list(parts.unbind(1)), members)
        of = (1.0 - view.magnitude) * (mixture.conj() * part).real.sum(dim=1)
        if view.magnitude > 0.0:
            of = of + view.magnitude * (magnitudes * part.abs()).sum(dim=1)
        cross.append(of)
        energy.append(part.abs().square().sum(dim=(1, 3)))
    gains = (_compiled_gains() if compiled else harmonic_gains)(power)
    told, prior = features(mixture, gains)
    out = {"features": told, "prior": prior, "power": power, "cross": torch.stack(cross, 2), "energy": torch.stack(energy, 2)}
    if view.time:
        assert angle is not None
        mix = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
        out["stems"] = torch.einsum("bjctk,bc->btjk", parts, mix.to(parts.dtype))
    return out
