"""Clips whose stems are known, and how close an estimate comes to them: SI-SDR and SDR, part by part, clip by clip, and what that comes to.

A clip is a folder with `drums` and further stems (`bass`, all others are "other") as .flac or .wav. Clips are grouped by their name up to
the first underscore.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from models.separation.sdr import sdr, si_sdr

KNOWN = (("harmonic", "percussive"), ("drums", "bass", "other"), ("drums", "bass", "vocals", "other"))  # stems that can be scored
PARTS = ("harmonic", "percussive", "bass", "vocals", "other")
MIXTURES = ("mix", "mixture")  # files beside the stems
SILENT = 1e-6  # of the mixture's energy: such a stem is not scored
N_BOOTSTRAP = 4000
Signal = np.ndarray
Scores = dict[str, dict[str, tuple[float, float]]]  # clip -> part -> SI-SDR, SDR


def folders(root: Path, names: Iterable[str] = ()) -> list[Path]:
    """The clips of a folder, or some of them. Exits with a line where there are none."""
    wanted = set(names)
    found = [p for p in sorted(root.iterdir()) if p.is_dir() and (not wanted or p.name in wanted)] if root.is_dir() else []
    if not found:
        raise SystemExit(f"{root}: no clip folders found")
    return found


def stem_files(folder: Path) -> dict[str, Path]:
    """stem -> its file, of a clip. Exits with a line where the drums are missing, or everything else is."""
    found = {path.stem: path for path in sorted([*folder.glob("*.flac"), *folder.glob("*.wav")]) if path.stem not in MIXTURES}
    if "drums" not in found or len(found) < 2:
        raise SystemExit(f"{folder}: expected drums and at least one other stem (.flac or .wav), found {', '.join(found) or 'none'}")
    return found


def read_clip(folder: Path, vocals: bool = False) -> tuple[Signal, int]:
    """(drums, bass, other), or with `vocals` (drums, bass, vocals, other), each (2, frames), and the sample rate; what a clip lacks is
    silent. Exits as `stem_files` does."""
    found: dict[str, Signal] = {}
    rate = 0
    for name, path in stem_files(folder).items():
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
        found[name] = np.ascontiguousarray(data.T)
    silent = np.zeros_like(found["drums"])
    own = ("drums", "bass", "vocals") if vocals else ("drums", "bass")
    other = sum((x for k, x in found.items() if k not in own), silent)
    return np.stack([*(found.get(k, silent) for k in own), other]), rate


def order_of(names: Sequence[str], model: str) -> list[int]:
    """Where the stems of one of `KNOWN` are among those of a model. Exits with a line where it has others."""
    for known in KNOWN:
        if sorted(known) == sorted(names):
            return [names.index(name) for name in known]
    expected = "; or ".join(", ".join(known) for known in KNOWN)
    raise SystemExit(f"{model} gives {', '.join(names)}: what can be scored here is {expected}")


def parts_of(stems: Signal) -> dict[str, Signal]:
    """What is scored, of stems as `KNOWN` has them, or of one signal taken for each part."""
    if len(stems) == 1:
        return dict.fromkeys(PARTS, stems[0])
    if len(stems) == 2:
        return {"harmonic": stems[0], "percussive": stems[1]}
    of = {"harmonic": stems[1:].sum(axis=0), "percussive": stems[0], "bass": stems[1], "other": stems[-1]}
    return of | {"vocals": stems[2]} if len(stems) == 4 else of


def scores(truth: Signal, made: Signal) -> dict[str, tuple[float, float]]:
    """SI-SDR and SDR of each part that the estimate has and that is not silent."""
    if len(made) == 3 < len(truth):  # to it the voices are other
        truth = np.stack([truth[0], truth[1], truth[2] + truth[3]])
    wanted, got = parts_of(truth), parts_of(made)
    whole = float(np.sum(truth.sum(axis=0) ** 2))
    there = [k for k in got if k in wanted and np.sum(wanted[k] ** 2) > SILENT * whole]
    return {k: (si_sdr(wanted[k], got[k]), sdr(wanted[k], got[k])) for k in there}


def groups_of(table: dict[str, Scores]) -> dict[str, list[str]]:
    """group -> its clips."""
    clips = sorted({clip for of in table.values() for clip in of})
    return {g: [c for c in clips if c.split("_")[0] == g] for g in sorted({c.split("_")[0] for c in clips})}


def means(table: dict[str, Scores]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """method -> group -> part -> SI-SDR, SDR."""
    out: dict[str, Any] = {}
    for method, of in table.items():
        for group, members in groups_of(table).items():
            for part in PARTS:
                there = [of[c][part] for c in members if part in of.get(c, {})]
                if there:
                    out.setdefault(method, {}).setdefault(group, {})[part] = [round(float(x), 2) for x in np.mean(there, axis=0)]
    return out


def bootstrap(differences: list[float], seed: int | np.random.Generator = 0) -> tuple[float, float, float]:
    """Mean and the bounds of 95 % of the means of as many draws with replacement."""
    x = np.asarray(differences)
    drawn = x[np.random.default_rng(seed).integers(len(x), size=(N_BOOTSTRAP, len(x)))].mean(axis=1)
    return float(x.mean()), float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))


class Difference(NamedTuple):
    """By how many dB of SI-SDR one method is ahead of another: mean over clips, 95 % of a paired bootstrap, and the worst clip."""

    mean: float
    low: float
    high: float
    worst: float
    worst_clip: str


def differences(of: Scores, beside: Scores, groups: dict[str, list[str]], parts: Iterable[str] = PARTS) -> dict[str, Difference]:
    """ "group part" -> what `of` is ahead of `beside`, over the clips that both have; group ``all``: all clips."""
    out: dict[str, Difference] = {}
    for group, members in {**groups, "all": sorted(of)}.items():
        for part in parts:
            there = {c: of[c][part][0] - beside[c][part][0] for c in members if part in of.get(c, {}) and part in beside.get(c, {})}
            if there:
                worst = min(there, key=lambda c: there[c])
                mean, low, high = bootstrap(list(there.values()))
                out[f"{group} {part}"] = Difference(*(round(x, 2) for x in (mean, low, high, there[worst])), worst)
    return out


def show(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Markdown of ``method -> group -> part -> numbers``."""
    there = {(g, p) for of in found.values() for g, parts in of.items() for p in parts}
    order = list(dict.fromkeys([*PARTS, *(p for _, p in sorted(there))]))
    columns = [(g, p) for g in sorted({g for g, _ in there}) for p in order if (g, p) in there]
    lines = ["| | " + " | ".join(f"{g} {p}" for g, p in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, of in found.items():
        cells = [" / ".join(f"{x:.2f}" for x in of.get(g, {}).get(p, [])) for g, p in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
