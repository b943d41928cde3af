"""The onset network: a small perceptron that looks at each pitch through the same weights.

``p(age | nine spectra)``: a note of this pitch began 0..6 hops ago, or none did. A second head says whether the pitch sounds at all; it is
only there to teach the layers below, and is not exported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtserver.following.onsetnet import N_AGES, N_HOPS, N_PITCHES

OFFSETS = (-24, -12, -7, -5, -2, -1, 0, 1, 2, 5, 7, 12, 16, 19, 24, 28, 31, 36)  # semitones: neighbours, partials, and whose partial it is
_PAD = 36
_WINDOWS = (34, 55)  # pitches, from the lowest, at which the features change their window: the network is told which one it sees


class Network(nn.Module):
    """All of it, for training and scoring."""

    def __init__(self, hidden: tuple[int, int] = (40, 24)) -> None:
        super().__init__()
        self.hidden = hidden
        n_inputs = (len(OFFSETS) + 1) * N_HOPS + 4
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, hidden[0]), nn.ReLU(), nn.Linear(hidden[0], hidden[1]), nn.ReLU(), nn.Linear(hidden[1], N_AGES + 2)
        )
        pitch = torch.arange(N_PITCHES)
        self.register_buffer("index", torch.tensor([[_PAD + p + o for o in OFFSETS] for p in range(N_PITCHES)]), persistent=False)
        where = [pitch / N_PITCHES, (pitch / N_PITCHES) ** 2, *((pitch >= w).float() for w in _WINDOWS)]
        self.register_buffer("where", torch.stack(where, -1), persistent=False)
        self.register_buffer("prior", torch.full((N_AGES + 1,), 1.0 / (N_AGES + 1)))  # of the ages and of none, in the training data
        with torch.no_grad():  # onsets are rare: begin there
            last = self.layers[-1]
            last.bias[:N_AGES], last.bias[N_AGES], last.bias[N_AGES + 1] = -7.0, 0.0, -3.0

    def forward(self, spectra: Tensor) -> Tensor:
        """spectra (B, 9, 107), newest first -> logits (B, 88, 9): of the ages, of none, and whether it sounds."""
        n = spectra.shape[0]
        around = nn.functional.pad(spectra, (_PAD, _PAD))[:, :, self.index]
        around = around.permute(0, 2, 1, 3).reshape(n, N_PITCHES, N_HOPS * len(OFFSETS))
        mean = spectra.mean(2)[:, None, :].expand(n, N_PITCHES, N_HOPS)
        return self.layers(torch.cat([around, mean, self.where[None].expand(n, N_PITCHES, 4)], -1))

    def nats(self, spectra: Tensor) -> Tensor:
        """spectra (B, 9, 107) -> log-likelihood ratios (B, 7, 88) of the ages against none."""
        logits = self(spectra)
        prior = torch.log(self.prior[:N_AGES] / self.prior[N_AGES])
        return (logits[..., :N_AGES] - logits[..., N_AGES : N_AGES + 1] - prior).transpose(1, 2)


class Exported(nn.Module):
    """What runs live: spectra in, log-likelihood ratios out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, spectra: Tensor) -> Tensor:
        return self.network.nats(spectra)


def nats_of(network: Network, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross entropy a pitch and hop of (age or none, sounding or not)."""
    logits = network(batch["spectra"])
    age = nn.functional.cross_entropy(logits[..., : N_AGES + 1].reshape(-1, N_AGES + 1), batch["age"].reshape(-1))
    sounds = nn.functional.binary_cross_entropy_with_logits(logits[..., N_AGES + 1], batch["sounds"])
    return age, sounds
