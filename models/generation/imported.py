"""A network of the training side from a model of the zoo: training goes on from what is shipped, without its checkpoint.

The weights are read from the three ONNX files, float or int8 (rounded weights stay rounded, which training then mends).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.generation.network import PITCH_INPUTS, STEP_INPUTS, Network
from rtserver import zoo
from rtserver.errors import ModelError

INT8 = "_quantized"  # how the quantiser renames a weight


def network(name: str, folder: Path = zoo.FOLDER, dropout: float = 0.0) -> Network:
    """The network of model `name` in the zoo at `folder`.

    Exits with a line that says what is wrong where there is no such model, or where it is not of the present network.
    """
    try:
        loaded = [zoo.load_model(name + graph, folder) for graph in ("", "-pitch", "-duration")]
    except ModelError as e:
        raise SystemExit(str(e)) from e
    for (path, entry), wanted in zip(loaded, (STEP_INPUTS, PITCH_INPUTS), strict=False):
        missing = sorted(set(wanted) - set(entry["inputs"]))
        if missing:
            raise SystemExit(
                f"{path} was trained without {', '.join(missing)}: it plays, but the present network cannot go on from it — "
                "start from a newer model, or train without --start"
            )
    entry = loaded[0][1]
    return of_files([path for path, _ in loaded], int(entry["hidden_size"]), int(entry["layers"]), dropout)


def of_files(paths: list[Path], hidden: int, layers: int, dropout: float = 0.0) -> Network:
    """The network in the three graphs: step, pitch head, duration head."""
    made = Network(hidden, layers, dropout)
    for path, module in zip(paths, (made.step, made.pitch_head, made.duration_head), strict=True):
        _load(module, path)
    return made.eval()


def _load(module: nn.Module, path: Path) -> None:
    found = weights(path)
    wanted = module.state_dict()
    # The graph knows a linear layer by the last part of its name, as in floats.chroma.
    full = {k.rsplit(".", 2)[-2] + "." + k.rsplit(".", 1)[-1]: k for k in wanted}
    state = {full.get(k, k): torch.from_numpy(x.copy()) for k, x in found.items()}
    shapes = {k: tuple(x.shape) for k, x in wanted.items()}
    got = {k: tuple(x.shape) for k, x in state.items()}
    if got != shapes:
        differ = sorted(k for k in shapes.keys() | got.keys() if shapes.get(k) != got.get(k))
        told = ", ".join(f"{k} {got.get(k, 'missing')} instead of {shapes.get(k, 'none')}" for k in differ)
        raise SystemExit(f"{path} holds another network than the present one: {told} — start from a newer model, or train without --start")
    module.load_state_dict(state)


def weights(path: Path) -> dict[str, np.ndarray]:
    """The parameters in one graph of `export`, under torch's names (of linear layers the last two parts), float32."""
    import onnx  # late: only the training side has it
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    constant: dict[str, np.ndarray] = {x.name: numpy_helper.to_array(x) for x in graph.initializer}
    out: dict[str, np.ndarray] = {}
    for k, x in constant.items():
        if k.endswith((".bias", ".weight")):
            out[k] = x
    layer = 0
    for node in graph.node:
        given = [constant.get(k) for k in node.input]
        if node.op_type in ("MatMul", "MatMulInteger") and given[1] is not None:
            # "/chroma/MatMul", "/out/MatMul/MatMulAddFusion_MatMul_quant": the layer comes first.
            out[node.name.split("/")[1] + ".weight"] = _real(constant, node.input[1]).T
        elif node.op_type == "Gather" and node.input[0].endswith(INT8):
            out[node.input[0].removesuffix(INT8)] = _real(constant, node.input[0])
        elif node.op_type in ("LSTM", "DynamicQuantizeLSTM"):
            w, r = (_real(constant, k)[0] for k in node.input[1:3])
            if node.op_type == "DynamicQuantizeLSTM":
                w, r = w.T, r.T
            b = constant[node.input[3]][0].reshape(2, -1)
            for k, x in (("weight_ih", w), ("weight_hh", r), ("bias_ih", b[0]), ("bias_hh", b[1])):
                out[f"lstm.{k}_l{layer}"] = gates(x)
            layer += 1
    return {k: np.ascontiguousarray(x, np.float32) for k, x in out.items()}


def _real(constant: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A weight as it is meant: rounded ones times their scale, which runs along the last axis (or is one number)."""
    x: Any = constant[name]
    if not name.endswith(INT8):
        return x
    scale, zero = (constant[name.removesuffix(INT8) + k] for k in ("_scale", "_zero_point"))
    along = (slice(None), None) if x.ndim == 3 and scale.ndim == 2 else ()  # an LSTM's: (1, inputs, gates) by (1, gates)
    return (x.astype(np.float32) - zero[along].astype(np.float32)) * scale[along]


def gates(x: np.ndarray) -> np.ndarray:
    """ONNX has input, output, forget, cell; torch input, forget, cell, output."""
    i, o, f, c = np.split(x, 4)
    return np.concatenate([i, f, c, o])
