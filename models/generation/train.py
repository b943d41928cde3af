"""Train the performer: ``python -m models.generation.train DATA --out FOLDER``.

One process and its helpers, CPU or GPU, deterministic by seed on one machine. See `models/loop.py` for what it leaves and how it goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import loop
from models.generation import data, imported, pieces
from models.generation.evaluate import evaluate
from models.generation.network import Network, tensors
from rtserver import zoo

FILE = "checkpoint.pt"
REPORT = "midi_report.json"
SHAPE = ("hidden", "layers", "dropout")
WATCHED = "nats"  # what the kept weights are best in: the mean of the tasks that are checked
CHECKED = ("all", "follow", "chart")


def restore(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint, with the averaged weights that were best on the validation pieces, and the checkpoint."""
    checkpoint = loop.read(path)
    network = Network(**{k: checkpoint["settings"][k] for k in SHAPE})
    network.load_state_dict(checkpoint["best"][WATCHED])
    return network.eval(), checkpoint


def begin(start: str, dropout: float) -> tuple[Network, dict[str, Any]]:
    """The network to fine-tune, and what of `SHAPE` it is: the one of a run, where `start` is its folder, else of a model of the zoo.

    A model is named as in `rtserver perform --model`, or as ZOO/NAME where it is in another zoo than rtserver's.
    """
    path = Path(start)
    if (path / FILE).exists():
        network, checkpoint = restore(path / FILE)
        return network, {k: checkpoint["settings"][k] for k in SHAPE}
    folder = zoo.FOLDER if path.name == start else path.parent
    if path.is_dir() or not (folder / zoo.MANIFEST).exists():
        raise SystemExit(f"{path} is neither the folder of a run (it holds no {FILE}) nor a model of a zoo: name one of them")
    network = imported.network(path.name, folder, dropout)
    return network, {"hidden": network.hidden, "layers": network.layers, "dropout": dropout}


def train(args: argparse.Namespace) -> list[float]:
    """Run the training that `args` asks for (see `parser`); returns the loss of every step in nats a note."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    train_pieces, validation, _ = pieces.load(args.data, args.only, args.out / REPORT)
    settings = {k: getattr(args, k) for k in (*SHAPE, "batch", "window", "rate", "seed", "start")}
    if args.start is not None:
        network, shape = begin(args.start, args.dropout)
        settings |= shape
    else:
        network = Network(**{k: settings[k] for k in SHAPE})
    network.to(args.device)
    helpers = max(1, args.workers)
    if args.batch % helpers:
        raise SystemExit(f"--batch {args.batch} cannot be shared out among --workers {args.workers}: choose a multiple")

    def draw(worker: int) -> Iterator[dict[str, np.ndarray]]:
        # A resumed run draws the same windows again in the same order: more passes of the same kind, not the rest of the first.
        return data.rows(train_pieces, args.window, list(range(worker, args.batch, helpers)), args.seed)

    stream = loop.prefetch(draw, args.workers)
    state = network.start(args.batch, args.device)

    def loss_of(_: int) -> Tensor:
        nonlocal state
        parts = [next(stream) for _ in range(helpers)]
        batch = tensors({k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, args.device)
        keep = (~batch.pop("fresh")).float()[None, :, None]
        nats, (h, c) = network.nats(batch, (state[0] * keep, state[1] * keep))
        state = (h.detach(), c.detach())
        return nats.sum() / batch["weight"].sum()

    def check(averaged: nn.Module) -> dict[str, Any]:
        figures = evaluate(averaged, validation, args.device, CHECKED, args.check)  # type: ignore[arg-type]
        scored = [f["note"] for f in figures.values() if f["n_notes"]]  # pieces of one part have nobody to follow
        return {WATCHED: round(sum(scored) / len(scored), 4), **figures}

    return loop.fit(network, loss_of, check, args, settings, file=FILE, watched=(WATCHED,))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help=f"folder with {' and '.join(pieces.FILES)}, or with MIDI files")
    p.add_argument("--only", help="pieces with this in their name: a composer")
    p.add_argument("--start", help="fine-tune: begin with this run or this model of the zoo (a --rate of 5e-4 forgets less)")
    p.add_argument("--hidden", type=int, default=448)
    p.add_argument("--layers", type=int, default=1)
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--batch", type=int, default=64, help="streams side by side")
    p.add_argument("--window", type=int, default=128, help="events through which the gradient flows")
    p.add_argument("--check", type=int, default=48, help="validation pieces scored at each checkpoint, at most")
    loop.arguments(p, rate=3e-3, steps=4000)
    return p


if __name__ == "__main__":
    train(parser().parse_args())
