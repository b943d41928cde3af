"""A network of the training side from an exported one: training goes on from a model of the zoo, without its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.generation.imported import INT8, gates
from models.separation.network import N_NODES, STEMS, Network
from rtserver import zoo
from rtserver.errors import ModelError


def network(start: str) -> Network:
    """The network in an ONNX file, or in a model of the zoo (NAME, or FOLDER/NAME of another zoo than rtserver's).

    Exits with a line that says what is wrong where there is none, or where it is not of the present network.
    """
    path = Path(start)
    if path.suffix == ".onnx":
        return of_file(path)
    folder = zoo.FOLDER if path.name == start else path.parent
    if path.is_dir() or not (folder / zoo.MANIFEST).exists():
        raise SystemExit(f"{path} is neither the folder of a run, nor an ONNX file, nor a model of a zoo: name one of them")
    try:
        return of_file(zoo.load_model(path.name, folder)[0])
    except ModelError as e:
        raise SystemExit(str(e)) from e


def _instead(path: Path) -> str:
    """What to start from instead of a file with rounded weights: a model with float weights beside it that has its stems, if any."""
    told = zoo.manifest(path.parent) if (path.parent / zoo.MANIFEST).exists() else {}
    stems = next((e.get("stems") for e in told.values() if e.get("file") == path.name), None)
    for name, e in sorted(told.items(), key=lambda x: x[1].get("stems") != stems):
        if stems and e.get("weights") == "float32" and e.get("kind") == "separation":
            start = name if path.parent == zoo.FOLDER else str(path.parent / name)
            if e.get("stems") == stems:
                return start
            if stems == list(STEMS["hp"]):  # which every network has in it
                return f"{start} with --stems hp"
    return "the run that it was exported from"


def of_file(path: Path) -> Network:
    """The network in a graph of `export`, float."""
    import onnx  # late: only the training side has it
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
    except Exception as e:  # onnx raises a class of its own for each way a file can be wrong
        raise SystemExit(f"{path} cannot be read as an ONNX model: {e}") from e
    constant = {x.name: numpy_helper.to_array(x) for x in graph.initializer}
    if any(name.endswith(INT8) for name in constant):
        raise SystemExit(f"{path} has rounded weights: start from {_instead(path)}")
    found: dict[str, np.ndarray] = {}
    for name, x in constant.items():
        if name.startswith("network."):
            found[name.removeprefix("network.")] = x
    layer = 0
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constant:
            found[node.name.split("/")[-2] + ".weight"] = constant[node.input[1]].T  # "/network/embed/MatMul"
        elif node.op_type == "LSTM":
            w, r, b = (constant[k][0] for k in node.input[1:4])
            for name, x in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (w, r, *b.reshape(2, -1)), strict=True):
                found[f"lstm.{name}_l{layer}"] = gates(x)
            layer += 1
    values = len(found.get("head.bias", ())) // N_NODES
    stems = next((name for name, of in STEMS.items() if len(of) == values), None)
    hidden = len(found["embed.bias"]) if "embed.bias" in found else 0
    if stems is None or not hidden or not layer:
        raise SystemExit(f"{path} is not a separation network of rtserver: export it with models.separation.export")
    made = Network(stems, hidden, layer)
    wanted = made.state_dict()
    state = {k: torch.from_numpy(np.array(x, np.float32, order="C")) for k, x in found.items() if k in wanted}
    differ = sorted(k for k in wanted if k not in state or state[k].shape != wanted[k].shape)
    if differ:
        raise SystemExit(f"{path} holds another network than the present one: {', '.join(differ)} differ — train without --start")
    made.load_state_dict(state)
    return made.eval()
