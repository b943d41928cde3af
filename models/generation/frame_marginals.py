"""How likely each key is by the joint frame model, whatever the other keys: what makes it one of the Bernoulli class.

``p(key | past)`` is a sum over all frames with that key. It is estimated from `n` frames drawn token by token: of each draw not the keys
are counted but the odds that they had when their turn came, ``sum_j p(token_j = key | tokens before it)``, whose mean is the same and
whose variance is less (Rao-Blackwell).
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.generation.frame_data import END, N_KEYS, Batch
from models.generation.frame_network import FrameNetwork

LOW, HIGH = 1e-6, 0.998  # a mean of few draws is not surer than that

State = list[tuple[Tensor, Tensor]]


class _Walk:
    """The network token by token, with the state in the open."""

    def __init__(self, network: FrameNetwork, batch: Batch) -> None:
        self.network = network
        known, near = network.past(batch)
        self.into, self.known = network.into(known), network.known(known)
        self.near = near.view(*batch.real.shape, *near.shape[1:])

    def start(self, n: int) -> State:
        zero = self.into.new_zeros(1, n, self.network.state.in_features)
        return [(zero, zero) for _ in self.network.lstm]

    def step(self, rows: Tensor, t: int, before: Tensor, last: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (n, 89) of the next token in frame `t` of these rows, and the state after the last."""
        network = self.network
        into, output = (network.before(before) + network.last(last)).chunk(2, -1)
        x, after = into + self.into[rows, t], State()
        for lstm, s in zip(network.lstm, state, strict=True):
            y, s_after = lstm(x[:, None], s)
            x = x + y[:, 0]
            after.append(s_after)
        return network.choose(x, output, self.known[rows, t], self.near[rows, t], before, last), after


def _take(state: State, rows: Tensor) -> State:
    return [(h[:, rows], c[:, rows]) for h, c in state]


@torch.no_grad()
def marginals(network: FrameNetwork, batch: Batch, n: int, seed: int = 0) -> Tensor:
    """p(key | past), (B, T, 88), from `n` draws a frame."""
    walk, device = _Walk(network, batch), batch.frames.device
    dice = torch.Generator(device).manual_seed(seed)
    out = torch.zeros(batch.frames.shape, device=device)
    rows = torch.arange(len(batch.frames), device=device)
    state = walk.start(len(rows))
    for t in range(batch.frames.shape[1]):
        alive = batch.real[rows, t]
        rows, state = rows[alive], _take(state, alive)
        # Draw frames: only those that have not ended go on.
        of = torch.arange(len(rows), device=device).repeat_interleave(n)
        drawn, before = _take(state, of), torch.zeros(len(of), N_KEYS, device=device)
        last = torch.full((len(of),), END, device=device)
        while len(of):
            logits, drawn = walk.step(rows[of], t, before, last, drawn)
            p = torch.softmax(logits, -1)
            out[:, t].index_add_(0, rows[of], p[:, :END] / n)
            last = torch.multinomial(p, 1, generator=dice)[:, 0]
            goes_on = last != END
            of, before, last, drawn = of[goes_on], before[goes_on], last[goes_on], _take(drawn, goes_on)
            before.scatter_(1, last[:, None], 1.0)
        # The frame as it was, token by token, for the state of the next.
        frame = batch.frames[rows, t].float()
        before, last = torch.zeros_like(frame), torch.full((len(rows),), END, device=device)
        going = torch.arange(len(rows), device=device)
        while len(going):
            _, after = walk.step(rows[going], t, before[going], last[going], _take(state, going))
            for (h, c), (h_after, c_after) in zip(state, after, strict=True):
                h[:, going], c[:, going] = h_after, c_after
            left = frame[going] - before[going]
            going = going[left.any(-1)]
            highest = N_KEYS - 1 - (frame[going] - before[going]).flip(-1).argmax(-1)
            last[going] = highest
            before[going, highest] = 1.0
    return out.clamp(LOW, HIGH)
