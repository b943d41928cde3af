"""A model of the zoo with weights of a quarter of the size: ``python -m models.generation.int8 DATA ZOO NAME``.

Adds NAME-int8 beside NAME, and prints the nats a note of both on held-out notes, as the run-time steps them. (`export --int8` puts a
model into the zoo that is rounded in the first place.)
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from models.export import room
from models.generation import exported, imported, pieces
from models.generation.evaluate import sequences
from models.generation.export import GRAPHS, enter, prove, rounded
from rtserver import zoo
from rtserver.generation.note_network import NoteNetwork

N_COMPARED = 20_000  # notes
# What is true of the rounded weights, too; the figures are those of the others.
KEPT = ("licence", "hidden_size", "layers", "ticks_per_quarter", "card", "data", "split", "training", "date")


def add(folder: Path, name: str) -> str:
    """Put the int8 model of an exported one into the same zoo, with golden vectors of its own; returns its name.

    Exits with a line where there is no such model, or where it is rounded already; where it fails, the zoo stays as it was.
    """
    made = f"{name}-int8"
    entries = room(folder, made)
    network = imported.network(name, folder)
    if entries[name].get("weights") == "int8":
        raise SystemExit(f"{name} in {folder} has int8 weights already: name a model that is not rounded")
    files = {name + graph: zoo.verified_file(name + graph, folder)[0] for graph in GRAPHS}
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        files, rows = rounded(files, name, made, Path(beside), network)
        _, proof = prove(files, made, rows, "int8")
        enter(folder, made, files, {k: entries[name][k] for k in KEPT if k in entries[name]} | proof)
    return made


def compare(folder: Path, names: list[str], held_out: list[pieces.Piece], n_notes: int = N_COMPARED) -> dict[str, dict[str, float]]:
    """Nats a note of each of the models on the same notes, of pieces in a random order."""
    made = sequences(held_out, "all")
    random.Random(0).shuffle(made)
    return {name: exported.score(NoteNetwork(name, folder), made, n_notes) for name in names}


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help="the training data: both are compared on its held-out pieces")
    p.add_argument("zoo", type=Path)
    p.add_argument("name")
    args = p.parse_args()
    held_out = pieces.load(args.data)[2]
    for name, figures in compare(args.zoo, [args.name, add(args.zoo, args.name)], held_out).items():
        print(name, figures)
