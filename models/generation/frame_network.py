"""The frame model: an LSTM over frames of 88 keys, with one of two ways to say what the next frame is.

- *joint*: the notes of the frame from the highest down, each given those above it, closed by END: ``log p(frame) = sum log p(token)``,
  exactly normalised, for descending tokens spell every set of keys in one way (the factorisation of Walder 2016).
  The LSTM runs over tokens.
- *bernoulli*: each key on its own given the past (Bai, Kolter, Koltun 2018), the weaker class of the published tables. The LSTM runs over
  frames.

Beside the usual layers, which know keys by name, both read a convolution over the keyboard with the same weights at every key (as the tied
networks of Johnson 2017): voice leading is the same a tone higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.generation.frame_data import END, LAGS, MODULI, N_KEYS, Batch

HEADS = ("joint", "bernoulli")
CHANNELS = 16  # of the keyboard convolution
REACH = 14  # semitones to each side that it sees: an octave and a tone


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
    """See the module. `hidden` units in each of `layers`; `dropout` between all of them; `lags` as in `frame_data.past`."""

    def __init__(self, head: str = "joint", hidden: int = 256, layers: int = 1, dropout: float = 0.4, lags: Sequence[int] = LAGS) -> None:
        super().__init__()
        self.head, self.lags = head, tuple(lags)
        self.place = nn.ModuleList(nn.Embedding(m, 8) for m in MODULI)
        n_seen = 1 + len(self.lags)
        n_known = n_seen * N_KEYS + 8 * len(MODULI)
        self.into = nn.Linear(n_known, hidden)
        self.lstm = nn.ModuleList(nn.LSTM(hidden, hidden, batch_first=True) for _ in range(layers))
        self.known = nn.Linear(n_known, hidden)
        self.state = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(hidden, CHANNELS)
        self.seen = nn.Conv1d(n_seen, CHANNELS, 2 * REACH + 1, padding=REACH)
        self.steady, self.drop = Steady(dropout), nn.Dropout(dropout)
        n_out = N_KEYS
        if head == "joint":
            n_out = N_KEYS + 1
            self.before = nn.Linear(N_KEYS, 2 * hidden, bias=False)  # the notes already set, for the LSTM and for the output
            self.last = nn.Embedding(N_KEYS + 1, 2 * hidden)
            self.near = nn.Conv1d(1, CHANNELS, 2 * REACH + 1, padding=REACH, bias=False)
        self.out = nn.Linear(hidden, n_out)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)
            elif isinstance(module, nn.LSTM):
                nn.init.ones_(module.bias_ih_l0.data[hidden : 2 * hidden])  # remember, to begin with

    def past(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is known before each frame: (B, T, n_known), and the keyboard convolution of it (B * T, CHANNELS, 88)."""
        seen = batch.seen.float()
        seen = torch.cat([torch.log1p(seen[:, :, :1]) / 3.0, seen[:, :, 1:]], 2)  # 19 frames of holding: 1
        known = torch.cat([seen.flatten(2), *(e(batch.place[..., i]) for i, e in enumerate(self.place))], -1)
        return self.steady(known), self.seen(seen.flatten(0, 1))

    def run(self, x: Tensor) -> Tensor:
        """The LSTM over (B, T, hidden); a layer adds to what the one below knows."""
        for lstm in self.lstm:
            x = x + lstm(self.steady(x))[0]
        return self.steady(x)

    def token_logits(self, batch: Batch) -> Tensor:
        """Logits (n, 89) of each token given those before; tokens that would not descend are ruled out."""
        known, near = self.past(batch)
        keys = torch.arange(N_KEYS, device=batch.last.device)
        before = batch.frames.view(-1, N_KEYS)[batch.frame_of] * (keys >= torch.where(batch.last == END, N_KEYS, batch.last)[:, None])
        before = before.float()
        into, output = (self.before(before) + self.last(batch.last)).chunk(2, -1)
        x = into + self.into(known).flatten(0, 1)[batch.frame_of]
        padded = x.new_zeros(len(batch.real), int(batch.at.max()) + 1, x.shape[-1]).index_put((batch.row, batch.at), x)
        h = self.run(padded)[batch.row, batch.at]
        return self.choose(h, output, self.known(known).flatten(0, 1)[batch.frame_of], near[batch.frame_of], before, batch.last)

    def choose(  # noqa: PLR0917
        self, h: Tensor, output: Tensor, known: Tensor, near: Tensor, before: Tensor, last: Tensor
    ) -> Tensor:
        """Logits (n, 89) of the next token from the LSTM's output, what is known of the past and the notes set in the frame so far."""
        z = self.drop(torch.relu(self.state(h) + output + known))
        relative = torch.relu(near + self.near(before[:, None]))
        logits = self.out(z)
        logits = torch.cat([logits[:, :END] + torch.einsum("nck,nc->nk", relative, self.gate(z)), logits[:, END:]], 1)
        spent = torch.arange(N_KEYS + 1, device=last.device) >= last[:, None]
        spent[:, END] = False
        return logits.masked_fill(spent, float("-inf"))

    def log_joint(self, batch: Batch) -> Tensor:
        """log p(frame | past), (B, T); zero where there is no frame."""
        chosen = torch.log_softmax(self.token_logits(batch), -1).gather(1, batch.tokens[:, None])[:, 0]
        total = torch.zeros(batch.real.numel(), device=chosen.device, dtype=chosen.dtype)
        return total.index_add(0, batch.frame_of, chosen).view_as(batch.real)

    def key_logits(self, batch: Batch) -> Tensor:
        """Logits (B, T, 88) of each key on its own."""
        known, near = self.past(batch)
        z = self.drop(torch.relu(self.state(self.run(self.into(known))) + self.known(known)))
        relative = torch.einsum("nck,nc->nk", torch.relu(near), self.gate(z).flatten(0, 1))
        return self.out(z) + relative.view(*batch.real.shape, N_KEYS)

    def nats(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of each frame (B, T); zero where there is no frame."""
        if self.head == "joint":
            return -self.log_joint(batch)
        keys = nn.functional.binary_cross_entropy_with_logits(self.key_logits(batch), batch.frames.float(), reduction="none")
        return keys.sum(-1) * batch.real
