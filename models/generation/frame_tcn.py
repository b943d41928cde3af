"""A temporal convolutional network over frames of 88 keys: the Bernoulli class of the published tables, by the network of their authors.

Dilated causal convolutions in residual pairs, with weight normalisation and dropout (Bai, Kolter and Koltun, "An Empirical Evaluation of
Generic Convolutional and Recurrent Networks for Sequence Modeling", 2018, section 3). It sees frames alone: of those `lags` back, of which
one is the last, the last ``1 + 2 (SIZE - 1) (2**layers - 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

from models.generation.frame_data import N_KEYS, Batch

SIZE = 3  # frames that a convolution spans, before dilation


class Pair(nn.Module):
    """Two convolutions beside a connection that skips them: (B, n_in, T) to (B, n_out, T)."""

    def __init__(self, n_in: int, n_out: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.before = (SIZE - 1) * dilation
        self.first = weight_norm(nn.Conv1d(n_in, n_out, SIZE, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(n_out, n_out, SIZE, dilation=dilation))
        self.skip = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in (self.first, self.second):
            y = self.drop(torch.relu(convolution(pad(y, (self.before, 0)))))
        return torch.relu(y + self.skip(x))


class FrameTcn(nn.Module):
    """See the module. `hidden` channels in each of `layers` pairs, the dilation twice as wide from one to the next."""

    head = "bernoulli"

    def __init__(self, hidden: int = 150, layers: int = 4, dropout: float = 0.5, lags: Sequence[int] = (1,)) -> None:
        super().__init__()
        self.lags = tuple(lags)
        sizes = [len(self.lags) * N_KEYS, *[hidden] * layers]
        self.pairs = nn.Sequential(*(Pair(a, b, 2**i, dropout) for i, (a, b) in enumerate(pairwise(sizes))))
        self.out = nn.Linear(hidden, N_KEYS)

    def key_logits(self, batch: Batch) -> Tensor:
        """Logits (B, T, 88) of each key on its own."""
        seen = batch.seen[:, :, 1:].float().flatten(2)  # without how long keys have been down
        return self.out(self.pairs(seen.mT).mT)

    def nats(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of each frame (B, T); zero where there is no frame."""
        keys = nn.functional.binary_cross_entropy_with_logits(self.key_logits(batch), batch.frames.float(), reduction="none")
        return keys.sum(-1) * batch.real
