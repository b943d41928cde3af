"""The performer's network: an LSTM over note events, and three heads in a chain: dt, then pitch, then duration.

``p(note | past) = p(dt | past) p(pitch | dt, past) p(duration | dt, pitch, past)``, each factor normalised over what the vocabulary
allows, so the sum of the three losses is the exact negative log-likelihood of a note in nats. Every condition has a value that says
"unknown" and was trained with it.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rtserver.generation import vocabulary as v

WIDTH = 192  # of what goes into the LSTM
HEAD = 192  # of the hidden layer of the pitch and duration heads
NEAR = 24  # semitones to each side of the last pitch for which the pitch head has an opinion that no transposition changes
EVENT = ("dt", "pitch", "duration")
PLACE = ("phase", "bar", "metre", "texture", "part")
CONDITIONS = ("chroma", "ahead", "controls", "sounding")
STEP_INPUTS = (*EVENT, *PLACE, *CONDITIONS, "h", "c")
STEP_OUTPUTS = ("dt_logits", "features", "h_out", "c_out")
PITCH_INPUTS = ("features", "dt", "phase", "bar", "last", "chroma", "ahead", "sounding")
DURATION_INPUTS = ("features", "dt", "phase", "bar", "pitch")
SIZES = {
    "dt": v.N_DT, "pitch": v.N_PITCH + 1, "duration": v.N_DURATION, "phase": v.N_PHASE + 1, "bar": v.N_BAR, "metre": v.N_METRE,
    "texture": len(v.TEXTURES), "part": len(v.PARTS), "chroma": v.N_CHROMA, "ahead": v.N_AHEAD, "controls": v.N_CONTROLS,
    "sounding": v.N_PITCH,
}  # fmt: skip


def tensors(batch: dict[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """A batch of `data.stack` or `data.pack` as tensors: int64, float32, bool."""
    made: dict[str, Tensor] = {}
    bits = torch.arange(7, -1, -1, device=device)
    for k, array in batch.items():
        x = torch.from_numpy(array).to(device)
        if x.dtype == torch.uint8:  # eight keys a byte
            x = ((x[..., None] >> bits) & 1).flatten(-2).bool()
        made[k] = x if x.dtype == torch.bool else x.float() if x.is_floating_point() else x.long()
    return made


class _Sum(torch.autograd.Function):
    """The sum of tensors of one shape: in training without stacking them, exported as one node instead of one for each."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.n = len(parts)
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (gradient,) * ctx.n

    @staticmethod
    def symbolic(g: Any, *parts: Any) -> Any:
        return g.op("Sum", *parts)


def total(parts: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return cast(Tensor, _Sum.apply(*parts))


class Step(nn.Module):
    """Takes one event (or a window of them): embeddings, LSTM, and the head for the next dt."""

    def __init__(self, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.ModuleDict({k: nn.Embedding(SIZES[k], WIDTH) for k in EVENT + PLACE})
        self.floats = nn.ModuleDict({k: nn.Linear(SIZES[k], WIDTH, bias=False) for k in CONDITIONS})
        self.lstm = nn.LSTM(WIDTH, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.drop_in, self.drop_out = nn.Dropout(dropout / 2), nn.Dropout(dropout)
        self.next_dt = nn.Linear(hidden, v.N_DT)

    def forward(  # noqa: PLR0917 — ONNX takes them by position
        self, dt: Tensor, pitch: Tensor, duration: Tensor, phase: Tensor, bar: Tensor, metre: Tensor, texture: Tensor, part: Tensor,
        chroma: Tensor, ahead: Tensor, controls: Tensor, sounding: Tensor, h: Tensor, c: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Words (B, T), conditions (B, T, n), state (layers, B, hidden) -> dt logits (B, T, 97), features (B, T, hidden), state."""
        words = dict(zip(EVENT + PLACE, (dt, pitch, duration, phase, bar, metre, texture, part), strict=True))
        floats = dict(zip(CONDITIONS, (chroma, ahead, controls, sounding), strict=True))
        parts = [self.words[k](x) for k, x in words.items()] + [self.floats[k](x) for k, x in floats.items()]
        x = total(parts)
        features, (h, c) = self.lstm(self.drop_in(x), (h, c))
        features = self.drop_out(features)
        return self.next_dt(features), features, h, c


class PitchHead(nn.Module):
    """The next pitch, given when it comes. It sees harmony once more, for harmony is its business, and the keys that are then down.

    Its opinion on keys is joined by one on intervals from the last pitch, which needs not be learnt anew for each key.
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Linear(hidden, HEAD)
        self.words = nn.ModuleDict({k: nn.Embedding(SIZES[k], HEAD) for k in ("dt", "phase", "bar")})
        self.last = nn.Embedding(SIZES["pitch"], HEAD)
        self.floats = nn.ModuleDict({k: nn.Linear(SIZES[k], HEAD, bias=False) for k in ("chroma", "ahead", "sounding")})
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(HEAD, v.N_PITCH)
        self.interval = nn.Linear(HEAD, 2 * NEAR + 1)
        keys, last = torch.arange(v.N_PITCH), torch.arange(v.N_PITCH + 1)
        apart = keys[None] - last[:, None]
        inside = (apart.abs() <= NEAR) & (last[:, None] < v.N_PITCH)
        # Column of the interval head for each last pitch and each key; the last column, always 0, where they are too far apart.
        self.register_buffer("column", torch.where(inside, apart + NEAR, 2 * NEAR + 1), persistent=False)

    def forward(  # noqa: PLR0917 — ONNX takes them by position
        self, features: Tensor, dt: Tensor, phase: Tensor, bar: Tensor, last: Tensor, chroma: Tensor, ahead: Tensor, sounding: Tensor
    ) -> Tensor:
        """features (B, T, hidden); the next dt, phase and bar of its onset, the last pitch (B, T); conditions -> logits (B, T, 128)."""
        words = zip(("dt", "phase", "bar"), (dt, phase, bar), strict=True)
        floats = zip(("chroma", "ahead", "sounding"), (chroma, ahead, sounding), strict=True)
        parts = [self.features(features), self.last(last)]
        parts += [self.words[k](x) for k, x in words] + [self.floats[k](x) for k, x in floats]
        z = self.drop(torch.tanh(total(parts)))
        near = nn.functional.pad(self.interval(z), (0, 1))
        return self.out(z) + near.gather(-1, self.column[last])


class DurationHead(nn.Module):
    """The next duration, given when it comes and what it is."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Linear(hidden, HEAD)
        self.words = nn.ModuleDict({k: nn.Embedding(SIZES[k], HEAD) for k in ("dt", "phase", "bar", "pitch")})
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(HEAD, v.N_DURATION)

    def forward(self, features: Tensor, dt: Tensor, phase: Tensor, bar: Tensor, pitch: Tensor) -> Tensor:
        """features (B, T, hidden), the next dt, phase and bar of its onset and its pitch (B, T) -> logits (B, T, 97)."""
        words = zip(("dt", "phase", "bar", "pitch"), (dt, phase, bar, pitch), strict=True)
        parts = [self.features(features)] + [self.words[k](x) for k, x in words]
        return self.out(self.drop(torch.tanh(total(parts))))


class Network(nn.Module):
    """All of it, for training and scoring."""

    def __init__(self, hidden: int = 448, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.step = Step(hidden, layers, dropout)
        self.pitch_head = PitchHead(hidden, dropout)
        self.duration_head = DurationHead(hidden, dropout)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)  # torch's 1.0 would drown the features in the heads

    def start(self, n: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """The state (h, c) of `n` rows that have heard nothing."""
        zero = torch.zeros(self.layers, n, self.hidden, device=device)
        return zero, zero.clone()

    def nats(self, batch: dict[str, Tensor], state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Negative log-likelihood of every next event by head, (3, B, T), zero where the weight is zero; and the state after it."""
        dt_logits, features, h, c = self.step(*(batch[k] for k in STEP_INPUTS[:-3]), batch["sounding"].float(), *state)
        dt, pitch, duration, phase, bar = (batch[f"next_{k}"] for k in ("dt", "pitch", "duration", "phase", "bar"))
        last, sounding = batch["pitch"], batch["next_sounding"].float()
        pitch_logits = self.pitch_head(features, dt, phase, bar, last, batch["chroma"], batch["ahead"], sounding)
        duration_logits = self.duration_head(features, dt, phase, bar, pitch)
        # In a chord pitches rise; nothing ends in an unknown duration.
        keys = torch.arange(v.N_PITCH, device=pitch.device)
        chord = (dt == 0) & (last != v.START)
        low = chord[..., None] & (keys <= last[..., None])
        pitch_logits = pitch_logits.masked_fill(low & (keys != pitch[..., None]), -1e9)
        duration_logits[..., v.UNKNOWN_DURATION] = -1e9
        losses = [
            nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            for logits, target in ((dt_logits, dt), (pitch_logits, pitch), (duration_logits, duration))
        ]
        return torch.stack(losses) * batch["weight"], (h, c)
