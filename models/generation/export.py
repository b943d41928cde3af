"""Put a checkpoint into the zoo: ``python -m models.generation.export DATA CHECKPOINT ZOO``.

Writes three ONNX graphs (the LSTM step with the dt head, the pitch head, the duration head: a sampled event needs one run of each),
their manifest entries, golden vectors computed by torch, and the figures on the held-out pieces. ONNX Runtime must reproduce torch before
anything is kept.
"""

from __future__ import annotations

import argparse
import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.generation import data
from models.generation.evaluate import evaluate, order_0
from models.generation.network import Network
from models.generation.train import restore
from rtserver import zoo
from rtserver.generation import vocabulary as v

OPSET = 17
LICENCE = "MIT"
DATA = "OpenScore Lieder and OpenScore String Quartets, CC0 1.0"
GOLDEN_STEPS = 8
STEP_INPUTS = ("dt", "pitch", "duration", "phase", "texture", "chroma", "h", "c")
STEP_OUTPUTS = ("dt_logits", "features", "h_out", "c_out")
PITCH_INPUTS = ("features", "dt", "phase", "chroma")
DURATION_INPUTS = ("features", "dt", "phase", "pitch")


def golden(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """A short run by torch: inputs and outputs of every step, on the first axis. The network draws the events; chroma comes half-way."""
    rng = np.random.default_rng(seed)
    event, tick = v.NoteEvent(0, v.START, v.UNKNOWN_DURATION), 0
    h, c = network.start(1)
    rows: dict[str, list[np.ndarray]] = {}

    def whole(x: int) -> Tensor:
        return torch.tensor([[x]])

    def keep(**tensors: Tensor) -> None:
        for k, t in tensors.items():
            rows.setdefault(k, []).append(t.numpy().copy())

    with torch.no_grad():
        for i in range(GOLDEN_STEPS):
            chroma = torch.from_numpy(v.condition(rng.random(12) if i >= GOLDEN_STEPS // 2 else None))[None, None]
            inputs = (
                whole(event.dt),
                whole(event.pitch),
                whole(event.duration),
                whole(tick % v.N_PHASE),
                whole(i % len(v.TEXTURES)),
                chroma,
                h,
                c,
            )
            keep(**dict(zip(STEP_INPUTS, inputs, strict=True)))
            dt_logits, features, h, c = network.step(*inputs)
            keep(**dict(zip(STEP_OUTPUTS, (dt_logits, features, h, c), strict=True)))
            dt = int(rng.choice(v.N_DT, p=_softmax(dt_logits)))
            tick += dt
            pitch_logits = network.pitch_head(features, whole(dt), whole(tick % v.N_PHASE), chroma)
            pitch = int(rng.choice(v.N_PITCH, p=_softmax(pitch_logits)))
            duration_logits = network.duration_head(features, whole(dt), whole(tick % v.N_PHASE), whole(pitch))
            duration = max(1, int(rng.choice(v.N_DURATION, p=_softmax(duration_logits))))
            keep(
                next_dt=whole(dt),
                next_phase=whole(tick % v.N_PHASE),
                next_pitch=whole(pitch),
                pitch_logits=pitch_logits,
                duration_logits=duration_logits,
            )
            event = v.NoteEvent(dt, pitch, duration)
    return {k: np.stack(a) for k, a in rows.items()}


def _softmax(logits: Tensor) -> np.ndarray:
    return torch.softmax(logits.double().flatten(), 0).numpy()


def graphs(network: Network, name: str, rows: dict[str, np.ndarray], folder: Path) -> dict[str, Path]:
    """Write the three graphs; returns manifest name -> file."""
    row = {k: torch.from_numpy(a[0]) for k, a in rows.items()}
    nexts = {"dt": row["next_dt"], "phase": row["next_phase"], "pitch": row["next_pitch"]}
    made: dict[str, Path] = {}
    for suffix, module, inputs, outputs in (
        ("", network.step, STEP_INPUTS, STEP_OUTPUTS),
        ("-pitch", network.pitch_head, PITCH_INPUTS, ("pitch_logits",)),
        ("-duration", network.duration_head, DURATION_INPUTS, ("duration_logits",)),
    ):
        arguments = tuple((row if suffix == "" else row | nexts)[k] for k in inputs)
        path = made[name + suffix] = folder / f"{name}{suffix}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracing exporter is deprecated, yet it is the one that carries LSTM state well
            torch.onnx.export(
                module, arguments, str(path), dynamo=False, opset_version=OPSET, input_names=list(inputs), output_names=list(outputs)
            )  # fmt: skip
    return made


def replay(files: dict[str, Path], name: str, rows: dict[str, np.ndarray]) -> float:
    """Largest difference between ONNX Runtime and the golden vectors, over all outputs and steps."""
    step, pitch, duration = (zoo.open_session(files[name + s]) for s in ("", "-pitch", "-duration"))
    worst = 0.0
    for i in range(len(rows["dt"])):
        row = {k: a[i] for k, a in rows.items()}
        nexts = row | {"dt": row["next_dt"], "phase": row["next_phase"], "pitch": row["next_pitch"]}
        for session, given, outputs in (
            (step, {k: row[k] for k in STEP_INPUTS}, STEP_OUTPUTS),
            (pitch, {k: nexts[k] for k in PITCH_INPUTS}, ("pitch_logits",)),
            (duration, {k: nexts[k] for k in DURATION_INPUTS}, ("duration_logits",)),
        ):
            for k, x in zip(outputs, session.run(list(outputs), given), strict=True):
                worst = max(worst, float(np.abs(x - row[k]).max()))
    return worst


def to_toml(entries: dict[str, dict[str, Any]]) -> str:
    """A manifest as TOML: tables of strings, numbers and one-level inline tables."""

    def value(x: Any) -> str:
        if isinstance(x, dict):
            return "{ " + ", ".join(f"{k} = {value(y)}" for k, y in x.items()) + " }"
        if isinstance(x, str):
            return '"' + x.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return str(x).lower() if isinstance(x, bool) else repr(x)

    tables = ("\n".join([f"[{name}]", *(f"{k} = {value(x)}" for k, x in entry.items())]) for name, entry in entries.items())
    return (
        "# What each model is, and the proof that the file is that model. Written by the export scripts.\n\n" + "\n\n".join(tables) + "\n"
    )


def export(network: Network, folder: Path, name: str, facts: dict[str, Any], figures: dict[str, Any]) -> float:
    """Write graphs, golden vectors and manifest entries into `folder`; returns the largest difference to torch."""
    network = network.eval().cpu()
    rows = golden(network)
    files = graphs(network, name, rows, folder)
    worst = replay(files, name, rows)
    if worst > 1e-5:
        raise SystemExit(f"ONNX Runtime differs from torch by {worst:.2e}, expected at most 1e-5: not exported")
    np.savez_compressed(folder / f"{name}.golden.npz", **rows)
    entries = zoo.manifest(folder) if (folder / zoo.MANIFEST).exists() else {}
    for key, path in files.items():
        session = zoo.open_session(path)
        entries[key] = {
            "file": path.name, "sha256": zoo.sha256_of(path), "kind": "note_events",
            "inputs": zoo.signature(session.get_inputs()), "outputs": zoo.signature(session.get_outputs()), "licence": LICENCE,
        }  # fmt: skip
        if key == name:
            entries[key] |= {"hidden_size": network.hidden, "layers": network.layers, "ticks_per_quarter": v.TICKS_PER_QUARTER,
                             "golden": f"{name}.golden.npz", "card": f"{name}.md", **facts}  # fmt: skip
            entries[key] |= {f"nats_{task}": scores for task, scores in figures.items()}
        else:
            entries[key]["part_of"] = name
    (folder / zoo.MANIFEST).write_text(to_toml(entries), encoding="utf-8")
    for key in files:
        zoo.load_model(key, folder)
    return worst


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help="the training data: the figures are measured on its held-out pieces")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("zoo", type=Path)
    p.add_argument("--name", default="performer")
    args = p.parse_args()
    torch.set_num_threads(1)
    network, checkpoint = restore(args.checkpoint)
    pieces, held_out = data.load(args.data)
    figures = {"order_0": order_0(pieces, held_out)} | evaluate(network, held_out)
    facts = {
        "data": DATA,
        "split": f"{data.HELD_OUT:.0%} of the pieces of each file held out, seed {data.SPLIT_SEED}",
        "training": "{step} steps of {batch} x {window} events, seed {seed}".format(
            **checkpoint["settings"] | {"step": checkpoint["step"]}
        ),
        "date": datetime.date.today().isoformat(),
    }
    worst = export(network, args.zoo, args.name, facts, figures)
    print(f"exported {args.name} to {args.zoo}; ONNX Runtime differs from torch by at most {worst:.1e}")
    print(figures)
