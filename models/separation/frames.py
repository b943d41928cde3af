"""From examples of sound to what the network is shown and what its masks are measured by, hop by hop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.separation.losses import sums
from models.separation.scores import score_features
from models.separation.stems import ARRANGED, arranged
from rtserver.dsp.fft import fft_plan, unfold
from rtserver.dsp.hpss import Hpss
from rtserver.dsp.windows import window_pair
from rtserver.kernels import jit
from rtserver.node import Spec
from rtserver.separation.features import N_BINS, N_FEATURES, N_STATE, NETWORK_HOP, WINDOW_SIZE, extract_all

F32 = npt.NDArray[np.float32]
C64 = npt.NDArray[np.complex64]
Hops = dict[str, np.ndarray]

SAMPLE_RATE = 44100
N_PAST, PAST_STEP, N_AROUND = 15, 2, 17  # of the HPSS behind the prior, in hops of the network and bins: 0.17 s
SAMPLE_RATES = (44100, 48000)  # Hz that a network is made for: `mixing` draws both
HOPS = (256, 128)  # that a network is made for: at 128 two phases take turns, each of which sees hops of 256
JITTER_S = 0.02  # a follower is wrong by about so much


@jit("void(float32[:,::1], float32[::1], float32[::1], int64, complex64[:,:,::1])")
def _transform(signal: F32, window: F32, plan: F32, hop: int, out: C64) -> None:
    """Spectra ``(n_hops, n_channels, n_bins)`` of ``(n_channels, frames)``, as `Stft` makes them hop by hop."""
    bins = out.view(np.float32)
    size = 2048
    for i in range(out.shape[0]):
        at = (i + 1) * hop - size
        for c in range(out.shape[1]):
            for k in range(size // 2):
                a, b = at + 2 * k, at + 2 * k + 1
                plan[k] = signal[c, a] * window[2 * k] if a >= 0 else np.float32(0.0)
                plan[size // 2 + k] = signal[c, b] * window[2 * k + 1] if b >= 0 else np.float32(0.0)
            unfold(plan, size // 2, bins[i, c])


def transform(signal: F32, hop_size: int = NETWORK_HOP, made_for: int = NETWORK_HOP) -> C64:
    """Spectra ``(n_hops, n_channels, N_BINS)`` every `hop_size` frames, with the window of a `Stft` whose hop is `made_for`, 256 or 128."""
    out = np.zeros((signal.shape[1] // hop_size, signal.shape[0], N_BINS), np.complex64)
    window = window_pair(WINDOW_SIZE, made_for, 2 * made_for).analysis
    _transform(np.ascontiguousarray(signal, np.float32), window, fft_plan(WINDOW_SIZE), hop_size, out)
    return out


@jit("void(complex64[:,:,::1], int64[:,::1], float32, complex64[:,:,::1], float32[:,::1], float32[:,:,::1], float32[:,::1], float32[::1])")
def _statistics(  # noqa: PLR0917
    stems: C64, members: Any, magnitude: float, mixture: C64, power: F32, cross: F32, energy: F32, part: F32
) -> None:
    """Per hop and bin, summed over channels: see `losses`. The channels of a stem lie together on the second axis of `stems`.

    part : scratch, ``(2 * n_bins,)``
    """
    n_channels, n_bins = mixture.shape[1], power.shape[1]
    n_stems = members.shape[1]
    zero, rest = np.float32(0.0), np.float32(1.0) - magnitude
    for t in range(stems.shape[0]):
        for c in range(n_channels):
            x = mixture[t, c].view(np.float32)
            for j in range(n_stems):
                s = stems[t, j * n_channels + c].view(np.float32)
                for k in range(2 * n_bins):
                    x[k] += s[k]
            for k in range(n_bins):
                power[t, k] += x[2 * k] * x[2 * k] + x[2 * k + 1] * x[2 * k + 1]
            for m in range(members.shape[0]):
                for k in range(2 * n_bins):
                    part[k] = zero
                for j in range(n_stems):
                    if members[m, j]:
                        s = stems[t, j * n_channels + c].view(np.float32)
                        for k in range(2 * n_bins):
                            part[k] += s[k]
                of = cross[t, m]
                total = zero
                if magnitude > zero:
                    for k in range(n_bins):
                        re, im, xr, xi = part[2 * k], part[2 * k + 1], x[2 * k], x[2 * k + 1]
                        own = re * re + im * im
                        total += own
                        of[k] += rest * (xr * re + xi * im) + magnitude * np.float32(math.sqrt(own * (xr * xr + xi * xi)))
                else:
                    for k in range(n_bins):
                        re, im = part[2 * k], part[2 * k + 1]
                        total += re * re + im * im
                        of[k] += x[2 * k] * re + x[2 * k + 1] * im
                energy[t, m] += total


@dataclass(frozen=True)
class View:
    """How examples are looked at.

    stems : "hp", "stems3" or "stems4"
    magnitude : 0 (errors of spectra) to 1 (errors of their magnitudes)
    combine : whether sums of several stems are wanted, too
    time : whether spectra of one channel are wanted, for losses in the time domain
    score : probability that a score that is there is shown
    """

    stems: str = "stems3"
    magnitude: float = 0.0
    combine: bool = False
    time: bool = False
    score: float = 0.5


class Observer:
    """Turns examples into hops. Keeps the medians of HPSS; one for each stream, or one after the other."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._hpss = Hpss(N_PAST, N_AROUND, PAST_STEP)
        self._hpss.prepare(Spec(SAMPLE_RATE, NETWORK_HOP, (2, N_BINS), np.dtype(np.complex64)))
        self._parts = np.zeros((2, 2, N_BINS), np.complex64)
        n = len(ARRANGED[view.stems])
        wanted = sums(n) if view.combine else sums(n)[:n]
        self._members = np.array([[j in c for j in range(n)] for c in wanted], np.int64)

    def hear(self, mixture: C64) -> tuple[F32, F32]:
        """Features ``(n_hops, 440)`` and priors ``(n_hops, 1025)`` of spectra ``(n_hops, 2, 1025)``, from a fresh start."""
        n_hops = len(mixture)
        gains = np.empty((n_hops, N_BINS), np.float32)
        self._hpss.reset()
        for i in range(n_hops):
            self._hpss.process(mixture[i], self._parts)
            gains[i] = self._hpss.shares[0]
        features, priors = np.empty((n_hops, N_FEATURES), np.float32), np.empty((n_hops, N_BINS), np.float32)
        extract_all(mixture, gains, np.zeros(N_STATE, np.float32), features, priors)
        return features, priors

    def observe(self, example: Any, rng: np.random.Generator, made_for: int = 256) -> Hops:
        """Arrays with the hops on the first axis: what `Network` takes and `losses` take, ``cross`` and so on with float32."""
        signal = np.stack(arranged(np.asarray(example.stems, np.float32), self.view.stems))
        n_stems, n_channels, _ = signal.shape
        parts = transform(signal.reshape(n_stems * n_channels, -1), NETWORK_HOP, made_for)
        n_hops = len(parts)
        mixture = np.zeros((n_hops, n_channels, N_BINS), np.complex64)
        power = np.zeros((n_hops, N_BINS), np.float32)
        cross = np.zeros((n_hops, len(self._members), N_BINS), np.float32)
        energy = np.zeros((n_hops, len(self._members)), np.float32)
        scratch = np.empty(2 * N_BINS, np.float32)
        _statistics(parts, self._members, np.float32(self.view.magnitude), mixture, power, cross, energy, scratch)
        features, prior = self.hear(mixture)
        shown = example.has_score and rng.random() < self.view.score
        jitter = float(rng.normal(0.0, JITTER_S)) * SAMPLE_RATE
        score = score_features(example.notes if shown else None, n_hops, jitter)
        out = {"features": features, "prior": prior, "score": score, "power": power, "cross": cross, "energy": energy}
        if self.view.time:
            angle = rng.uniform(0.0, np.pi)  # one channel out of two: half the cost, and right on average
            mix = np.array([np.cos(angle), np.sin(angle)], np.float32)[:n_channels] / (1.0 if n_channels > 1 else np.cos(angle))
            out["stems"] = np.einsum("tjck,c->tjk", parts.reshape(n_hops, n_stems, n_channels, -1), mix.astype(np.complex64))
        return out


def streams(  # noqa: PLR0917
    draw: Callable[[np.random.Generator], Iterator[Any]], view: View, rows: list[int], n_chunks: int, hops: int, seed: int
) -> Iterator[Hops]:
    """Batches without end: each row a stream of its own, that takes `n_chunks` chunks of `hops` from an example before the next begins.

    Rows begin their examples at different chunks. ``fresh`` says in which rows the state starts anew. Every array is ``(len(rows),
    hops, …)``.
    """
    made = [_stream(draw, view, n_chunks, hops, np.random.default_rng((seed, row)), row % n_chunks) for row in rows]
    while True:
        parts = [next(m) for m in made]
        yield {k: np.stack([p[k] for p in parts]) for k in parts[0]}


def _stream(  # noqa: PLR0917
    draw: Callable[[np.random.Generator], Iterator[Any]], view: View, n_chunks: int, hops: int, rng: np.random.Generator, first: int
) -> Iterator[Hops]:
    observer = Observer(view)
    for example in draw(rng):
        whole = observer.observe(example, rng, HOPS[rng.integers(len(HOPS))])
        for i in range(first, n_chunks):
            yield {k: x[i * hops : (i + 1) * hops] for k, x in whole.items()} | {"fresh": np.array(i == first)}
        first = 0
