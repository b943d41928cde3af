"""A pool for training in small: noise bursts for drums, low and high tones for bass and other, the high ones short: HPSS errs there."""

import json
from pathlib import Path

import numpy as np

RATE = 44100
SECONDS = 5


def tiny_pool(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    t = np.arange(SECONDS * RATE) / RATE
    lines = []
    for i, split in enumerate(["train"] * 4 + ["validation"] * 2):
        beat = np.exp(-40.0 * (t % 0.25)) * rng.standard_normal(len(t)) * 0.2
        low, high = 40 + i, 64 + i
        sounds = {
            "drums": beat,
            "bass": 0.2 * np.sin(2 * np.pi * 440.0 * 2.0 ** ((low - 69) / 12) * t),
            "other": 0.2 * np.sin(2 * np.pi * 440.0 * 2.0 ** ((high - 69) / 12) * t) * np.exp(-12.0 * (t % 0.2)),
        }
        name = f"made_{i}"
        for stem, sound in sounds.items():
            np.save(folder / f"{name}_{stem}.npy", np.round(np.stack([sound, 0.8 * sound]) * 32767.0).astype(np.int16))
        notes = [[low, 0.0, len(t), 1], *([high, 0.2 * k * RATE, (0.2 * k + 0.19) * RATE, 2] for k in range(5 * SECONDS))]
        np.save(folder / f"{name}_notes.npy", np.array(notes, np.float32))
        stems = {stem: {"source": "samples", "label": stem, "gain": 1.0, "notes": stem != "drums"} for stem in sounds}
        lines.append({"name": name, "split": split, "song": name, "stems": stems})
    (folder / "excerpts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
