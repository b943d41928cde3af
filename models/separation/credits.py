"""What a model was trained on and whom it has to thank: lines for its manifest and card, by what is in the pool.

Nothing is said that is not known: songs and recordings bring no licence with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.separation.pool import read_index, read_sources
from rtserver import zoo

# What the licence of a collection asks for, or thanks that it does not ask for, by how its line in a pool's sources begins.
SAMPLES = {
    "MuldjordKit": (
        "Drum samples: MuldjordKit by Lars Muldjord (recorded 2010), distributed by the DrumGizmo team, SFZ edition v1.0 mapped and "
        "converted by kinwie (https://github.com/sfzinstruments/DrumGizmo.MuldjordKit). Licensed under CC BY 4.0 "
        "(https://creativecommons.org/licenses/by/4.0/). Changes: microphones mixed to stereo, trimmed, faded, normalised, "
        "converted to 16 bit."
    ),
    "SplendidGrandPiano": "Piano: Splendid Grand Piano, AKAI (public domain, as stated by sfzinstruments/SplendidGrandPiano).",
    "sonic-pi": "Loops, electronic one-shots and synth basses: the samples of Sonic Pi (CC0 1.0).",
}
FONTS = {
    "FluidR3_GM": "Sound font: FluidR3 GM, Copyright © 2000-2002, 2008 Frank Wen (MIT).",
    "MuseScore_General": "Sound font: MuseScore General, Copyright © 2018-2021 S. Christian Collins, and FluidR3 Mono (MIT).",
}
NO_SONG = ("pattern", "loops")


def attribution(pool: Path) -> list[str]:
    """What is in a pool."""
    lines = read_index(pool)
    rendered = [line for line in lines if "dataset" not in line]
    parts = [part for line in rendered for part in line["stems"].values()]
    sources = {part["source"] for part in parts}
    told: list[str] = []
    if sources & {"samples", "loops"}:
        for name in read_sources(pool):
            told.append(next((text for start, text in SAMPLES.items() if name.startswith(start)), f"Samples: {name}."))
    if sources & {"electronic", "synthesis"}:
        told.append("Synthesised sounds.")
    if any(line["song"] not in NO_SONG for line in rendered):
        told.append("Songs: MIDI files (licence not stated).")
    for name in sorted({part["label"].split(":")[0] for part in parts if part["source"] == "soundfont"}):
        told.append(next((text for start, text in FONTS.items() if name.startswith(start)), f"Sound font: {name} (licence not stated)."))
    return told + [f"Recordings: {name} (licence not stated)." for name in sorted({line["dataset"] for line in lines if "dataset" in line})]


def of_model(start: str, file: str) -> list[str]:
    """What a model was trained on: of a run, by its checkpoint `file`; of a model of a zoo or an ONNX file, by the manifest there."""
    path = Path(start)
    unknown = [f"What {path.name} was trained on is not on record."]
    if (path / file).exists():
        from models import loop  # late: what is in a pool is told without torch

        return loop.read(path / file)["settings"].get("data") or unknown
    entry = _entry(start)
    return [entry["data"]] if entry.get("data") else unknown


def licence(start: str, file: str) -> str | None:
    """Under which licence the weights are, by the manifest of a model of a zoo or an ONNX file. None: of a run nobody has said it yet."""
    return None if (Path(start) / file).exists() else _entry(start).get("licence")


def _entry(start: str) -> dict[str, Any]:
    path = Path(start)
    folder = zoo.FOLDER if path.name == start and path.suffix != ".onnx" else path.parent
    entries = zoo.manifest(folder) if (folder / zoo.MANIFEST).exists() else {}
    return next((e for name, e in entries.items() if path.name in (name, e.get("file"))), {})


def of_training(pool: Path, start: str | None, checkpoint: Path, resumed: bool) -> list[str]:
    """What a training hears: what is in its pool, what the model heard that it goes on from, and what was heard up to `checkpoint`."""
    before = of_model(str(checkpoint.parent), checkpoint.name) if resumed and checkpoint.exists() else []
    return list(dict.fromkeys([*attribution(pool), *(of_model(start, checkpoint.name) if start else []), *before]))
