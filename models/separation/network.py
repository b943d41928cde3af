"""The network: a small causal LSTM that says, for each band, how far to trust HPSS, how far to shift it, and how to share out the rest.

One core for all stems. Per bin the harmonic mask is ``sigmoid(shift + slope * prior)`` with the logit that causal HPSS has of that bin as
`prior`, so that the resolution of bins comes for free from HPSS, and an untrained network is HPSS. With three or four stems further
sigmoids share the harmonic part out. Nothing is normalised by the utterance: mean and scale of the features are constants, found once on
training material.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rtserver.separation.features import N_BINS, N_FEATURES

N_SCORE = 177  # 88 keys that sound, 88 that begin, whether there is a score
N_FINE = 140  # bins with values of their own: to 3 kHz at 44.1 kHz
N_NODES = 177  # these and 37 nodes on a log axis up to the last bin, with straight lines in between
CROSSOVER_BIN = 180.0 / (44100.0 / 2048.0)  # where an untrained network parts bass from other
STEMS = {
    "hp": ("harmonic", "percussive"),
    "stems3": ("drums", "bass", "other"),
    "stems4": ("drums", "bass", "vocals", "other"),
}
RARE = -2.0  # logit of the share that an untrained network gives to vocals
INPUTS = ("features", "prior", "score", "h", "c")
OUTPUTS = ("masks", "h_out", "c_out")
_STEEPEST = 2.0  # of log slope: a factor of 7 on the prior's logits is as good as a hard mask


def nodes() -> np.ndarray:
    """The bin each node lies at, rising, ``(N_NODES,)``."""
    return np.concatenate([np.arange(N_FINE), np.geomspace(N_FINE - 1, N_BINS - 1, N_NODES - N_FINE + 1)[1:]])


def interpolation() -> np.ndarray:
    """``(N_NODES - N_FINE + 1, N_BINS - N_FINE)``: the bins above the fine ones from the last fine node and those above it."""
    coarse = nodes()[N_FINE - 1 :]
    bins = np.arange(N_FINE, N_BINS)
    return np.stack([np.interp(bins, coarse, row) for row in np.eye(len(coarse))]).astype(np.float32)


class Network(nn.Module):
    """
    Parameters
    ----------
    stems : one of `STEMS`
    hidden, layers : int
        Of the LSTM.

    Shapes: features ``(batch, hops, 440)``, prior ``(batch, hops, 1025)``, score ``(batch, hops, 177)``, states ``(layers, batch,
    hidden)``; masks of all stems, each ``(batch, hops, 1025)``, which add up to one.
    """

    def __init__(self, stems: str = "stems3", hidden: int = 384, layers: int = 2) -> None:
        super().__init__()
        self.stems, self.hidden, self.layers = stems, hidden, layers
        self.n_values = len(STEMS[stems])  # a node: slope, shift and a logit for each further stem but the last
        self.register_buffer("mean", torch.zeros(N_FEATURES))
        self.register_buffer("scale", torch.ones(N_FEATURES))
        self.register_buffer("between", torch.from_numpy(interpolation()), persistent=False)
        self.embed = nn.Linear(N_FEATURES, hidden)
        self.embed_score = nn.Linear(N_SCORE, hidden, bias=False)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.head = nn.Linear(2 * hidden, self.n_values * N_NODES)
        self.head_score = nn.Linear(N_SCORE, self.n_values * N_NODES, bias=False)
        with torch.no_grad():
            for made in (self.head.weight, self.head.bias, self.head_score.weight):
                made.zero_()
            self.head.bias[3 * N_NODES :] = RARE
            if self.n_values > 2:
                bin_of = torch.from_numpy(np.maximum(nodes(), 0.5)).float()
                self.head.bias[2 * N_NODES : 3 * N_NODES] = 2.0 * torch.log2(CROSSOVER_BIN / bin_of)

    def start(self, batch: int, device: Any = "cpu") -> tuple[Tensor, Tensor]:
        """States before the first hop."""
        return torch.zeros(self.layers, batch, self.hidden, device=device), torch.zeros(self.layers, batch, self.hidden, device=device)

    def normalise_by(self, features: np.ndarray) -> None:
        """Fix mean and scale of the features, from many hops of training material, ``(n_hops, 440)``."""
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))
        self.scale.copy_(torch.from_numpy(1.0 / np.maximum(features.std(axis=0), 0.05)))

    def to_bins(self, values: Tensor) -> Tensor:
        """Nodes to bins along the last axis."""
        return torch.cat([values[..., :N_FINE], values[..., N_FINE - 1 :] @ self.between], dim=-1)

    def values(self, features: Tensor, score: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads say at each node, ``(batch, hops, n_values * N_NODES)``, and the states."""
        e = torch.tanh(self.embed((features - self.mean) * self.scale) + self.embed_score(score))
        y, (h, c) = self.lstm(e, (h, c))
        return self.head(torch.cat([e, y], dim=-1)) + self.head_score(score), h, c

    def masks(self, values: Tensor, prior: Tensor) -> list[Tensor]:
        """The masks of all stems, each ``(batch, hops, 1025)``; they add up to one."""
        slope, shift, *further = values.split(N_NODES, dim=-1)
        slope = torch.exp(_STEEPEST * torch.tanh(slope / _STEEPEST))
        z = self.to_bins(shift) + self.to_bins(slope) * prior
        if not further:
            harmonic = torch.sigmoid(z)
            return [harmonic, 1.0 - harmonic]
        made = [torch.sigmoid(-z)]
        left = 1.0 - made[0]
        for logit in further:  # each takes its share of what those before have left
            made.append(left * torch.sigmoid(self.to_bins(logit)))
            left = left - made[-1]
        return [*made, left]

    def forward(self, features: Tensor, prior: Tensor, score: Tensor, h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The masks of all stems, each ``(batch, hops, 1025)``, and the states after the last hop, each ``(layers, batch, hidden)``."""
        values, h, c = self.values(features, score, h, c)
        return self.masks(values, prior), h, c


class Step(nn.Module):
    """One hop of a network, with the names (`INPUTS`, `OUTPUTS`) and shapes of the ONNX contract: no batch, masks of all stems but the
    last, which has the rest."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, prior: Tensor, score: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        masks, h, c = self.network(features[None], prior[None], score[None], h, c)
        return torch.cat([mask[0] for mask in masks[:-1]]), h, c


def two_stems(network: Network) -> Network:
    """The network of "hp" that is in one of three or four stems: percussive is its drums, harmonic the rest."""
    if network.stems == "hp":
        return network
    made = Network("hp", network.hidden, network.layers)
    kept = made.n_values * N_NODES
    state = {k: x[:kept] if k.startswith("head") else x for k, x in network.state_dict().items()}
    made.load_state_dict(state)
    return made.eval()


def parameters(network: Network) -> int:
    """How many numbers are trained."""
    return sum(math.prod(p.shape) for p in network.parameters())
