"""Short clips whose stems are known, made on the spot: noise bursts, a low and high tones, a voice that comes late."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 44100


def stems(seconds: float, seed: int) -> dict[str, np.ndarray]:
    """(2, frames) each; drums are silent in the second second, the voice in the first."""
    rng, at_s = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    hits = np.exp(-40.0 * (at_s % 0.25)) * rng.standard_normal(len(at_s)) * 0.2 * ~((at_s >= 1.0) & (at_s < 2.0))
    pitches = {"bass": 80.0, "other": 660.0, "vocals": 990.0}
    tones = {name: 0.1 * np.sin(2 * np.pi * hz * (1 + 0.02 * seed) * at_s) for name, hz in pitches.items()}
    tones["vocals"] *= at_s >= 1.0
    return {name: np.stack([x, 0.7 * x]).astype(np.float32) for name, x in {"drums": hits, **tones}.items()}


def write(folder: Path, sounds: dict[str, np.ndarray], mixture: bool = False) -> Path:
    """One clip; as MUSDB18-HQ has it, with its mixture."""
    folder.mkdir(parents=True)
    for name, x in (sounds | ({"mixture": np.sum(list(sounds.values()), axis=0)} if mixture else {})).items():
        soundfile.write(folder / f"{name}.wav", x.T, RATE, subtype="FLOAT")
    return folder
