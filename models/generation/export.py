"""Put a checkpoint into the zoo: ``python -m models.generation.export DATA FOLDER ZOO``.

Writes three ONNX graphs (the LSTM step with the dt head, the pitch head, the duration head: a sampled event needs one run of each),
their manifest entries, golden vectors computed by torch, and the figures on the held-out pieces. ONNX Runtime must reproduce torch before
anything is kept. With ``--int8`` the weights are rounded, the golden vectors are torch's with the rounded weights, and ONNX
Runtime, which rounds what runs through, too, must come as near as `CLOSE_INT8`.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.export import LICENCE, OPSET, place, quantise, room, training, whole
from models.generation import imported, pieces
from models.generation.evaluate import evaluate, order_0
from models.generation.network import DURATION_INPUTS, PITCH_INPUTS, STEP_INPUTS, STEP_OUTPUTS, Network
from models.generation.train import FILE, restore
from rtserver import zoo
from rtserver.generation import vocabulary as v

GOLDEN_STEPS = 8
CLOSE, CLOSE_INT8 = 1e-5, 0.1  # how far ONNX Runtime's logits may be from torch's


def golden(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """A short run by torch: inputs and outputs of every step, on the first axis. The network draws the events; conditions come half-way."""
    rng = np.random.default_rng(seed)
    event, tick, down = v.NoteEvent(0, v.START, v.UNKNOWN_DURATION), 0, np.zeros(v.N_PITCH, np.int64)
    h, c = network.start(1)
    rows: dict[str, list[np.ndarray]] = {}

    def word(x: int) -> Tensor:
        return torch.tensor([[x]])

    def floats(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x.astype(np.float32))[None, None]

    def keep(**tensors: Tensor) -> None:
        for k, t in tensors.items():
            rows.setdefault(k, []).append(t.numpy().copy())

    with torch.no_grad():
        for i in range(GOLDEN_STEPS):
            told = i >= GOLDEN_STEPS // 2
            bar, metre = v.bar_place(tick, 24, 72) if told else (0, 0)
            words = (*event, tick % v.N_PHASE, bar, metre, i % len(v.TEXTURES), i % len(v.PARTS))
            chroma = floats(v.condition(rng.random(12) if told else None))
            ahead = floats(v.ahead(rng.random(24) if told else None))
            controls = floats(v.controls(3.0, 55.0) if told else v.controls())
            inputs = (*map(word, words), chroma, ahead, controls, floats(down > tick), h, c)
            keep(**dict(zip(STEP_INPUTS, inputs, strict=True)))
            dt_logits, features, h, c = network.step(*inputs)
            keep(**dict(zip(STEP_OUTPUTS, (dt_logits, features, h, c), strict=True)))
            dt = int(rng.choice(v.N_DT, p=_softmax(dt_logits)))
            tick += dt
            phase, bar = word(tick % v.N_PHASE), word(v.bar_place(tick, 24, 72)[0] if told else 0)
            sounding = floats(down > tick)
            pitch_logits = network.pitch_head(features, word(dt), phase, bar, word(event.pitch), chroma, ahead, sounding)
            pitch = int(rng.choice(v.N_PITCH, p=_softmax(pitch_logits)))
            duration_logits = network.duration_head(features, word(dt), phase, bar, word(pitch))
            duration = max(1, int(rng.choice(v.N_DURATION, p=_softmax(duration_logits))))
            keep(next_dt=word(dt), next_phase=phase, next_bar=bar, next_pitch=word(pitch), next_sounding=sounding)
            keep(last=word(event.pitch), pitch_logits=pitch_logits, duration_logits=duration_logits)
            event = v.NoteEvent(dt, pitch, duration)
            down[pitch] = max(down[pitch], tick + duration)
    return {k: np.stack(a) for k, a in rows.items()}


def _softmax(logits: Tensor) -> np.ndarray:
    return torch.softmax(logits.double().flatten(), 0).numpy()


GRAPHS = {
    "": (STEP_INPUTS, STEP_OUTPUTS),
    "-pitch": (PITCH_INPUTS, ("pitch_logits",)),
    "-duration": (DURATION_INPUTS, ("duration_logits",)),
}


def inputs_of(graph: str, row: dict[str, Any]) -> dict[str, Any]:
    """What the graph takes, from a row of the golden vectors: the heads take what comes next."""
    names = GRAPHS[graph][0]
    return {k: row[f"next_{k}"] if graph and f"next_{k}" in row else row[k] for k in names}


def graphs(network: Network, name: str, rows: dict[str, np.ndarray], folder: Path) -> dict[str, Path]:
    """Write the three graphs; returns manifest name -> file."""
    row = {k: torch.from_numpy(a[0]) for k, a in rows.items()}
    made: dict[str, Path] = {}
    for graph, module in zip(GRAPHS, (network.step, network.pitch_head, network.duration_head), strict=True):
        path = made[name + graph] = folder / f"{name}{graph}.onnx"
        given = inputs_of(graph, row)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracing exporter is deprecated, yet it is the one that carries LSTM state well
            torch.onnx.export(
                module, tuple(given.values()), str(path), dynamo=False, opset_version=OPSET,
                input_names=list(given), output_names=list(GRAPHS[graph][1]),
            )  # fmt: skip
    return made


def replay(files: dict[str, Path], name: str, rows: dict[str, np.ndarray]) -> float:
    """Largest difference between ONNX Runtime and the golden vectors, over all outputs and steps."""
    worst = 0.0
    for graph, (_, outputs) in GRAPHS.items():
        session = zoo.open_session(files[name + graph])
        for i in range(GOLDEN_STEPS):
            row = {k: a[i] for k, a in rows.items()}
            for k, x in zip(outputs, session.run(list(outputs), inputs_of(graph, row)), strict=True):
                worst = float(np.maximum(worst, np.abs(x - row[k]).max()))  # max() would pass over NaN
    return worst


def export(  # noqa: PLR0917
    network: Network, folder: Path, name: str, facts: dict[str, Any], figures: dict[str, Any], weights: str = "float32"
) -> float:
    """Write graphs, golden vectors and manifest entries into `folder`; returns the largest difference to torch.

    weights : "float32" or "int8"
    """
    network = network.eval().cpu()
    room(folder, name)
    whole(network)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        rows = golden(network)
        files = graphs(network, name, rows, Path(beside))
        if weights == "int8":
            files, rows = rounded(files, name, name, Path(beside), network)
        worst, proof = prove(files, name, rows, weights)
        shape = {"hidden_size": network.hidden, "layers": network.layers, "ticks_per_quarter": v.TICKS_PER_QUARTER}
        facts = {"card": f"{name}.md", **facts} | {f"nats_{task}": scores for task, scores in figures.items()}
        enter(folder, name, files, shape | proof | facts)
    return worst


def rounded(files: dict[str, Path], name: str, made: str, beside: Path, network: Network) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """The graphs of model `name` with int8 weights as model `made`, in a folder below `beside`, and torch's golden vectors with these.

    network : of the same shape
    """
    folder = beside / "int8"
    folder.mkdir()
    files = quantise(files, name, made, folder)
    return files, golden(imported.of_files(list(files.values()), network.hidden, network.layers))


def prove(files: dict[str, Path], name: str, rows: dict[str, np.ndarray], weights: str) -> tuple[float, dict[str, Any]]:
    """Write the golden vectors beside the graphs; returns the largest difference to them, and what the manifest says of the proof.

    Exits with a line where ONNX Runtime differs by more than such weights (see `export`) may.
    """
    close = CLOSE_INT8 if weights == "int8" else CLOSE
    worst = replay(files, name, rows)
    if not worst <= close:
        raise SystemExit(f"ONNX Runtime differs from torch by {worst:.2e}, expected at most {close:g}: not exported")
    file = f"{name}.golden.npz"
    np.savez_compressed(files[name].parent / file, **rows)
    return worst, {"weights": weights, "golden": file, "golden_within": close}


def enter(folder: Path, name: str, files: dict[str, Path], facts: dict[str, Any]) -> None:
    """Write the manifest entries of a model, whose files are all in one folder, and check that it can be loaded."""
    entries = room(folder, name)
    for key, path in files.items():
        session = zoo.open_session(path)
        entries[key] = {
            "file": path.name, "sha256": zoo.sha256_of(path), "kind": "note_events",
            "inputs": zoo.signature(session.get_inputs()), "outputs": zoo.signature(session.get_outputs()),
            "licence": facts.get("licence", LICENCE),
        }  # fmt: skip
        if key == name:
            entries[key] |= facts
        else:
            entries[key]["part_of"] = name
    place(files[name].parent, folder, entries, list(files))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help="the training data: the figures are measured on its held-out pieces")
    p.add_argument("checkpoint", type=Path, help="folder of the run")
    p.add_argument("zoo", type=Path)
    p.add_argument("--name", default="performer")
    p.add_argument("--only", help="as in training: pieces with this in their name")
    p.add_argument("--int8", action="store_true", help="weights of a quarter of the size: a run takes half as long where they are many")
    p.add_argument(
        "--source", help=f"what it was trained on and under which licence, for the manifest (default: {pieces.ORIGIN}, where DATA is that)"
    )
    p.add_argument("--licence", default=LICENCE, help="of the weights (default: %(default)s)")
    return p


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    room(args.zoo, args.name)
    network, checkpoint = restore(args.checkpoint / FILE)
    train, _, held_out = pieces.load(args.data, args.only)
    figures = {"order_0": order_0(train, held_out)} | evaluate(network, held_out)
    facts = {
        "licence": args.licence,
        "data": args.source or pieces.origin(args.data),
        "split": f"{pieces.HELD_OUT:.0%} of the pieces of each file held out, seed {pieces.SPLIT_SEED}",
        "training": training("{step} steps of {batch} x {window} events, seed {seed}", checkpoint),
        "date": datetime.date.today().isoformat(),
    }
    worst = export(network, args.zoo, args.name, facts, figures, "int8" if args.int8 else "float32")
    print(f"exported {args.name} to {args.zoo}; ONNX Runtime differs from torch by at most {worst:.1e}")
    print(figures)


if __name__ == "__main__":
    main(parser().parse_args())
