"""How well masks separate mixtures that training never draws: by group, in dB beside HPSS, from spectra alone.

Scale-invariant SDR needs of an estimate m X of S only <mX, S>, |mX|² and |S|², which the statistics of `frames` hold (mode: errors of
spectra). Windows overlap, so this is the SDR of the sound but for what overlap-add cancels: enough to choose weights by, not to publish.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.separation.frames import Hops, Observer, View
from models.separation.losses import added, sums
from models.separation.mixing import examples
from models.separation.network import STEMS, Network

SECONDS = 4.5
MOST_DRAWS = 60  # of mixtures for each one that is kept: rare groups are waited for so long


def material(pool: Path, stems: str, n_each: int, seed: int = 99, score: float = 0.0) -> list[tuple[str, Hops]]:
    """Up to `n_each` validation mixtures of each group, always the same: (group, hops)."""
    observer = Observer(View(stems, magnitude=0.0, combine=True, score=score))
    rng, own = np.random.default_rng(seed), np.random.default_rng(seed)
    kept: list[tuple[str, Hops]] = []
    count: dict[str, int] = {}
    single = len(STEMS[stems])
    for drawn, example in enumerate(examples(pool, "validation", SECONDS, rng)):
        if drawn == MOST_DRAWS * n_each or sum(count.values()) == 4 * n_each:
            break
        if count.get(example.group, 0) < n_each:
            hops = observer.observe(example, own, 256 if drawn % 2 else 128)
            hops["cross"] = np.ascontiguousarray(hops["cross"][:, :single])  # those of sums are sums of them
            kept.append((example.group, hops))
            count[example.group] = count.get(example.group, 0) + 1
    return sorted(kept, key=lambda x: x[0])


def parts(stems: str) -> dict[str, tuple[int, ...]]:
    """What is scored: each stem, and the two parts of HPSS."""
    own: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(STEMS[stems])}
    if stems == "hp":
        return own
    return {"harmonic": tuple(range(1, len(own))), "percussive": own.pop("drums"), **own}


def si_sdr(masks: list[Tensor], hops: dict[str, Tensor], stems: str) -> dict[str, float]:
    """dB of each of `parts`; NaN for one that is silent. `masks` of all stems, each ``(hops, n_bins)``."""
    index = {c: i for i, c in enumerate(sums(len(masks)))}
    out: dict[str, float] = {}
    for name, members in parts(stems).items():
        mask = added(masks, members)
        truth = float(hops["energy"][:, index[members]].double().sum())
        both = float(sum((mask * hops["cross"][:, i]).double().sum() for i in members))
        own = float((mask * mask * hops["power"]).double().sum())
        share = min(both * both / (own * truth + 1e-12), 1.0 - 1e-9)
        quiet = truth < 1e-6 * float(hops["power"].double().sum())
        out[name] = float("nan") if quiet else 10.0 * float(np.log10(share / (1.0 - share) + 1e-9))
    return out


@torch.no_grad()
def hpss_masks(prior: Tensor, stems: str) -> list[Tensor]:
    """The masks of an untrained network, each ``(hops, n_bins)``."""
    network = Network(stems, 8, 1).to(prior.device)
    return network.masks(network.head.bias.expand(len(prior), -1), prior)


def blended(masks: list[Tensor], prior: Tensor, blend: float) -> list[Tensor]:
    """Masks whose harmonic logit is `blend` of the prior's and the rest the network's; the others keep their shares of the harmonic part.

    Of two stems the first is the harmonic one, of more the first is the percussive one.
    """
    harmonic = masks[0] if len(masks) == 2 else 1.0 - masks[0]
    logit = torch.logit(harmonic.clamp(1e-6, 1.0 - 1e-6))
    mixed = torch.sigmoid((1.0 - blend) * logit + blend * prior)
    if len(masks) == 2:
        return [mixed, 1.0 - mixed]
    further = [mask / harmonic.clamp_min(1e-6) * mixed for mask in masks[1:-1]]
    return [1.0 - mixed, *further, mixed - sum(further)]


@torch.no_grad()
def score(network: Network, material: list[tuple[str, Hops]], device: Any = "cpu", blends: tuple[float, ...] = (0.0,)) -> dict[str, Any]:
    """Figures of a network: for each group the SI-SDR of all parts, beside that of HPSS, at each blend; and ``behind``.

    ``behind`` is what weights are chosen by: by how many dB the network is behind HPSS, mean of harmonic and percussive, in the group
    in which it is worst, at the first blend. It is negative where it is ahead in every group, infinite where masks are no numbers. A part
    that is silent in all mixtures of a group is left out.
    """
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for group, arrays in material:
        hops = {k: torch.from_numpy(x).to(device) for k, x in arrays.items()}
        masks, _, _ = network(hops["features"][None], hops["prior"][None], hops["score"][None], *network.start(1, device))
        masks = [m[0] for m in masks]
        of = found.setdefault(group, {})
        of.setdefault("hpss", []).append(si_sdr(hpss_masks(hops["prior"], network.stems), hops, network.stems))
        for blend in blends:
            of.setdefault(f"blend {blend:g}", []).append(si_sdr(blended(masks, hops["prior"], blend), hops, network.stems))
    means = {
        group: {how: {name: float(np.mean(of_part)) for name, of_part in _audible(each, by["hpss"]).items()} for how, each in by.items()}
        for group, by in found.items()
    }
    figures: dict[str, Any] = {
        group: {how: {name: round(value, 3) for name, value in of.items()} for how, of in by.items()} for group, by in means.items()
    }
    behind = [_behind(by, f"blend {blends[0]:g}") for by in means.values()]
    figures["behind"] = math.inf if np.isnan(behind).any() else round(max(behind), 4)  # all comparisons with NaN are false
    return figures


def _audible(each: list[dict[str, float]], hpss: list[dict[str, float]]) -> dict[str, list[float]]:
    """Part -> its figures in the mixtures in which it sounds: HPSS has one there, whatever a network makes of it."""
    heard = {name: [x[name] for x, beside in zip(each, hpss, strict=True) if not math.isnan(beside[name])] for name in each[0]}
    return {name: of_part for name, of_part in heard.items() if of_part}


def _behind(by: dict[str, dict[str, float]], how: str) -> float:
    return float(np.mean([by["hpss"][name] - by[how][name] for name in ("harmonic", "percussive") if name in by[how]]))
