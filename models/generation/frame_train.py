"""Train the frame model on a published benchmark: ``python -m models.generation.frame_train FILE.npz --out FOLDER``.

Each of ``--members`` starts from another seed and is kept in FOLDER/member-N.pt; `evaluate --model lstm` mixes them. The weights scored
are averages along the training, chosen by the validation split; the test split is not read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import loop
from models.generation import frame_data
from models.generation.frame_network import HEADS, FrameNetwork
from models.generation.frame_tcn import FrameTcn

WATCHED = "nats"
SHAPE = ("head", "hidden", "layers", "dropout", "lags")
Network = FrameNetwork | FrameTcn


def network_of(head: str, **shape: Any) -> Network:
    """A new network: ``tcn`` beside the heads of `FrameNetwork`."""
    return FrameTcn(**shape) if head == "tcn" else FrameNetwork(head, **shape)


def restore(path: Path) -> Network:
    """The network of a checkpoint, with the averaged weights that were best on the validation pieces."""
    checkpoint = loop.read(path)
    network = network_of(**checkpoint["settings"])
    network.load_state_dict(checkpoint["best"][WATCHED])
    return network.eval()


def score(network: Network, pieces: list[np.ndarray], device: str, size: int = 32) -> dict[str, Any]:
    """Nats a frame, first frames of the pieces left out as in the published code (Bai 2018)."""
    total, n = 0.0, 0
    ordered = sorted(pieces, key=len)
    for i in range(0, len(ordered), size):
        rows = ordered[i : i + size]
        batch = frame_data.collate([(p, *frame_data.past(p, frame_data.ages(p), network.lags)) for p in rows]).to(device)
        total += float(network.nats(batch)[:, 1:].double().sum())
        n += sum(len(p) - 1 for p in rows)
    return {WATCHED: round(total / n, 4)}


def train(args: argparse.Namespace) -> list[list[float]]:
    """Run what `args` asks for (see `parser`); returns the loss of every step of every member, in nats a frame."""
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    splits = frame_data.load(args.data)
    settings = {k: getattr(args, k) for k in SHAPE}
    losses: list[list[float]] = []
    end = None if args.minutes is None else time.monotonic() + args.minutes * 60.0
    for member in range(args.members):
        torch.manual_seed(args.seed + member)
        network = network_of(**settings).to(args.device)

        def draw(worker: int, member: int = member) -> Iterator[frame_data.Batch]:
            rng = np.random.default_rng([args.seed, member, worker])
            return frame_data.batches(splits["train"], args.batch, args.window, args.shifts, rng, args.lags)

        stream = loop.prefetch(draw, args.workers)

        def loss_of(_: int, network: Network = network, stream: Iterator[frame_data.Batch] = stream) -> Tensor:
            batch = next(stream).to(args.device)
            return network.nats(batch).sum() / batch.real.sum()

        losses.append(
            loop.fit(
                network, loss_of, lambda n: score(n, splits["valid"], args.device), args, settings,
                file=f"member-{member}.pt", watched=(WATCHED,),
                minutes=None if end is None else (end - time.monotonic()) / 60.0 / (args.members - member),
            )
        )  # fmt: skip
    return losses


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help=".npz with the three splits, see frame_data.py")
    p.add_argument(
        "--head", choices=(*HEADS, "tcn"), default="joint", help="class of the likelihood, see frame_network.py; tcn: frame_tcn.py"
    )
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--layers", type=int, default=1)
    p.add_argument("--lags", type=int, nargs="+", default=list(frame_data.LAGS), help="frames back that are shown beside the state")
    p.add_argument("--dropout", type=float, default=0.4)
    p.add_argument("--batch", type=int, default=32, help="rows side by side")
    p.add_argument("--window", type=int, default=256, help="frames of a row, at most")
    p.add_argument("--shifts", type=int, default=6, help="semitones of transposition to each side")
    p.add_argument("--members", type=int, default=1)
    loop.arguments(p, rate=3e-3, steps=2000)
    return p


if __name__ == "__main__":
    train(parser().parse_args())
