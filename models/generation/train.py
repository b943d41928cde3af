"""Train the performer: ``python -m models.generation.train DATA --out FOLDER``.

One process, CPU or GPU, deterministic by seed on one machine. Writes FOLDER/checkpoint.pt every few minutes, at the end and on SIGTERM,
FOLDER/train.log (JSON lines), and goes on from the checkpoint with ``--resume``.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from models.generation import data
from models.generation.evaluate import evaluate
from models.generation.network import Network


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """A short ramp up (LSTMs jump when Adam's moments are young), then half a cosine down to a tenth."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (0.1 + 0.45 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))))


def save(path: Path, network: Network, optimiser: torch.optim.Optimizer, **facts: Any) -> None:
    """Write the checkpoint beside its place, then move it there: a kill leaves the old one or the new one."""
    torch.save(
        {
            "network": network.state_dict(), "optimiser": optimiser.state_dict(),
            "random": torch.get_rng_state(), **facts,
        },
        path.with_suffix(".new"),
    )  # fmt: skip
    path.with_suffix(".new").replace(path)


def restore(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint, and the checkpoint."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    network = Network(checkpoint["settings"]["hidden"], checkpoint["settings"]["layers"])
    network.load_state_dict(checkpoint["network"])
    return network, checkpoint


def train(args: argparse.Namespace) -> list[float]:
    """Run the training that `args` asks for (see `parser`); returns the loss of every step in nats a note."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    args.out.mkdir(parents=True, exist_ok=True)
    pieces, held_out = data.load(args.data)
    settings = {k: getattr(args, k) for k in ("hidden", "layers", "batch", "window", "steps", "rate", "seed")}
    network, first = Network(args.hidden, args.layers), 0
    checkpoint: dict[str, Any] | None = None
    if args.resume:
        network, checkpoint = restore(args.out / "checkpoint.pt")
        first = checkpoint["step"]
    network.to(args.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.01)
    if checkpoint is not None:
        optimiser.load_state_dict(checkpoint["optimiser"])
        torch.set_rng_state(checkpoint["random"])
    # A resumed run draws anew from (seed, step): deterministic, though not the batches that an unbroken run would have seen.
    rng = np.random.default_rng([args.seed, first])
    streams = [data.Stream(pieces, args.window, np.random.default_rng(rng.integers(2**63))) for _ in range(args.batch)]
    state = network.start(args.batch, args.device)
    losses: list[float] = []
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    previous = signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    step = first
    with (args.out / "train.log").open("a") as log, tqdm(total=args.steps, initial=first, unit="step", mininterval=5.0) as bar:
        while step < args.steps and not stopped:
            windows, fresh = zip(*(s.window() for s in streams), strict=True)
            batch = {k: torch.from_numpy(a).to(args.device) for k, a in data.stack(list(windows)).items()}
            keep = torch.tensor([not f for f in fresh], device=args.device, dtype=torch.float32)[None, :, None]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, args.steps, args.rate)
            nats, (h, c) = network.nats(batch, (state[0] * keep, state[1] * keep))
            heads = nats.sum((1, 2)) / batch["weight"].sum()
            loss = heads.sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            state = (h.detach(), c.detach())
            losses.append(loss.item())
            step += 1
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(nats=f"{np.mean(losses[-20:]):.3f}")
                line = {"step": step, "seconds": round(time.monotonic() - started, 1), "nats": round(float(np.mean(losses[-20:])), 4)}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if step % args.every == 0 or step == args.steps or stopped:
                figures = evaluate(network, held_out, args.device, pieces_limit=args.check)
                network.train()
                log.write(json.dumps({"step": step, "held_out": figures}) + "\n")
                save(args.out / "checkpoint.pt", network, optimiser, step=step, settings=settings, figures=figures)
    signal.signal(signal.SIGTERM, previous)
    return losses


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data", type=Path, help=f"folder with {' and '.join(data.FILES)}")
    p.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and train.log")
    p.add_argument("--resume", action="store_true", help="go on from FOLDER/checkpoint.pt")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--layers", type=int, default=1)
    p.add_argument("--batch", type=int, default=64, help="streams side by side")
    p.add_argument("--window", type=int, default=128, help="events through which the gradient flows")
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    p.add_argument("--every", type=int, default=250, help="steps between two checkpoints")
    p.add_argument("--check", type=int, default=16, help="held-out pieces scored at each checkpoint")
    return p


if __name__ == "__main__":
    train(parser().parse_args())
