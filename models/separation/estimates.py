"""A mixture, separated by a network hop by hop as on stage, and by what it is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from models.separation.clips import order_of
from models.separation.frames import SAMPLE_RATES, Observer, View, transform
from models.separation.network import N_SCORE, STEMS, Network
from models.separation.train import FILE, restore
from models.separation.validation import blended
from rtserver import zoo
from rtserver.dsp.stft import Istft
from rtserver.errors import ModelError
from rtserver.node import Spec
from rtserver.separation.features import N_BINS, NETWORK_HOP, WINDOW_SIZE
from rtserver.separation.model import place_of

Run = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Model:
    """What gives masks: ``run(features, prior, score)``, each with the hops first, gives ``(n_hops, n_stems - 1, N_BINS)``.

    stems : in the order of `clips.KNOWN`; ``order`` says where each is among the masks
    sha256 : of its file; empty for a run
    sample_rates : Hz that it is made for
    """

    def __init__(
        self, stems: Sequence[str], run: Run, name: str = "network", *, sha256: str = "", sample_rates: Sequence[int] = SAMPLE_RATES
    ) -> None:
        self.order = order_of(stems, name)
        self.stems, self.run, self.sha256 = tuple(stems[i] for i in self.order), run, sha256
        self.sample_rates = tuple(sample_rates)


def load(name: str) -> Model:
    """A run's folder (by torch), an ONNX file with its manifest or a model of a zoo (by ONNX Runtime, hop by hop, as live).

    Exits with a line that says what is wrong where there is none, or where its stems are none that can be scored.
    """
    path = Path(name)
    if (path / FILE).exists():
        return by_torch(restore(path / FILE)[0])
    try:
        entry, folder = place_of(name) if path.suffix == ".onnx" else (path.name, zoo.FOLDER if path.name == name else path.parent)
        file, told = zoo.load_model(entry, folder)
    except ModelError as e:
        raise SystemExit(str(e)) from e
    return by_onnx(file, told.get("stems", ()), name, told["sha256"], told.get("sample_rates", SAMPLE_RATES))


def untrained() -> Model:
    """Causal HPSS, its harmonic part split at 180 Hz: what an untrained network does."""
    return by_torch(Network("stems3", 8, 1))


def by_torch(network: Network) -> Model:
    def run(features: np.ndarray, prior: np.ndarray, score: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            given = [torch.from_numpy(x)[None] for x in (features, prior, score)]
            masks, _, _ = network(*given, *network.start(1))
        return np.stack([m[0].numpy() for m in masks[:-1]], axis=1)

    return Model(STEMS[network.stems], run)


def by_onnx(path: Path, stems: Sequence[str], name: str, sha256: str, sample_rates: Sequence[int]) -> Model:
    session = zoo.open_session(path)
    names = [x.name for x in session.get_inputs()]
    states = {x.name: tuple(x.shape) for x in session.get_inputs() if x.name not in ("features", "prior", "score")}

    def run(features: np.ndarray, prior: np.ndarray, score: np.ndarray) -> np.ndarray:
        given = {k: x for k, x in (("features", features), ("prior", prior), ("score", score)) if k in names}
        state = {k: np.zeros(shape, np.float32) for k, shape in states.items()}
        out = []
        for i in range(len(features)):
            masks, *after = session.run(["masks", *(f"{k}_out" for k in states)], {k: x[i : i + 1] for k, x in given.items()} | state)
            state = dict(zip(states, after, strict=True))
            out.append(masks)
        return np.stack(out)

    return Model(stems, run, name, sha256=sha256, sample_rates=sample_rates)


def separate(
    model: Model, mixture: np.ndarray, hop_size: int, blends: tuple[float, ...] = (0.0,), score: np.ndarray | None = None
) -> dict[float, np.ndarray]:
    """blend -> ``(n_stems, n_channels, frames)``, aligned with the mixture, at hops of 256 or 128 frames.

    At 128 two phases take turns, each with states of its own.
    score : ``(n_hops, 177)`` at this hop
    """
    n_frames = mixture.shape[1]
    latency = hop_size  # of a synthesis window of two hops
    padded = np.pad(mixture, ((0, 0), (0, latency + -(n_frames + latency) % hop_size)))
    spectra = transform(padded, hop_size, hop_size)
    n_hops, n_phases = len(spectra), NETWORK_HOP // hop_size
    observer = Observer(View())
    made = {blend: np.zeros((n_hops, len(model.stems), N_BINS), np.float32) for blend in blends}
    for phase in range(n_phases):
        features, prior = observer.hear(np.ascontiguousarray(spectra[phase::n_phases]))
        told = np.zeros((len(features), N_SCORE), np.float32) if score is None else np.ascontiguousarray(score[phase::n_phases])
        masks = torch.from_numpy(model.run(features, prior, told))
        given = [*masks.unbind(1), 1.0 - masks.sum(dim=1)]
        parts = [given[i] for i in model.order]
        for blend, of in made.items():
            of[phase::n_phases] = torch.stack(blended(parts, torch.from_numpy(prior), blend) if blend else parts, dim=1).numpy()
    return {blend: synthesise(of, spectra, hop_size)[:, :, latency : latency + n_frames] for blend, of in made.items()}


def synthesise(masks: np.ndarray, spectra: np.ndarray, hop_size: int) -> np.ndarray:
    """Stems ``(n_stems, n_channels, frames)`` of masks ``(n_hops, n_stems, n_bins)``, late by the latency of `Istft`."""
    n_hops, n_stems, n_bins = masks.shape
    n_channels = spectra.shape[1]
    istft = Istft(WINDOW_SIZE, hop_size, 2 * hop_size)
    istft.prepare(Spec(44100, hop_size, (n_stems, n_channels, n_bins), np.dtype(np.complex64)))
    out = np.zeros((n_stems, n_channels, n_hops * hop_size), np.float32)
    hop = np.zeros((n_stems, n_channels, hop_size), np.float32)
    for i in range(n_hops):
        istft.process(np.ascontiguousarray(masks[i][:, None] * spectra[i][None]), hop)
        out[:, :, i * hop_size : (i + 1) * hop_size] = hop
    return out
