"""Train a separation network: ``python -m models.separation.train POOL --out FOLDER``.

CPU, one GPU (``--device cuda``) or several (``torchrun --nproc-per-node N -m models.separation.train …``); deterministic by seed on one
machine and number of processes. See `models/loop.py` for what it leaves and how it goes on. The weights that are kept are those that are
furthest ahead of HPSS in the group of validation mixtures in which they are worst.
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
from models.options import number, whole
from models.separation import credits, feed, frames, imported, losses, validation
from models.separation.mixing import Pool, examples, n_stems
from models.separation.network import STEMS, Network, parameters, two_stems
from rtserver.separation.features import NETWORK_HOP

FILE = "checkpoint.pt"
SHAPE = ("stems", "hidden", "layers")
WATCHED = "behind"
N_NORMALISED = 6400  # hops that mean and scale of the features are taken of
WEIGHTS = {"hp": (1.0, 1.0), "stems3": (1.0, 0.5, 0.5), "stems4": (1.0, 0.5, 0.5, 0.5)}


def restore(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint, with the averaged weights that were best on the validation mixtures, and the checkpoint."""
    checkpoint = loop.read(path)
    if any(k not in checkpoint["settings"] for k in SHAPE) or WATCHED not in checkpoint["best"]:
        raise SystemExit(f"{path} is of a training run, but not of models.separation.train: name the folder of such a run")
    network = Network(**{k: checkpoint["settings"][k] for k in SHAPE})
    network.load_state_dict(checkpoint["best"][WATCHED])
    return network.eval(), checkpoint


def begin(start: str, stems: str | None = None) -> Network:
    """The network to go on from: the one of a run, where `start` is its folder, else that of an ONNX file, or of a model of the zoo.

    With `stems` "hp" what is harmonic and percussive in it; other stems than its own are refused.
    """
    path = Path(start)
    network = restore(path / FILE)[0] if (path / FILE).exists() else imported.network(start)
    if stems is None or stems == network.stems:
        return network
    if stems != "hp":
        raise SystemExit(f"{start} gives {', '.join(STEMS[network.stems])}: {stems} cannot be made of them: only hp can")
    return two_stems(network)


class Objective:
    """The loss of one batch after the other, the state carried on where a batch goes on with the mixtures of the one before.

    Everything lies on `device`, as the batches must.
    """

    def __init__(self, network: Network, wanted: losses.Losses, batch: int, device: Any, compiled: bool = False) -> None:
        self.network, self.wanted = network, wanted
        self._state = network.start(batch, device)
        self._fused = torch.compile(self._of_values) if compiled else None

    def _of_values(self, values: Tensor, prior: Tensor, power: Tensor, cross: Tensor, energy: Tensor) -> Tensor:
        return losses.spectral(self.network.masks(values, prior), power, cross, energy, self.wanted)

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        keep = (~batch["fresh"]).float()[None, :, None]
        values, h, c = self.network.values(batch["features"], batch["score"], self._state[0] * keep, self._state[1] * keep)
        self._state = (h.detach(), c.detach())
        prior, spectra = batch["prior"], (batch["power"], batch["cross"], batch["energy"])
        in_time = self.wanted.time > 0.0
        # Fused, the loss of spectra makes masks of its own that never come to memory; else both domains share them.
        masks = self.network.masks(values, prior) if in_time or self._fused is None else []
        loss = losses.spectral(masks, *spectra, self.wanted) if self._fused is None else self._fused(values, prior, *spectra)
        if in_time:
            stems = batch["stems"].transpose(1, 2)
            loss = loss + self.wanted.time * losses.in_time(masks, stems.sum(dim=1), stems, self.wanted)
        return loss


def prepare(args: argparse.Namespace) -> tuple[Network, dict[str, Any]]:
    """The network to train, and what the checkpoint says of it. Exits with a line where something is wrong that needs no pool to see."""
    if args.batch % max(1, args.workers):
        raise SystemExit(f"--batch {args.batch} cannot be shared out among --workers {args.workers}: choose a multiple")
    network = Network(args.stems or "stems3", args.hidden, args.layers) if args.start is None else begin(args.start, args.stems)
    settings = {k: getattr(network, k) for k in SHAPE} | {k: getattr(args, k) for k in ("batch", "hops", "chunks", "rate", "seed", "start")}
    loop.ready(args, FILE, **{k: settings[k] for k in SHAPE})
    return network, settings


def train(args: argparse.Namespace) -> list[float]:
    """Run the training that `args` asks for (see `parser`); returns the loss of every step."""
    rank, _ = loop.join(args.device)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = torch.device(args.device, rank % max(torch.cuda.device_count(), 1)) if args.device == "cuda" else torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what torch and nccl make without being told where goes there, too
    network, settings = prepare(args)
    settings["data"] = credits.of_training(args.pool, args.start, args.out / FILE, args.resume)
    view = frames.View(network.stems, args.magnitude, args.combine > 0.0, args.time > 0.0, args.score)
    wanted = losses.Losses(WEIGHTS[network.stems], args.combine, args.time, args.exponent, args.level)
    if network.stems == "stems4" and n_stems(args.pool) < len(STEMS["stems4"]):
        raise SystemExit(f"{args.pool} has no vocals: import tracks with vocals (models.separation.recordings), or train --stems stems3")
    seconds = args.chunks * args.hops * NETWORK_HOP / frames.SAMPLE_RATE
    for split, length in (("train", seconds), ("validation", validation.SECONDS)):
        there = Pool(args.pool, split, length)
        if there.n_short and rank == 0:
            print(f"excerpts of {split} that are left out, shorter than {there.needed_s:.2f} s: {there.n_short}")
    workers = max(1, args.workers)
    torch_analyses = device.type == "cuda" if args.analysis is None else args.analysis == "torch"

    def pick(rng: np.random.Generator) -> Iterator[Any]:
        return examples(args.pool, "train", seconds, rng)

    def draw(worker: int) -> Iterator[frames.Hops]:
        # A resumed run draws the same mixtures again in the same order: more of the same kind, not the rest of the first pass.
        rows = list(range(rank * args.batch + worker, (rank + 1) * args.batch, workers))
        return frames.streams(pick, view, rows, args.chunks, args.hops, args.seed)

    if args.start is None:
        heard = frames.streams(pick, frames.View(network.stems), list(range(8)), args.chunks, args.hops, args.seed + 1)
        n_batches = -(-N_NORMALISED // (8 * args.hops))
        network.normalise_by(np.concatenate([next(heard)["features"].reshape(-1, network.mean.numel()) for _ in range(n_batches)]))
    network.to(device)
    checked = validation.material(args.pool, network.stems, args.check) if rank == 0 else []
    if rank == 0:
        groups = [group for group, _ in checked]
        print(f"{parameters(network)} parameters; validation: {', '.join(f'{groups.count(g)} {g}' for g in sorted(set(groups)))}")
    if torch_analyses:
        rows = list(range(rank * args.batch, (rank + 1) * args.batch))
        source = feed.Feed(pick, view, rows, args.chunks, args.hops, args.seed, workers, device, args.compile, n_stems(args.pool))
        stream = iter(source)
    else:
        source = stream = loop.prefetch(draw, args.workers, ahead=2)
    objective = Objective(network, wanted, args.batch, device, args.compile)

    def loss_of(_: int) -> Tensor:
        if torch_analyses:
            return objective(next(stream))
        parts = [next(stream) for _ in range(workers)]
        return objective({k: torch.from_numpy(np.concatenate([p[k] for p in parts])).to(device, non_blocking=True) for k in parts[0]})

    def check(averaged: nn.Module) -> dict[str, Any]:
        return validation.score(averaged, checked, device)  # type: ignore[arg-type]

    try:
        return loop.fit(network, loss_of, check, args, settings, file=FILE, watched=(WATCHED,))
    finally:
        source.close()


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size, weight, share = whole(1), number(), number(0.0, 1.0)
    p.add_argument("pool", type=Path, help="what models.separation.pool made, or a folder of stems")
    p.add_argument("--stems", choices=STEMS, help="default: those of what --start names, else stems3")
    p.add_argument("--start", help="go on from the run in this folder, from this ONNX file, or from this model of the zoo")
    p.add_argument("--hidden", type=size, default=384)
    p.add_argument("--layers", type=size, default=2)
    p.add_argument("--batch", type=size, default=16, help="streams side by side, a process")
    p.add_argument("--hops", type=size, default=192, help="hops through which the gradient flows (256 frames each)")
    p.add_argument("--chunks", type=size, default=4, help="so many times the hops are taken from a mixture, the state carried on")
    p.add_argument("--magnitude", type=share, default=0.5, help="0: errors of spectra, 1: errors of their magnitudes, or between")
    p.add_argument("--combine", type=weight, default=0.5, help="weight of the errors of sums of stems")
    p.add_argument(
        "--exponent",
        type=number(0.0, 1.0, above=True),
        default=0.5,
        help="of errors of spectra: 1: mean square; less: easy passages count for more",
    )
    p.add_argument(
        "--level",
        type=share,
        default=0.25,
        help="0: errors of spectra as shares of the mixture, 1: of the stem, or between",
    )
    p.add_argument("--time", type=weight, default=3.0, help="weight of the weighted SDR in the time domain")
    p.add_argument("--score", type=share, default=0.5, help="how often a score that is there is shown")
    p.add_argument("--analysis", choices=("kernels", "torch"), help="who makes spectra and features; as a rule torch on a GPU")
    p.add_argument("--check", type=size, default=12, help="validation mixtures of each group")
    p.add_argument("--compile", action="store_true", help="fuse the loss by torch.compile (a minute at the start; needs a C++ compiler)")
    loop.arguments(p, rate=2e-3, steps=20_000)
    return p


if __name__ == "__main__":
    train(parser().parse_args())
