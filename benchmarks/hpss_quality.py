"""How well the HPSS presets separate, and the default one with other masks, beside librosa offline and the untouched mixture.

usage: hpss_quality.py REF_DIR [--clips NAME ...] [--preset NAME ...] [--no-librosa] [--json FILE]

REF_DIR holds clips as `models/separation/clips.py` has them: `drums` is the percussive truth, the sum of all other stems the harmonic one,
and the sum of both the mixture.

SI-SDR and SDR as `models/separation/sdr.py` has them. With margins above 1 there is a residual, which belongs to neither truth: what it
holds is missing from both parts.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from models.separation.clips import folders, read_clip
from models.separation.librosa_hpss import has_librosa, separate_librosa
from models.separation.sdr import sdr, si_sdr
from rtserver.dsp.hpss import PRESETS, HpssPreset
from rtserver.dsp.masks import SOFT, Masks
from rtserver.node import Spec

Stems = dict[str, np.ndarray]  # (n_channels, frames) float32
MASKS = {
    "exponent 1": Masks(exponent=1.0),
    "exponent 4": Masks(exponent=4.0),
    "hard": Masks("hard"),
    "margins 1.5": Masks("soft", 2.0, 1.5, 1.5),
    "margins 3": Masks("soft", 2.0, 3.0, 3.0),
    "hard, margins 1.5": Masks("hard", 2.0, 1.5, 1.5),
    "hard, margins 3": Masks("hard", 2.0, 3.0, 3.0),
}
LIBROSA = {"librosa 4096/1024/17": (4096, 1024, 17), "librosa 2048/512/31": (2048, 512, 31)}


def load(folder: Path) -> tuple[Stems, int]:
    """The harmonic and percussive truth of one clip, and its sample rate."""
    stems, rate = read_clip(folder)
    return {"harmonic": stems[1:].sum(axis=0), "percussive": stems[0]}, rate


def separate(preset: HpssPreset, mixture: np.ndarray, sample_rate: int, masks: Masks = SOFT) -> np.ndarray:
    """(2, n_channels, frames): the preset hop by hop, exactly as live, the latency cut off, a residual left out."""
    preset = preset.at(sample_rate)
    stft, hpss, istft = preset.nodes(masks, residual=False)
    n_channels, n_frames = mixture.shape
    hop, latency = preset.hop_size, istft.latency
    specs = [Spec.signal(sample_rate, n_channels, hop)]
    for node in (stft, hpss, istft):
        specs.append(node.prepare(specs[-1]))
    n_hops = -(-(n_frames + latency) // hop)
    padded = np.zeros((n_channels, n_hops * hop), np.float32)
    padded[:, :n_frames] = mixture
    result = np.zeros((2, n_channels, n_hops * hop), np.float32)
    spectrum, masked, out = (spec.empty() for spec in specs[1:])
    for start in range(0, n_hops * hop, hop):
        stft.process(np.ascontiguousarray(padded[:, start : start + hop]), spectrum)
        hpss.process(spectrum, masked)
        istft.process(masked, out)
        result[:, :, start : start + hop] = out
    return result[:, :, latency : latency + n_frames]


def score(truth: Stems, estimate: np.ndarray) -> dict[str, float]:
    """SI-SDR and SDR of both stems."""
    return {
        f"{stem}_{name}": metric(truth[stem], estimate[i])
        for i, stem in enumerate(("harmonic", "percussive"))
        for name, metric in (("si_sdr", si_sdr), ("sdr", sdr))
    }


def table(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: methods against the mean of each group of clips, SI-SDR / SDR in dB."""
    clips = sorted({clip for per_clip in scores.values() for clip in per_clip})
    groups = {name: [c for c in clips if c.split("_")[0] == name] for name in sorted({c.split("_")[0] for c in clips})}
    columns = [(f"{g} {s[0].upper()}", members, s) for g, members in groups.items() for s in ("harmonic", "percussive")]
    lines = ["| | " + " | ".join(name for name, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, per_clip in scores.items():
        cells = [
            " / ".join(f"{np.mean([per_clip[c][f'{stem}_{m}'] for c in members]):.2f}" for m in ("si_sdr", "sdr"))
            for _, members, stem in columns
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref_dir", type=Path)
    parser.add_argument("--clips", nargs="*", help="only these folders")
    parser.add_argument("--preset", nargs="*", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--no-librosa", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = folders(args.ref_dir, args.clips or ())

    methods: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"mixture": lambda x, _rate: np.stack([x, x])}
    for name in args.preset:
        methods[name] = lambda x, rate, preset=PRESETS[name]: separate(preset, x, rate)
    for name, masks in MASKS.items():
        methods[f"default, {name}"] = lambda x, rate, masks=masks: separate(PRESETS["default"], x, rate, masks)
    if not args.no_librosa and has_librosa():
        for name, sizes in LIBROSA.items():
            methods[name] = lambda x, _rate, sizes=sizes: separate_librosa(sizes, x)

    scores: dict[str, Any] = {name: {} for name in methods}
    for folder in tqdm(found, unit="clip"):
        truth, rate = load(folder)
        mixture = truth["harmonic"] + truth["percussive"]
        for name, method in methods.items():
            scores[name][folder.name] = score(truth, method(mixture, rate))
    print(table(scores))
    if args.json:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        rounded = {m: {c: {k: round(v, 3) for k, v in of.items()} for c, of in clips.items()} for m, clips in scores.items()}
        presets = {name: asdict(PRESETS[name]) for name in args.preset}
        masks = {name: asdict(of) for name, of in MASKS.items()}
        args.json.write_text(json.dumps({"date": today, "presets": presets, "masks": masks, "scores_db": rounded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
