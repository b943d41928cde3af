"""A model of the zoo with weights of a quarter of the size: ``python -m models.generation.int8 DATA ZOO NAME``.

Adds NAME-int8 beside NAME, and prints the nats a note of both on held-out notes, as the run-time steps them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from models.generation import exported, pieces
from models.generation.evaluate import sequences
from models.generation.export import GRAPHS, enter
from rtserver import zoo
from rtserver.generation.note_network import NoteNetwork

N_COMPARED = 20_000  # notes


def quantise(files: dict[str, Path], name: str) -> dict[str, Path]:
    """The same graphs with int8 weights (ONNX Runtime's dynamic quantisation, a scale for each channel); manifest name -> file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # late: it logs when it is imported
    from onnxruntime.quantization.shape_inference import quant_pre_process

    made: dict[str, Path] = {}
    for key, path in files.items():
        graph = key.removeprefix(name)
        target = made[f"{name}-int8{graph}"] = path.with_name(f"{name}-int8{graph}.onnx")
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / path.name
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantize_dynamic(prepared, target, per_channel=True, weight_type=QuantType.QInt8)
    return made


def add(folder: Path, name: str) -> str:
    """Put the int8 model of an exported one into the same zoo; returns its name."""
    entry = zoo.manifest(folder)[name]
    made = quantise({name + graph: zoo.load_model(name + graph, folder)[0] for graph in GRAPHS}, name)
    kept = ("hidden_size", "layers", "ticks_per_quarter", "card", "data", "split", "training", "date")
    enter(folder, f"{name}-int8", made, {k: entry[k] for k in kept if k in entry})
    return f"{name}-int8"


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
    for name, figures in compare(args.zoo, [args.name, add(args.zoo, args.name)], pieces.load(args.data)[2]).items():
        print(name, figures)
