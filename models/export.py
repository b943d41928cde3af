"""What every export into a zoo shares: a name and a folder that fit, weights that are numbers, rounding, and a move that is whole."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from rtserver import zoo
from rtserver.errors import ModelError

OPSET = 17
LICENCE = "not stated"  # of weights, unless it is said
NAME = re.compile("[A-Za-z0-9_-]+")  # of a model, and of a key that TOML takes without quotes
WORTHWHILE = 192  # inputs of a matrix; in smaller ones rounding the input takes longer than it saves


def room(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """What the manifest of a zoo has so far. Exits with a line where no model of this name can be put there."""
    if not NAME.fullmatch(name):
        raise SystemExit(f"name of a model: expected letters, digits, '_' and '-', got {name!r}: give it another --name")
    if not folder.is_dir():
        raise SystemExit(f"{folder}: expected the folder of a zoo, {'it is a file' if folder.exists() else 'there is none: make it first'}")
    if not os.access(folder, os.W_OK):
        raise SystemExit(f"{folder} cannot be written: expected the folder of a zoo of your own")
    try:
        return zoo.manifest(folder) if (folder / zoo.MANIFEST).exists() else {}
    except ModelError as e:
        raise SystemExit(str(e)) from e


def whole(network: torch.nn.Module) -> None:
    """Exits with a line if a weight is no number."""
    bad = [k for k, x in network.state_dict().items() if not torch.isfinite(x).all()]
    if bad:
        raise SystemExit(f"expected finite weights, got NaN or infinity in {', '.join(bad)}: not exported; train again at a lower --rate")


def training(form: str, checkpoint: dict[str, Any]) -> str:
    """How a network was trained, for its manifest: `form` filled in with the settings and steps of its run, and what the run began with."""
    told = checkpoint["settings"] | {"step": checkpoint["step"]}
    return form.format(**told) + (f", from {Path(told['start']).name}" if told.get("start") else "")


def quantise(files: dict[str, Path], name: str, made: str, folder: Path) -> dict[str, Path]:
    """The graphs of model `name` with int8 weights (ONNX Runtime's dynamic quantisation, a scale for each channel), as model `made`.

    Weights have 7 bits: with 8, processors without VNNI instructions (before about 2019) overflow in sums of two products. Embeddings
    and small matrices stay float: they are looked up, not run through. Returns manifest name -> file.
    """
    import onnx  # late, as the others: what is not rounded needs none of them, and quantization logs when it is imported
    from onnxruntime.quantization import QuantType, quantize_dynamic
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


def place(beside: Path, folder: Path, entries: dict[str, dict[str, Any]], made: list[str]) -> None:
    """Check that the models `made` in `beside` can be loaded, then move them into the zoo, the manifest last."""
    (beside / zoo.MANIFEST).write_text(to_toml(entries), encoding="utf-8")
    for name in made:
        zoo.load_model(name, beside)
    for file in [entries[name][k] for name in made for k in ("file", "golden") if k in entries[name]] + [zoo.MANIFEST]:
        (beside / file).replace(folder / file)


def to_toml(entries: dict[str, dict[str, Any]]) -> str:
    """A manifest as TOML: tables of strings, numbers and one-level inline tables."""

    def key(k: str) -> str:
        return k if NAME.fullmatch(k) else value(k)

    def value(x: Any) -> str:
        if isinstance(x, dict):
            return "{ " + ", ".join(f"{key(k)} = {value(y)}" for k, y in x.items()) + " }"
        if isinstance(x, list):
            return "[" + ", ".join(map(value, x)) + "]"
        if isinstance(x, str):
            return json.dumps(x, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's strings are JSON's, but for this character
        return str(x).lower() if isinstance(x, bool) else repr(x)

    tables = ("\n".join([f"[{key(name)}]", *(f"{key(k)} = {value(x)}" for k, x in entry.items())]) for name, entry in entries.items())
    return (
        "# What each model is, and the proof that the file is that model. Written by the export scripts.\n\n" + "\n\n".join(tables) + "\n"
    )
