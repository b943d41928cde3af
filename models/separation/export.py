"""Put a network into a zoo: ``python -m models.separation.export FOLDER ZOO --name NAME``.

FOLDER is a run (or an ONNX file, or a model of a zoo). Writes NAME.onnx, the golden vectors that torch computes for it, and its manifest
entry; with ``--int8`` the weights are rounded. With ``--stems hp`` a network of three or four stems gives harmonic and percussive alone.
ONNX Runtime must reproduce torch before anything is kept. What it was trained on goes into the manifest as the pool told it, else
``--source``; under which licence the weights may be used says ``--licence``. What `evaluate --json` wrote of an exported file goes there
with ``--figures``, in a second export.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import loop
from models.export import LICENCE, OPSET, place, quantise, room, training, whole
from models.options import number
from models.separation import credits, frames
from models.separation.network import INPUTS, N_SCORE, OUTPUTS, STEMS, Network, Step
from models.separation.train import FILE, begin
from rtserver import zoo
from rtserver.separation.features import LIMIT, N_BINS, N_FEATURES, NETWORK_HOP, WINDOW_SIZE

KIND = "separation"
GOLDEN_HOPS = 12
CLOSE, CLOSE_INT8 = 1e-4, 0.15  # how far ONNX Runtime's masks may be from torch's, at worst; the inputs are drawn harsh


def golden(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Hops in a row from a fresh start, computed by torch: ``in_NAME`` and ``out_NAME``, hops on the first axis; a score comes half-way.

    The inputs are drawn with the mean and scale of training material. States are not among them: they are carried on.
    """
    rng = np.random.default_rng(seed)
    mean, scale = network.mean.numpy(), network.scale.numpy()
    features = (mean + rng.standard_normal((GOLDEN_HOPS, N_FEATURES)) / scale).astype(np.float32)
    prior = np.clip(rng.normal(1.0, 3.0, (GOLDEN_HOPS, N_BINS)), -LIMIT, LIMIT).astype(np.float32)
    score = (rng.random((GOLDEN_HOPS, N_SCORE)) < 0.05).astype(np.float32)
    score[:, -1] = 1.0
    score[: GOLDEN_HOPS // 2] = 0.0
    given = {"features": features, "prior": prior, "score": score}
    with torch.no_grad():
        rows = [torch.from_numpy(x)[None] for x in given.values()]
        masks, _, _ = network(*rows, *network.start(1))
    made = torch.stack([m[0] for m in masks[:-1]], dim=1).numpy()
    return {**{f"in_{k}": x[:, None] for k, x in given.items()}, "out_masks": made}


def graph(network: Network, path: Path) -> None:
    """Write the step as ONNX."""
    given = (torch.zeros(1, N_FEATURES), torch.zeros(1, N_BINS), torch.zeros(1, N_SCORE), *network.start(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, yet it is the one that carries LSTM state well
        torch.onnx.export(
            Step(network).eval(), given, str(path), dynamo=False, opset_version=OPSET,
            input_names=list(INPUTS), output_names=list(OUTPUTS),
        )  # fmt: skip


def replay(path: Path, rows: dict[str, np.ndarray]) -> float:
    """Largest difference between ONNX Runtime's masks, state carried on, and those of the golden vectors."""
    session = zoo.open_session(path)
    given = {k.removeprefix("in_"): x for k, x in rows.items() if k.startswith("in_")}
    state = {x.name: np.zeros(x.shape, np.float32) for x in session.get_inputs() if x.name not in given}
    worst = 0.0
    for i in range(len(rows["out_masks"])):
        masks, *after = session.run(list(OUTPUTS), {k: x[i] for k, x in given.items()} | state)
        state = dict(zip(state, after, strict=True))
        worst = float(np.maximum(worst, np.abs(masks - rows["out_masks"][i]).max()))  # max() would pass over NaN
    return worst


def export(  # noqa: PLR0917
    network: Network, folder: Path, name: str, facts: dict[str, Any], int8: bool = False, measured: dict[str, Any] | None = None
) -> float:
    """Write graph, golden vectors and manifest entry into `folder`; returns the largest difference to torch.

    measured : what `read_figures` read about this very file
    """
    network = network.eval().cpu()
    close = CLOSE_INT8 if int8 else CLOSE
    entries = room(folder, name)
    whole(network)
    rows = golden(network)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        path = Path(beside) / f"{name}.onnx"
        graph(network, path)
        if int8:
            (Path(beside) / "int8").mkdir()
            path = quantise({name: path}, name, name, Path(beside) / "int8")[name]
        worst = replay(path, rows)
        if not worst <= close:
            raise SystemExit(f"ONNX Runtime differs from torch by {worst:.2e}, expected at most {close:g}: not exported")
        if measured is not None:
            facts = facts | {"figures": figures(measured, zoo.sha256_of(path))}
        np.savez_compressed(path.parent / f"{name}.golden.npz", **rows)  # type: ignore[arg-type]
        session = zoo.open_session(path)
        entries[name] = {
            "file": path.name, "sha256": zoo.sha256_of(path), "kind": KIND,
            "inputs": zoo.signature(session.get_inputs()), "outputs": zoo.signature(session.get_outputs()), "licence": LICENCE,
            "stems": list(STEMS[network.stems]), "window_size": WINDOW_SIZE, "network_hop": NETWORK_HOP, "hops": [256, 128],
            "sample_rates": list(frames.SAMPLE_RATES),
            "hpss": {"n_past": frames.N_PAST, "past_step": frames.PAST_STEP, "n_around": frames.N_AROUND},
            "weights": "int8" if int8 else "float32", "golden": f"{name}.golden.npz", "golden_within": close, **facts,
        }  # fmt: skip
        place(path.parent, folder, entries, [name])
    return worst


def read_figures(path: Path) -> dict[str, Any]:
    """The figures that `evaluate --json` wrote. Exits with a line where there are none of clips."""
    expected = "expected what models.separation.evaluate MODEL --clips CLIPS --json wrote"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise SystemExit(f"--figures {path} cannot be read: {e.strerror}: {expected}") from None
    except ValueError as e:  # of UTF-8 or of JSON
        raise SystemExit(f"--figures {path} is no JSON: {e}: {expected}") from None
    found = told.get("figures") if isinstance(told, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("clips"), dict) or not isinstance(found.get("files"), dict):
        raise SystemExit(f"--figures {path} has no figures of clips: {expected}")
    return found


def figures(told: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Of what `read_figures` read: latency and blend -> group -> part -> SI-SDR and SDR in dB, of the file of this hash: others, the
    same network with rounded weights among them, have others. Exits with a line where there are none of it."""
    model = next((name for name, of in told["files"].items() if of == sha256), None)
    if model is None:
        raise SystemExit("--figures has no figures of this very file: export without them, evaluate what was exported, export again")
    return {method.removeprefix(f"{model}, "): of for method, of in told["clips"].items() if method.startswith(f"{model}, ")}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("start", help="folder of the run, an ONNX file, or a model of a zoo")
    p.add_argument("zoo", type=Path)
    p.add_argument("--name", required=True)
    p.add_argument("--stems", choices=STEMS, help="hp: harmonic and percussive alone, of a network of three stems")
    p.add_argument("--int8", action="store_true", help="weights of a quarter of the size, in half the time")
    p.add_argument("--card", help="file of the model card, beside the manifest (default: NAME.md)")
    p.add_argument("--figures", type=Path, help="what evaluate --json wrote of the file that an earlier export made of the same")
    p.add_argument("--blend", type=number(0.0, 1.0), help="the blend with HPSS to play with unless told otherwise")
    p.add_argument("--source", help="what it was trained on and under which licence, for the manifest (default: as the pool tells it)")
    p.add_argument("--licence", help=f"of the weights (default: that of the model or file that START is, else {LICENCE})")
    return p


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    room(args.zoo, args.name)
    measured = None if args.figures is None else read_figures(args.figures)
    network, path = begin(args.start, args.stems), Path(args.start) / FILE
    facts: dict[str, Any] = {
        "card": args.card or f"{args.name}.md",
        "licence": args.licence or credits.licence(args.start, FILE) or LICENCE,
        "data": args.source or " ".join(credits.of_model(args.start, FILE)),
        **({"training": training("{step} steps of {batch} x {hops} hops, seed {seed}", loop.read(path))} if path.exists() else {}),
        "date": datetime.date.today().isoformat(),
    }
    if args.blend is not None:
        facts["blend"] = args.blend
    worst = export(network, args.zoo, args.name, facts, args.int8, measured)
    print(f"exported {args.name} to {args.zoo}; ONNX Runtime differs from torch by at most {worst:.1e}")


if __name__ == "__main__":
    main(parser().parse_args())
