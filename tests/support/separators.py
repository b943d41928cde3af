"""Separation models made on the spot, small and random: they need the onnx package (make setup-train)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserver import zoo
from rtserver.separation.model import N_BINS, N_FEATURES, N_SCORE

F32 = np.float32
SIZES = {"features": N_FEATURES, "prior": N_BINS, "score": N_SCORE}
STATE = 8


def make(
    folder: Path,
    name: str = "tiny",
    *,
    stems: tuple[str, ...] = ("drums", "bass", "other"),
    heard: tuple[str, ...] = ("features", "prior"),
    seed: int = 0,
    gain: float = 1.0,
    poison: bool = False,
    facts: dict[str, Any] | None = None,
) -> Path:
    """A network with one state, of which it forgets a half in a hop: ``NAME.onnx``, its entry added to the manifest of `folder`.

    masks = sigmoid(gain · state · V + prior part); with `poison` they are NaN while the first feature (a log energy) is above 0. `facts`
    replace what the manifest says; None takes it away.
    """
    import onnx
    from onnx import helper

    rng = np.random.default_rng(seed)
    n_masks = len(stems) - 1
    folder.mkdir(exist_ok=True)

    def tensor(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    constants = {"V": (rng.standard_normal((STATE, n_masks * N_BINS)) * gain).astype(F32), "half": np.array(0.5, F32)}
    nodes, parts = [], []
    for k in heard:
        constants[f"W_{k}"] = (rng.standard_normal((SIZES[k], STATE)) / SIZES[k] ** 0.5 / 4).astype(F32)
        nodes.append(helper.make_node("MatMul", [k, f"W_{k}"], [f"in_{k}"]))
        parts.append(f"in_{k}")
    nodes += [
        helper.make_node("Sum", parts, ["sum"]),
        helper.make_node("Tanh", ["sum"], ["new"]),
        helper.make_node("Mul", ["h", "half"], ["kept"]),
        helper.make_node("Add", ["kept", "new"], ["h_out"]),
        helper.make_node("MatMul", ["h_out", "V"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["flat_masks"]),
        helper.make_node("Reshape", ["flat_masks", "shape"], ["clean" if poison else "masks"]),
    ]
    constants["shape"] = np.array([n_masks, N_BINS])
    if poison:
        constants |= {"zero": np.zeros(1, F32), "first": np.array([0]), "nan": np.array([np.nan], F32)}
        nodes += [
            helper.make_node("Gather", ["features", "first"], ["energy"], axis=1),
            helper.make_node("Greater", ["energy", "zero"], ["loud"]),
            helper.make_node("Where", ["loud", "nan", "clean"], ["masks"]),
        ]
    inputs = [*(tensor(k, 1, SIZES[k]) for k in heard), tensor("h", 1, STATE)]
    outputs = [tensor("masks", n_masks, N_BINS), tensor("h_out", 1, STATE)]
    initialisers = [onnx.numpy_helper.from_array(x, k) for k, x in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    describe(path, name, stems, facts or {})
    return path


def describe(path: Path, name: str, stems: tuple[str, ...], facts: dict[str, Any]) -> None:
    """Add the entry of a file to the manifest beside it."""
    session = zoo.open_session(path)
    entry: dict[str, Any] = {
        "file": path.name,
        "sha256": zoo.sha256_of(path),
        "kind": "separation",
        "inputs": zoo.signature(session.get_inputs()),
        "outputs": zoo.signature(session.get_outputs()),
        "stems": list(stems),
        "window_size": 2048,
        "network_hop": 256,
        "hops": [128, 256],
        "sample_rates": [44100, 48000],
        "hpss": {"n_past": 5, "n_around": 5},
        "licence": "MIT",
    } | facts
    lines = [f"[{name}]"]
    for key, value in entry.items():
        if isinstance(value, dict):
            lines.append(f"{key} = {{ {', '.join(f'{k} = {v!r}' for k, v in value.items())} }}".replace("'", '"'))
        elif value is not None:
            lines.append(f"{key} = {value!r}".replace("'", '"'))
    with (path.parent / zoo.MANIFEST).open("a") as manifest:
        manifest.write("\n".join(lines) + "\n\n")
