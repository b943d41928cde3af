"""The performer's network: one LSTM over note events, and three heads in a chain: dt, then pitch, then duration.

``p(note | past) = p(dt | past) p(pitch | dt, past) p(duration | dt, pitch, past)``, each factor normalised over what the vocabulary
allows, so the sum of the three losses is the exact negative log-likelihood of a note in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtserver.generation import vocabulary as v

HEAD = 192  # width of the hidden layer of the pitch and duration heads


class Step(nn.Module):
    """Takes one event (or a window of them): embeddings, LSTM, and the head for the next dt."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.dt = nn.Embedding(v.N_DT, 32)
        self.pitch = nn.Embedding(v.N_PITCH + 1, 96)
        self.duration = nn.Embedding(v.N_DURATION, 24)
        self.phase = nn.Embedding(v.N_PHASE, 32)
        self.texture = nn.Embedding(len(v.TEXTURES), 8)
        self.chroma = nn.Linear(v.N_CHROMA, 48)
        self.lstm = nn.LSTM(32 + 96 + 24 + 32 + 8 + 48, hidden, layers, batch_first=True)
        self.next_dt = nn.Linear(hidden, v.N_DT)

    def forward(  # noqa: PLR0917 — ONNX takes them by position
        self, dt: Tensor, pitch: Tensor, duration: Tensor, phase: Tensor, texture: Tensor, chroma: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Events (B, T), chroma (B, T, 13), state (layers, B, hidden) -> dt logits (B, T, 97), features (B, T, hidden), state."""
        x = torch.cat(
            [self.dt(dt), self.pitch(pitch), self.duration(duration), self.phase(phase), self.texture(texture), self.chroma(chroma)], -1
        )
        features, (h, c) = self.lstm(x, (h, c))
        return self.next_dt(features), features, h, c


class PitchHead(nn.Module):
    """The next pitch, given when it comes. It sees the chroma once more, for harmony is its business."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.features = nn.Linear(hidden, HEAD)
        self.dt = nn.Embedding(v.N_DT, HEAD)
        self.phase = nn.Embedding(v.N_PHASE, HEAD)
        self.chroma = nn.Linear(v.N_CHROMA, HEAD, bias=False)
        self.out = nn.Linear(HEAD, v.N_PITCH)

    def forward(self, features: Tensor, dt: Tensor, phase: Tensor, chroma: Tensor) -> Tensor:
        """features (B, T, hidden), the next dt and the phase of its onset (B, T), chroma (B, T, 13) -> logits (B, T, 128)."""
        return self.out(torch.tanh(self.features(features) + self.dt(dt) + self.phase(phase) + self.chroma(chroma)))


class DurationHead(nn.Module):
    """The next duration, given when it comes and what it is."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.features = nn.Linear(hidden, HEAD)
        self.dt = nn.Embedding(v.N_DT, HEAD)
        self.phase = nn.Embedding(v.N_PHASE, HEAD)
        self.pitch = nn.Embedding(v.N_PITCH, HEAD)
        self.out = nn.Linear(HEAD, v.N_DURATION)

    def forward(self, features: Tensor, dt: Tensor, phase: Tensor, pitch: Tensor) -> Tensor:
        """features (B, T, hidden), the next dt, the phase of its onset and its pitch (B, T) -> logits (B, T, 97)."""
        return self.out(torch.tanh(self.features(features) + self.dt(dt) + self.phase(phase) + self.pitch(pitch)))


class Network(nn.Module):
    """All of it, for training and scoring."""

    def __init__(self, hidden: int = 256, layers: int = 1) -> None:
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.step = Step(hidden, layers)
        self.pitch_head = PitchHead(hidden)
        self.duration_head = DurationHead(hidden)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)  # torch's 1.0 would drown the features in the heads

    def start(self, n: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """The state (h, c) of `n` rows that have heard nothing."""
        zero = torch.zeros(self.layers, n, self.hidden, device=device)
        return zero, zero.clone()

    def nats(self, batch: dict[str, Tensor], state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Negative log-likelihood of every next event by head, (3, B, T), zero where the weight is zero; and the state after it."""
        dt_logits, features, h, c = self.step(*(batch[k] for k in ("dt", "pitch", "duration", "phase", "texture", "chroma")), *state)
        dt, pitch, duration, phase = (batch[k] for k in ("next_dt", "next_pitch", "next_duration", "next_phase"))
        pitch_logits = self.pitch_head(features, dt, phase, batch["chroma"])
        duration_logits = self.duration_head(features, dt, phase, pitch)
        # In a chord pitches rise; nothing ends in an unknown duration.
        keys = torch.arange(v.N_PITCH, device=pitch.device)
        chord = (dt == 0) & (batch["pitch"] != v.START)
        low = chord[..., None] & (keys <= batch["pitch"][..., None])
        pitch_logits = pitch_logits.masked_fill(low & (keys != pitch[..., None]), -1e9)
        duration_logits[..., v.UNKNOWN_DURATION] = -1e9
        losses = [
            nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            for logits, target in ((dt_logits, dt), (pitch_logits, pitch), (duration_logits, duration))
        ]
        return torch.stack(losses) * batch["weight"], (h, c)
