"""Separation by a network: spectrum in, stems out. It stands between `Stft` and `Istft` where `Hpss` stands."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from rtserver.dsp.hpss import Hpss
from rtserver.errors import SpecError
from rtserver.node import Array, Spec, expect_spectrum
from rtserver.separation.features import SpectrumFeatures
from rtserver.separation.masks import apply, clean, settle, stand_in, whole
from rtserver.separation.model import N_BINS, NETWORK_HOP, SeparationModel
from rtserver.separation.network import BAD, BUDGET, F32, GOOD, MISSING, Heard, Slots, fade_hops

PARAMETERS = ("blend", "model")


class Source(Protocol):
    """Where the network runs. Masks of hop k are asked for at hop k + n_hops; nobody waits for them."""

    slow: int  # runs that took longer than their budget

    def prepare(self, models: tuple[SeparationModel, ...], n_phases: int, n_hops: int, hop_s: float) -> None:
        """Load the networks, or agree with who has. Raises `ModelError`."""
        ...

    def submit(self, hop: int, heard: Heard, chosen: int) -> None:
        """Hand over one hop, which is copied. chosen : index of the model that is to be heard."""
        ...

    def collect(self, hop: int, out: F32) -> int:
        """Copy the masks of `hop` into `out`, ``(n_stems − 1, n_bins)``, if they are `GOOD`; else say that they are `MISSING` or `BAD`."""
        ...

    def reset(self, chosen: int) -> None:
        """Forget the past, without waiting; `chosen` is the model that is heard from now on."""
        ...


class Inline:
    """The network runs in the engine, at once: nothing is ever late. `slow` counts hops in which it took longer than its budget."""

    def __init__(self) -> None:
        self.slow = 0

    def prepare(self, models: tuple[SeparationModel, ...], n_phases: int, n_hops: int, hop_s: float) -> None:
        self._slots = Slots(models, n_phases, fade_hops(hop_s))
        self._budget_ns = round(1e9 * BUDGET * hop_s)
        self._results = np.zeros((n_hops + 1, len(models[0].stems) - 1, N_BINS), np.float32)
        self._states = [MISSING] * (n_hops + 1)

    def submit(self, hop: int, heard: Heard, chosen: int) -> None:
        start = time.perf_counter_ns()  # counted, and nothing more: what comes out depends on no clock
        self._slots.select(chosen)
        k = hop % len(self._states)
        self._states[k] = GOOD if self._slots.run(hop, heard, self._results[k]) else BAD
        self.slow += time.perf_counter_ns() - start > self._budget_ns

    def collect(self, hop: int, out: F32) -> int:
        k = hop % len(self._states)
        np.copyto(out, self._results[k])
        return self._states[k]

    def reset(self, chosen: int) -> None:
        self._slots.reset(chosen)


class Separator:
    """Separation by a network's masks, with causal medians beside it that stand in where the network has nothing to say.

    Input    spectrum ``(n_channels, 1025)`` complex64
    Output   stems ``(n_stems, n_channels, 1025)`` complex64, labels: the model's stems. They add up to the input
    Latency  ``n_hops * hop_size`` frames: 0 where the network runs inline

    Parameters
    ----------
    model : SeparationModel
    n_hops : int
        The masks of hop k are used at hop k + n_hops, on the spectrum of hop k.
    blend : float
        0..1: how far the boundary between the percussive stem and the rest is moved from where the network sees it to where the medians
        do, as logits. 0: the network alone; 1: the medians alone draw it. Without a percussive stem it has no effect.
    other : SeparationModel, optional
        A second model of the same stems, loaded beside the first: ``set("model", NAME)`` crossfades to it.
    source : Source, optional
        Where the network runs; inline when left out.

    Attributes
    ----------
    n_missing, n_bad, n_nonfinite : int
        Since it was made: hops whose masks had not come, hops whose masks were not finite, and numbers of the input that were not.
    score : float32 (177,)
        What the network is told of the score at the next hop; all 0: nothing. Write into it, hop by hop (`prompter`). Empty, ``(0,)``,
        before `prepare`, which makes a new one.

    Notes
    -----
    The network advances by 256 frames. At shorter hops several copies of its states take turns (phases), so that each sees hops of 256
    and every hop has fresh masks. One mask holds for all channels.

    At the start, and where masks are missing or not finite, the medians' own masks stand in (`stand_in`): the last good ones are held and
    faded to those of the medians over 20 ms, and back when masks come again. Masks that are not finite also reset the network's states.
    The masks that a model gives are clipped to 0..1 and, where they sum to more than 1, scaled down.
    """

    def __init__(
        self,
        model: SeparationModel,
        n_hops: int = 0,
        *,
        blend: float = 0.0,
        other: SeparationModel | None = None,
        source: Source | None = None,
    ) -> None:
        self.models = (model,) if other is None else (model, other)
        self.n_hops = n_hops
        self.source: Source = source or Inline()
        self.score = np.zeros(0, np.float32)
        self.n_missing = 0
        self.n_bad = 0
        self.n_nonfinite = 0
        self.kernel: Any = settle
        self._blend = 0.0
        self._chosen = 0
        self._hop_size = 0
        self.set("blend", blend)

    @property
    def latency(self) -> int:
        return self.n_hops * self._hop_size

    def set(self, name: str, value: float | str) -> None:
        """Change ``blend`` or, by name, the ``model`` that is heard, from the next hop on. Raises `SpecError` if it makes no sense."""
        if name == "blend":
            blend = float(value)
            if not 0.0 <= blend <= 1.0:
                raise SpecError(f"Separator expects blend in 0..1, got {value}")
            self._blend = blend
        elif name == "model":
            names = [model.name for model in self.models]
            if value not in names:
                raise SpecError(f"Separator has no model {value!r}; loaded: {', '.join(names)}")
            self._chosen = names.index(str(value))
        else:
            raise SpecError(f"Separator has no parameter {name!r}; known: {', '.join(PARAMETERS)}")

    def prepare(self, spec: Spec) -> Spec:
        """Raises `SpecError` for anything but a spectrum that all models hear, and `ModelError` where one cannot be loaded."""
        expect_spectrum(spec, "Separator")
        n_channels, n_bins = spec.shape
        model = self.models[0]
        if self.n_hops < 0:
            raise SpecError(f"Separator expects n_hops >= 0, got {self.n_hops}")
        if n_bins != N_BINS or n_channels not in (1, 2):
            raise SpecError(
                f"Separator expects spectra of 1 or 2 channels and {N_BINS} bins, got {spec.shape}: a window of {2 * (N_BINS - 1)}"
            )
        for m in self.models:
            if m.stems != model.stems or m.medians != model.medians:
                raise SpecError(
                    f"Separator: {m.name!r} has other stems or medians than {model.name!r}, so one cannot take the other's place"
                )
            if spec.hop_size not in m.hops:
                raise SpecError(f"Separator: {m.name!r} was made for hops of {' or '.join(map(str, m.hops))} frames, got {spec.hop_size}")
            if spec.sample_rate not in m.sample_rates:
                rates = " or ".join(map(str, m.sample_rates))
                raise SpecError(f"Separator: {m.name!r} was made for {rates} Hz, got {spec.sample_rate}: it takes pitches by their bins")
        self._hop_size = spec.hop_size
        self._n_phases = model.n_phases(spec.hop_size)
        self._fade = fade_hops(spec.hop_s)
        self._percussive = model.percussive
        self._table = stand_in(model, spec.sample_rate)
        self._hpss = Hpss(model.n_past, model.n_around, model.past_step * (NETWORK_HOP // spec.hop_size))
        self._parts = self._hpss.prepare(spec).empty()
        self._features = SpectrumFeatures(self._n_phases)
        self._heard = Heard()
        self.score = self._heard.score
        slots = self.n_hops + 1
        self._spectra = np.zeros((slots, *spec.shape), np.complex64)
        self._gains = np.zeros((slots, n_bins), np.float32)
        n_masks = len(model.stems) - 1
        self._new, self._held, self._masks = (np.zeros((n_masks, n_bins), np.float32) for _ in range(3))
        self.source.prepare(self.models, self._n_phases, self.n_hops, spec.hop_s)
        self.reset()
        return replace(spec, shape=(n_masks + 1, n_channels, n_bins), labels=model.stems)

    def process(self, x: Array, out: Array) -> None:
        hop = self._hop
        self._hop += 1
        slot = hop % len(self._spectra)
        spectrum, heard = self._spectra[slot], self._heard
        self.n_nonfinite += clean(x, spectrum)
        self._hpss.process(spectrum, self._parts)
        gain = self._hpss.shares[0]
        np.copyto(self._gains[slot], gain)
        self._features.process(spectrum, gain, hop % self._n_phases, heard.features, heard.prior)
        self.source.submit(hop, heard, self._chosen)
        due = hop - self.n_hops
        if due < 0:
            out[...] = 0.0
            return
        state = self.source.collect(due, self._new)
        if state == GOOD:
            whole(self._new)
            self._new, self._held = self._held, self._new
            self._standing_in = max(self._standing_in - 1, 0)
        else:
            self.n_missing += state == MISSING
            self.n_bad += state == BAD
            self._standing_in = min(self._standing_in + 1, self._fade)
        slot, share = due % len(self._spectra), self._standing_in / self._fade
        settle(self._held, self._gains[slot], self._table, self._percussive, self._blend, share, self._masks)
        apply(self._masks, self._spectra[slot], out)

    def reset(self) -> None:
        self._hop = 0
        self._standing_in = self._fade  # hops of fade: the medians' masks alone, for a network without a past has little to say
        self._hpss.reset()
        self._features.reset()
        self._held.fill(0.0)
        self.score.fill(0.0)
        self.source.reset(self._chosen)
