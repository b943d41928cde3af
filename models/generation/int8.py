"""A model of the zoo with weights of a quarter of the size: ``python -m models.generation.int8 DATA ZOO NAME``.

Adds NAME-int8 beside NAME, and prints the nats a note of both on held-out notes, as the run-time steps them. (`export --int8` puts a
model into the zoo that is rounded in the first place.)
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from models.generation import exported, pieces
from models.generation.evaluate import sequences
from models.generation.export import GRAPHS, enter, room
from rtserver import zoo
from rtserver.errors import ModelError
from rtserver.generation.note_network import NoteNetwork

N_COMPARED = 20_000  # notes
WORTHWHILE = 192  # inputs of a matrix; in smaller ones rounding the input takes longer than it saves


def quantise(files: dict[str, Path], name: str, made: str, folder: Path) -> dict[str, Path]:
    """The graphs of model `name` with int8 weights (ONNX Runtime's dynamic quantisation, a scale for each channel), as model `made`.

    Weights have 7 bits: with 8, processors without VNNI instructions (before about 2019) overflow in sums of two products. Embeddings
    and small matrices stay float: they are looked up, not run through. Returns manifest name -> file.
    """
    import onnx  # late: only the training side has it
    from onnxruntime.quantization import QuantType, quantize_dynamic  # late: it logs when it is imported
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out: dict[str, Path] = {}
    for key, path in files.items():
        graph = key.removeprefix(name)
        target = out[made + graph] = folder / f"{made}{graph}.onnx"
        with tempfile.TemporaryDirectory() as beside:
            prepared = Path(beside) / path.name
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            graph_proto = onnx.load(str(prepared)).graph
            shapes = {x.name: x.dims for x in graph_proto.initializer}
            small = [n.name for n in graph_proto.node if n.op_type == "MatMul" and shapes.get(n.input[1], (WORTHWHILE,))[0] < WORTHWHILE]
            quantize_dynamic(
                prepared, target, op_types_to_quantize=["LSTM", "MatMul"], nodes_to_exclude=small,
                per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
            )  # fmt: skip
    return out


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
