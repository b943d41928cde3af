"""Put a checkpoint into the zoo: ``python -m models.following.export CHECKPOINT VALIDATION ZOO``.

Writes the ONNX graph, its manifest entry, golden vectors computed by torch on real spectra, and the figures on the validation renderings
(`--held-out`: also those of a sound font that training never heard). ONNX Runtime must reproduce torch before anything is kept.
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

from models.export import LICENCE, OPSET, place, room, training, whole
from models.following.network import Exported, Network
from models.following.train import Renderings, evaluate, restore
from models.generation.pieces import ORIGIN
from rtserver import zoo
from rtserver.following.onsetnet import INPUTS, KIND, MODEL, N_HOPS, OUTPUTS

GOLDEN_HOPS = 64
FONTS = "FluidR3_GM and MuseScore_General, MIT"


def golden(network: Network, spectra: np.ndarray) -> dict[str, np.ndarray]:
    """`spectra` (n, 107) in the order in which they come, silence before them, and what torch says of each hop: ``nats`` (n, 10, 88)."""
    spectra = spectra.astype(np.float32)
    padded = np.concatenate([np.zeros((N_HOPS - 1, spectra.shape[1]), np.float32), spectra])
    with torch.no_grad():
        logits, _ = network(torch.from_numpy(padded[None]), network.silence(1))
        return {"spectra": spectra, "nats": network.nats(logits)[0].numpy()}


def replay(path: Path, rows: dict[str, np.ndarray]) -> float:
    """Largest difference between ONNX Runtime and the golden vectors."""
    session, worst = zoo.open_session(path), 0.0
    seen = np.zeros((1, N_HOPS, rows["spectra"].shape[1]), np.float32)
    memory = [np.zeros(x.shape, np.float32) for x in session.get_inputs()[1:]]
    for spectrum, nats in zip(rows["spectra"], rows["nats"], strict=True):
        seen = np.concatenate([seen[:, 1:], spectrum[None, None]], axis=1)
        told, *memory = session.run(list(OUTPUTS), dict(zip(INPUTS, [seen, *memory], strict=True)))
        worst = float(np.maximum(worst, np.abs(told[0] - nats).max()))  # max() would pass over NaN
    return worst


def export(network: Network, spectra: np.ndarray, folder: Path, facts: dict[str, Any], name: str = MODEL) -> float:
    """Write graph, golden vectors for `spectra` and manifest entry into `folder`; returns the largest difference to torch."""
    network = network.eval().cpu()
    entries = room(folder, name)
    whole(network)
    rows = golden(network, spectra)
    example = (torch.zeros(1, N_HOPS, rows["spectra"].shape[1]), *network.silence(1))
    with tempfile.TemporaryDirectory(dir=folder) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, yet it gives the smaller graph
        path = Path(beside) / f"{name}.onnx"
        torch.onnx.export(
            Exported(network), example, str(path), dynamo=False, opset_version=OPSET, input_names=list(INPUTS), output_names=list(OUTPUTS)
        )
        worst = replay(path, rows)
        if not worst <= 1e-3:  # of some ten nats
            raise SystemExit(f"ONNX Runtime differs from torch by {worst:.2e}, expected at most 1e-3: not exported")
        np.savez_compressed(path.with_name(f"{name}.golden.npz"), **rows)
        session = zoo.open_session(path)
        entries[name] = {
            "file": path.name, "sha256": zoo.sha256_of(path), "kind": KIND, "inputs": zoo.signature(session.get_inputs()),
            "outputs": zoo.signature(session.get_outputs()), "licence": LICENCE, "golden": f"{name}.golden.npz", "card": f"{name}.md",
            **facts,
        }  # fmt: skip
        place(path.parent, folder, entries, [name])
    return worst


def scores(network: Network, renderings: Renderings) -> dict[str, Any]:
    """The figures of a manifest entry."""
    figures = evaluate(network, renderings)
    return {"nats": figures["nats"], "n_hops": figures["n_hops"]} | {f"found_{a}": share for a, share in enumerate(figures["found"])}


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("checkpoint", type=Path)
    p.add_argument("validation", type=Path)
    p.add_argument("zoo", type=Path)
    p.add_argument("--held-out", type=Path)
    p.add_argument("--name", default=MODEL)
    p.add_argument("--licence", default=LICENCE, help="of the weights (default: %(default)s)")
    args = p.parse_args()
    torch.set_num_threads(1)
    room(args.zoo, args.name)
    network, checkpoint = restore(args.checkpoint)
    validation = Renderings(args.validation)
    facts = {
        "licence": args.licence,
        "data": f"{ORIGIN}; rendered with {FONTS}",
        "split": "every tenth piece of each file held out",
        "training": training("{step} steps of {batch} streams of {chunk} hops, seed {seed}", checkpoint),
        "date": datetime.date.today().isoformat(),
        "validation": scores(network, validation),
    }
    if args.held_out is not None:
        facts["held_out_font"] = scores(network, Renderings(args.held_out))
    start = int(validation.first[0]) + 30
    worst = export(network, validation.spectra[start : start + GOLDEN_HOPS].numpy(), args.zoo, facts, args.name)
    print(f"exported {args.name} to {args.zoo}; ONNX Runtime differs from torch by at most {worst:.1e}")
    print(facts)
