"""A model of the zoo with weights of a quarter of the size: ``python -m models.generation.int8 DATA ZOO NAME``.

Adds NAME-int8 beside NAME, and prints the nats a note of both on held-out notes, as the run-time steps them. (`export --int8` puts a
model into the zoo that is rounded in the first place.)
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from models.export import quantise, room
from models.generation import exported, pieces
from models.generation.evaluate import sequences
from models.generation.export import GRAPHS, enter
from rtserver import zoo
from rtserver.errors import ModelError
from rtserver.generation.note_network import NoteNetwork

N_COMPARED = 20_000  # notes


def add(folder: Path, name: str) -> str:
    """Put the int8 model of an exported one into the same zoo; returns its name.

    Exits with a line where there is no such model; where it fails, the zoo stays as it was.
    """
    rounded = f"{name}-int8"
    entries = room(folder, rounded)
    try:
        files = {name + graph: zoo.load_model(name + graph, folder)[0] for graph in GRAPHS}
    except ModelError as e:
        raise SystemExit(str(e)) from e
    kept = ("hidden_size", "layers", "ticks_per_quarter", "card", "data", "split", "training", "date")
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        made = quantise(files, name, rounded, Path(beside))
        enter(folder, rounded, made, {k: entries[name][k] for k in kept if k in entries[name]})
    return rounded


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
