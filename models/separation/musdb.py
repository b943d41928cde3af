"""MUSDB18-HQ's test tracks through what plays live, measured as the published figures are: see `bsseval`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from models.separation import playing
from models.separation.bsseval import median_sdr
from models.separation.clips import SILENT, order_of, parts_of, read_clip
from rtserver.config import Separation
from rtserver.errors import ModelError
from rtserver.separation.model import SeparationModel, read_model

MIXTURE = "mixture.wav"
REFERENCES = ("mixture", "oracle mask")  # of the true stems, whatever the order of a network's
MEDIAN = "median"  # beside the tracks: over all of them
PARTS = {
    2: ("percussive", "harmonic"),
    3: ("percussive", "bass", "other"),
    4: ("percussive", "bass", "vocals", "other"),
}  # by number of stems
Medians = dict[str, dict[str, dict[str, float]]]  # method -> track -> part -> dB


def measure(name: str, root: Path, preset: str, by_museval: bool = False) -> Medians:
    """The network alone and at its manifest's blend, beside the mixture taken for each stem, the medians without it, and the oracle mask.

    Exits with a line where `root` has no tracks, or as `model_of` does.
    """
    model = model_of(name)
    order = order_of(model.stems, name)
    parts = PARTS[len(model.stems)]
    out: Medians = {}
    for track in tqdm(tracks(root), unit="track", disable=None):
        truth, rate = read_clip(track, "vocals" in parts)
        mixture = np.ascontiguousarray(soundfile.read(track / MIXTURE, dtype="float32", always_2d=True)[0].T)
        wanted = {k: x for k, x in parts_of(truth).items() if k in parts and np.sum(x**2) > SILENT * np.sum(mixture**2)}
        for method, made in _estimates(_file_of(name), model, preset, truth, mixture, rate).items():
            got = parts_of(made[order] if method not in REFERENCES else made)
            there = {k: x for k, x in wanted.items() if got[k].any()}  # medians say nothing of vocals
            found = median_sdr(there, got, rate, by_museval) if there else {}
            out.setdefault(method, {})[track.name] = {k: round(x, 3) for k, x in found.items() if np.isfinite(x)}
    for of in out.values():
        there = {k: [found[k] for found in of.values() if k in found] for k in parts}
        of[MEDIAN] = {k: round(float(np.median(x)), 3) for k, x in there.items() if x}
    return out


def tracks(root: Path) -> list[Path]:
    """The folders of MUSDB18-HQ's test tracks. Exits with a line where there are none."""
    found = [p for p in sorted((root / "test").iterdir()) if (p / MIXTURE).exists()] if (root / "test").is_dir() else []
    if not found:
        raise SystemExit(f"{root}: expected test/TRACK/{MIXTURE} and stems, as in MUSDB18-HQ, found no such folder")
    return found


def show(found: Medians) -> str:
    """Markdown: methods against the parts of each track, the median over tracks last."""
    lines: list[str] = []
    for track in next(iter(found.values())):
        parts = [part for part in PARTS[4] + PARTS[2][1:] if any(part in of[track] for of in found.values())]
        lines += ["", f"| {track}, SDR in dB | " + " | ".join(parts) + " |", "|---" * (len(parts) + 1) + "|"]
        for method, of in found.items():
            cells = [f"{of[track][part]:.2f}" if part in of[track] else "" for part in parts]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines[1:])


def _estimates(  # noqa: PLR0917
    name: str, model: SeparationModel, preset: str, truth: np.ndarray, mixture: np.ndarray, rate: int
) -> dict[str, np.ndarray]:
    joined = truth if len(model.stems) > 2 else np.stack([truth[1] + truth[2], truth[0]])
    alone = Separation(preset, model=name, blend=0.0)
    found = {
        "mixture": mixture[None],
        "medians": playing.medians_alone(alone, mixture, rate),
        "network": playing.play(alone, mixture, rate),
    }
    if model.blend:
        found[f"network, blend {model.blend:g}"] = playing.play(Separation(preset, model=name), mixture, rate)
    return found | {"oracle mask": playing.oracle(preset, joined, rate)}


def model_of(name: str) -> SeparationModel:
    """What the server would play. Exits with a line where that is nothing, or a training run."""
    try:
        return read_model(_file_of(name))
    except ModelError as e:
        raise SystemExit(str(e)) from e


def _file_of(name: str) -> str:
    """What the server would be told: a name of its zoo, or a file."""
    if Path(name).is_dir():
        raise SystemExit(f"{name} is a training run: what plays is measured here; python -m models.separation.export makes a model of it")
    return f"{name}.onnx" if "/" in name and not name.endswith(".onnx") else name
