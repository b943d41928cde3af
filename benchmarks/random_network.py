"""A separation network of any size with random weights, to measure what a size costs. Needs onnx (make setup-train)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserver import zoo
from rtserver.separation.model import KIND, N_BINS, N_FEATURES, NETWORK_HOP, WINDOW_SIZE

STEMS = ("drums", "bass", "other")
# (networks side by side, LSTM layers, width). small: one LSTM of two layers. large: 41.9 million weights, as many as X-UMX with a width of
# 512 (R. Sawata et al., ICASSP 2021: one network of three layers for each of four stems), here with layers that look back only.
SIZES = {"small": (1, 2, 224), "large": (4, 3, 610)}


def random_network(folder: Path, size: str) -> tuple[Path, int]:
    """Write ``random-SIZE.onnx`` and its manifest entry into `folder`; returns the file and how many weights it has.

    Each network: features and prior, a linear layer, LSTM layers, a linear layer; the masks are a softmax over the networks' sum.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise SystemExit("onnx is not installed: make setup-train") from None
    n_networks, n_layers, width = SIZES[size]
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {"square": np.array([1, 1, width]), "flat": np.array([1, width])}
    nodes, states, outs = [], [], []

    def weights(name: str, *shape: int) -> str:
        constants[name] = (rng.standard_normal(shape, dtype=np.float32) / np.float32(shape[-1] ** 0.5)).astype(np.float32)
        return name

    def node(kind: str, inputs: list[str], outputs: list[str], **more: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, outputs, **more))
        return outputs[0]

    heard = node("Concat", ["features", "prior"], ["heard"], axis=1)
    for n in range(n_networks):
        x = node("MatMul", [heard, weights(f"in{n}", N_FEATURES + N_BINS, width)], [f"x{n}"])
        x = node("Reshape", [node("Tanh", [x], [f"t{n}"]), "square"], [f"s{n}"])
        for k in range(n_layers):
            name = f"{n}_{k}"
            states += [f"h{name}", f"c{name}"]
            of = [weights(f"W{name}", 1, 4 * width, width), weights(f"R{name}", 1, 4 * width, width), weights(f"B{name}", 1, 8 * width)]
            node("LSTM", [x, *of, "", f"h{name}", f"c{name}"], [f"y{name}", f"h{name}_out", f"c{name}_out"], hidden_size=width)
            x = f"h{name}_out"
        x = node("Reshape", [x, "flat"], [f"f{n}"])
        n_out = (len(STEMS) - 1) * N_BINS
        outs.append(node("MatMul", [x, weights(f"out{n}", width, n_out if n_networks == 1 else n_out // 2)], [f"m{n}"]))
    if n_networks == 1:
        logits = outs[0]
    else:  # two networks speak of each mask
        pairs = [node("Add", outs[k::2], [f"p{k}"]) for k in range(2)]
        logits = node("Concat", pairs, ["logits"], axis=1)
    constants["masks_shape"] = np.array([len(STEMS) - 1, N_BINS])
    node("Reshape", [node("Sigmoid", [logits], ["shares"]), "masks_shape"], ["masks"])

    def tensor(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    inputs = [tensor("features", 1, N_FEATURES), tensor("prior", 1, N_BINS), *(tensor(name, 1, 1, width) for name in states)]
    outputs = [tensor("masks", len(STEMS) - 1, N_BINS), *(tensor(f"{name}_out", 1, 1, width) for name in states)]
    initialisers = [onnx.numpy_helper.from_array(x, name) for name, x in constants.items()]
    graph = helper.make_graph(nodes, size, inputs, outputs, initialisers)
    path = folder / f"random-{size}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    _describe(path, inputs, outputs)
    return path, sum(x.size for x in constants.values() if x.dtype == np.float32)


def _describe(path: Path, inputs: list[Any], outputs: list[Any]) -> None:
    """Add its entry to the manifest beside it."""

    def ends(values: list[Any]) -> str:
        shapes = ((v.name, ",".join(str(d.dim_value) for d in v.type.tensor_type.shape.dim)) for v in values)
        return "{ " + ", ".join(f'{name} = "float32[{shape}]"' for name, shape in shapes) + " }"

    lines = [
        f"[{path.stem}]",
        f'file = "{path.name}"',
        f'sha256 = "{zoo.sha256_of(path)}"',
        f'kind = "{KIND}"',
        f"inputs = {ends(inputs)}",
        f"outputs = {ends(outputs)}",
        f"stems = {list(STEMS)}".replace("'", '"'),
        f"window_size = {WINDOW_SIZE}",
        f"network_hop = {NETWORK_HOP}",
        "hops = [128, 256]",
        "sample_rates = [44100, 48000]",
        "hpss = { n_past = 15, past_step = 2, n_around = 17 }",
    ]
    with (path.parent / zoo.MANIFEST).open("a") as manifest:
        manifest.write("\n".join(lines) + "\n\n")
