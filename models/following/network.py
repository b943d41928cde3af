"""The onset network: looks at each pitch through the same weights, and remembers.

``p(age | all spectra so far)``: a note of this pitch began 0..9 hops ago, or none did. Three things see the sound: a window of nine hops
around each pitch, at the intervals of partials and neighbours; what the windows of related pitches found, since a partial may belong to a
lower note; and a memory of the whole spectrum. A second memory, of each pitch, knows what already sounds there. A second head says whether
the pitch sounds at all; it is only there to teach the layers below, and is not exported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtserver.dsp.layout import N_SEMITONES
from rtserver.following.onsetnet import N_AGES, N_HOPS, N_PITCHES

OFFSETS = (-24, -12, -7, -5, -2, -1, 0, 1, 2, 5, 7, 12, 16, 19, 24, 28, 31, 36)  # semitones: neighbours, partials, and whose partial it is
RELATED = (-36, -31, -28, -24, -19, -16, -12, -1, 1, 12, 19, 24)  # pitches whose findings each pitch is told
_PAD = 36
_WINDOWS = (34, 55)  # pitches, from the lowest, at which the features change their window: the network is told which one it sees
LAGS = (0, 1, 3)  # hops back at which the whole spectrum is seen
N_WHERE = 2 + len(_WINDOWS)
State = tuple[Tensor, Tensor]


class Network(nn.Module):
    """All of it, for training and scoring.

    Parameters
    ----------
    sizes : (window, message, whole, share, memory, last)
        Units of each pitch's window, what of it related pitches are told, of the memory of the whole spectrum and each pitch's share of it,
        of the memory of a pitch, and of the last layer.
    """

    def __init__(self, sizes: tuple[int, ...] = (48, 6, 96, 8, 24, 32)) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        window, message, whole, share, memory, last = sizes
        self.window = nn.Linear(len(OFFSETS) * N_HOPS, window)
        self.message = nn.Linear(window, message)
        self.spectrum = nn.Linear(N_SEMITONES * len(LAGS), whole)
        self.whole = nn.GRU(whole, whole, batch_first=True)
        self.share = nn.Linear(whole, N_PITCHES * share)
        n_found = window + message * len(RELATED) + share + N_WHERE
        self.pitch = nn.GRU(n_found, memory, batch_first=True)
        self.last = nn.Sequential(nn.Linear(memory + n_found, last), nn.ReLU(), nn.Linear(last, N_AGES + 2))
        pitch = torch.arange(N_PITCHES)
        self.register_buffer("index", torch.tensor([[_PAD + p + o for o in OFFSETS] for p in range(N_PITCHES)]), persistent=False)
        self.register_buffer("related", torch.tensor([[_PAD + p + o for o in RELATED] for p in range(N_PITCHES)]), persistent=False)
        where = [pitch / N_PITCHES, (pitch / N_PITCHES) ** 2, *((pitch >= w).float() for w in _WINDOWS)]
        self.register_buffer("where", torch.stack(where, -1), persistent=False)
        self.register_buffer("prior", torch.full((N_AGES + 1,), 1.0 / (N_AGES + 1)))  # of the ages and of none, in the training data
        with torch.no_grad():  # onsets are rare: begin there
            final = self.last[-1]
            final.bias[:N_AGES], final.bias[N_AGES], final.bias[N_AGES + 1] = -7.0, 0.0, -3.0

    def silence(self, n: int) -> State:
        """What `n` sequences remember before anything was heard."""
        zeros = self.prior.new_zeros
        return zeros(1, n, self.whole.hidden_size), zeros(1, n * N_PITCHES, self.pitch.hidden_size)

    def forward(self, spectra: Tensor, state: State) -> tuple[Tensor, State]:
        """spectra (B, T + 8, 107), of which the first eight hops are context -> logits (B, T, 88, 12): of the ages, of none, and whether
        it sounds; and the state after them.
        """
        n, t = spectra.shape[0], spectra.shape[1] - N_HOPS + 1
        around = nn.functional.pad(spectra, (_PAD, _PAD))[:, :, self.index]
        window = torch.relu(self.window(torch.cat([around[:, i : i + t] for i in range(N_HOPS)], -1)))
        told = nn.functional.pad(self.message(window), (0, 0, _PAD, _PAD))[:, :, self.related].reshape(n, t, N_PITCHES, -1)
        lagged = torch.cat([spectra[:, N_HOPS - 1 - lag : spectra.shape[1] - lag] for lag in LAGS], -1)
        whole, remembered = self.whole(torch.relu(self.spectrum(lagged)), state[0])
        share = self.share(whole).reshape(n, t, N_PITCHES, -1)
        found = torch.cat([window, told, share, self.where.expand(n, t, -1, -1)], -1)
        by_pitch = found.transpose(1, 2).reshape(n * N_PITCHES, t, -1)
        memory, each = self.pitch(by_pitch, state[1])
        memory = memory.reshape(n, N_PITCHES, t, -1).transpose(1, 2)
        return self.last(torch.cat([memory, found], -1)), (remembered, each)

    def nats(self, logits: Tensor) -> Tensor:
        """logits (B, T, 88, 12) -> log-likelihood ratios (B, T, 10, 88) of the ages against none."""
        prior = torch.log(self.prior[:N_AGES] / self.prior[N_AGES])
        return (logits[..., :N_AGES] - logits[..., N_AGES : N_AGES + 1] - prior).transpose(2, 3)


class Exported(nn.Module):
    """What runs live: the last nine spectra and two memories in, log-likelihood ratios and the memories out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, spectra: Tensor, whole: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """spectra (1, 9, 107), the newest last; whole (1, 1, w), pitch (1, 88, m) -> nats (1, 10, 88) and both memories."""
        logits, (whole, pitch) = self.network(spectra, (whole, pitch))
        return self.network.nats(logits)[:, 0], whole, pitch


def nats_of(network: Network, batch: dict[str, Tensor], state: State) -> tuple[Tensor, Tensor, State]:
    """Cross entropy a pitch and hop of (age or none, sounding or not), and the state after the batch."""
    logits, state = network(batch["spectra"], state)
    age = nn.functional.cross_entropy(logits[..., : N_AGES + 1].reshape(-1, N_AGES + 1).float(), batch["age"].reshape(-1))
    sounds = nn.functional.binary_cross_entropy_with_logits(logits[..., N_AGES + 1].float(), batch["sounds"])
    return age, sounds, state
