"""The frame model: an LSTM over frames of 88 keys, and two ways to say what the next frame is.

- *joint*: the notes of the frame from the highest down, each given those above it, closed by END: ``log p(frame) = sum log p(token)``,
  exactly normalised, for descending tokens spell every set of keys in one way (the factorisation of Walder 2016).
- *bernoulli*: each key on its own given the past (Bai, Kolter, Koltun 2018), the weaker class of the published tables.

Beside the usual layers, which know keys by name, both read a convolution over the keyboard with the same weights at every key (as the tied
networks of Johnson 2017): voice leading is the same a tone higher.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.generation.frame_data import END, LAGS, MODULI, N_KEYS, Batch

CHANNELS = 16  # of the keyboard convolution
REACH = 14  # semitones to each side that it sees: an octave and a tone
N_SEEN = 1 + len(LAGS)


class Steady(nn.Module):
    """Dropout with one mask for all steps of a row (Gal and Ghahramani 2016): (B, T, n)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * torch.empty(x.shape[0], 1, x.shape[2], device=x.device).bernoulli_(keep) / keep


class FrameNetwork(nn.Module):
    """See the module. `hidden` units in each of `layers`; `dropout` between all of them."""

    def __init__(self, hidden: int = 256, layers: int = 2, dropout: float = 0.3) -> None:
        super().__init__()
        self.place = nn.ModuleList(nn.Embedding(m, 8) for m in MODULI)
        n_past = N_SEEN * N_KEYS + 8 * len(MODULI)
        self.into = nn.Linear(n_past, hidden)
        self.lstm = nn.ModuleList(nn.LSTM(hidden, hidden, batch_first=True) for _ in range(layers))
        self.dropout = Steady(dropout)
        self.drop = nn.Dropout(dropout)
        self.seen = nn.Conv1d(N_SEEN, CHANNELS, 2 * REACH + 1, padding=REACH)
        self.joint = nn.ModuleDict({
            "state": nn.Linear(hidden + n_past, hidden), "before": nn.Linear(N_KEYS, hidden, bias=False),
            "last": nn.Embedding(N_KEYS + 1, hidden), "out": nn.Linear(hidden, N_KEYS + 1),
            "near": nn.Conv1d(1, CHANNELS, 2 * REACH + 1, padding=REACH, bias=False), "gate": nn.Linear(hidden, CHANNELS),
        })  # fmt: skip
        self.bernoulli = nn.ModuleDict({
            "state": nn.Linear(hidden + n_past, hidden), "out": nn.Linear(hidden, N_KEYS), "gate": nn.Linear(hidden, CHANNELS),
        })  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)
            elif isinstance(module, nn.LSTM):
                hidden_size = module.hidden_size
                nn.init.ones_(module.bias_ih_l0[hidden_size : 2 * hidden_size])  # type: ignore[index]  # remember, to begin with

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is known before each frame (B * T, hidden + n_past), and the keyboard convolution of it (B * T, CHANNELS, 88)."""
        rows, steps = batch.real.shape
        seen = batch.seen.float()
        seen = torch.cat([torch.log1p(seen[:, :, :1]) / 3.0, seen[:, :, 1:]], 2)  # 19 frames of holding: 1
        known = torch.cat([seen.flatten(2), *(e(batch.place[..., i]) for i, e in enumerate(self.place))], -1)
        x = self.into(self.dropout(known))
        for lstm in self.lstm:
            x = x + lstm(self.dropout(x))[0]  # a layer adds to what the one below knows
        near = self.seen(seen.flatten(0, 1))
        return torch.cat([self.dropout(x), self.dropout(known)], -1).view(rows * steps, -1), near

    def token_logits(self, known: Tensor, near: Tensor, frames: Tensor, frame_of: Tensor, last: Tensor) -> Tensor:
        """Logits (n, 89) of the next token, after those of the frame down to `last`; tokens that would not descend are ruled out."""
        m = self.joint
        keys = torch.arange(N_KEYS, device=last.device)
        before = frames.view(-1, N_KEYS)[frame_of] * (keys >= torch.where(last == END, N_KEYS, last)[:, None]).float()
        z = torch.relu(m["state"](known)[frame_of] + m["before"](before) + m["last"](last))
        z = self.drop(z)
        relative = torch.relu(near[frame_of] + m["near"](before[:, None]))
        keys = m["out"](z)
        keys = torch.cat([keys[:, :END] + torch.einsum("nck,nc->nk", relative, m["gate"](z)), keys[:, END:]], 1)
        spent = torch.arange(N_KEYS + 1, device=keys.device) >= last[:, None]
        spent[:, END] = False
        return keys.masked_fill(spent, float("-inf"))

    def log_joint(self, batch: Batch, known: Tensor, near: Tensor) -> Tensor:
        """log p(frame | past), (B, T); zero where there is no frame."""
        logits = self.token_logits(known, near, batch.frames, batch.frame_of, batch.last)
        chosen = torch.log_softmax(logits, -1).gather(1, batch.tokens[:, None])[:, 0]
        total = torch.zeros(batch.real.numel(), device=chosen.device, dtype=chosen.dtype)
        return total.index_add(0, batch.frame_of, chosen).view_as(batch.real)

    def key_logits(self, batch: Batch, known: Tensor, near: Tensor) -> Tensor:
        """Logits (B, T, 88) of each key on its own."""
        m = self.bernoulli
        z = self.drop(torch.relu(m["state"](known)))
        return (m["out"](z) + torch.einsum("nck,nc->nk", torch.relu(near), m["gate"](z))).view(*batch.real.shape, N_KEYS)

    def nats(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each frame (B, T) by both heads; zero where there is no frame."""
        known, near = self.features(batch)
        keys = nn.functional.binary_cross_entropy_with_logits(self.key_logits(batch, known, near), batch.frames.float(), reduction="none")
        return -self.log_joint(batch, known, near), keys.sum(-1) * batch.real
