"""Whom a model that was trained on a pool has to thank: lines for its card, by what is in the pool."""

from __future__ import annotations

from pathlib import Path

from models.separation.pool import read_index

SAMPLES = """\
Drum samples: MuldjordKit by Lars Muldjord (recorded 2010), distributed by the DrumGizmo team, SFZ edition v1.0 mapped and converted by
kinwie (https://github.com/sfzinstruments/DrumGizmo.MuldjordKit). Licensed under CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/). Changes: microphones mixed to stereo, trimmed, faded, normalised, converted to 16 bit.
Bass, double bass and guitar: Karoryfer Lecolds (CC0 1.0). Body percussion: sfzinstruments/body_percussion (CC0 1.0). Piano: Splendid
Grand Piano, AKAI (public domain, as stated by sfzinstruments/SplendidGrandPiano)."""
ONE_SHOTS = "Loops, electronic one-shots and synth basses: the samples of Sonic Pi (CC0 1.0)."
SONGS = "Songs: Freedoom, Copyright © 2001-2024 contributors to the Freedoom project (BSD 3-Clause)."
FONTS = {
    "FluidR3_GM": "Sound font: FluidR3 GM, Copyright © 2000-2002, 2008 Frank Wen (MIT).",
    "MuseScore_General": "Sound font: MuseScore General, Copyright © 2018-2021 S. Christian Collins, and FluidR3 Mono (MIT).",
}


def attribution(pool: Path) -> list[str]:
    """The lines that the licences ask for, and the thanks that they do not ask for."""
    lines = read_index(pool)
    sources = {part["source"] for line in lines for part in line["stems"].values()}
    labels = {part["label"].split(":")[0] for line in lines for part in line["stems"].values() if part["source"] == "soundfont"}
    told = [SAMPLES] if "samples" in sources else []
    told += [ONE_SHOTS] if sources & {"samples", "loops"} else []
    told += [SONGS] if any(line["song"].startswith("midi/") for line in lines) else []
    for name in sorted(labels):
        told.append(next((text for start, text in FONTS.items() if name.startswith(start)), f"Sound font: {name}."))
    told += [f"Recordings: {name}." for name in sorted({line["dataset"] for line in lines if "dataset" in line})]
    return told
