"""Train the onset network: ``python -m models.following.train CORPUS VALIDATION --out FOLDER``.

CORPUS and VALIDATION are folders of renderings (`models.following.corpus`). One process, deterministic by seed on one machine. Writes
FOLDER/checkpoint.pt and a line of JSON to FOLDER/train.log every few hundred steps, at the end and on SIGTERM; ``--resume`` goes on from
the checkpoint's weights with a schedule of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.following.corpus import ONSET, PITCH, RELEASE
from models.following.network import Network, nats_of
from rtserver.dsp.features import FIRST_PITCH
from rtserver.following.onsetnet import N_AGES, N_HOPS, N_PITCHES

HOPS_A_SECOND = 100
SOUNDS_WEIGHT = 0.05  # of the second head, against the first


class Renderings:
    """All renderings of a folder, as arrays from which batches are cut."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise SystemExit(f"{folder} holds no renderings: make them with python -m models.following.corpus")
        spectra, ages, sounds = zip(*(labelled(**np.load(path)) for path in paths), strict=True)
        lengths = np.array([len(x) for x in spectra])
        ends = np.cumsum(lengths)
        self.spectra, self.ages, self.sounds = np.concatenate(spectra), np.concatenate(ages), np.concatenate(sounds)
        self.hops = np.concatenate([np.arange(b - n + N_HOPS - 1, b) for n, b in zip(lengths, ends, strict=True)])
        counts = np.bincount(self.ages.reshape(-1), minlength=N_AGES + 1)
        self.prior = torch.from_numpy((counts / counts.sum()).astype(np.float32))

    def batch(self, hops: np.ndarray) -> dict[str, Tensor]:
        """What the network sees at some hops, and the truth."""
        spectra = self.spectra[hops[:, None] - np.arange(N_HOPS)].astype(np.float32)
        arrays = {"spectra": spectra, "age": self.ages[hops].astype(np.int64), "sounds": self.sounds[hops].astype(np.float32)}
        return {k: torch.from_numpy(x) for k, x in arrays.items()}


def labelled(semitones: np.ndarray, notes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(spectra, ages (n_hops, 88) with N_AGES for none, whether each pitch sounds); age 0 is the hop in which the note begins."""
    n_hops = len(semitones)
    ages, sounds = np.full((n_hops, N_PITCHES), N_AGES, np.int8), np.zeros((n_hops, N_PITCHES), np.bool_)
    for row in notes:
        first, p = int(row[ONSET] * HOPS_A_SECOND), int(row[PITCH]) - FIRST_PITCH
        sounds[first : int(row[RELEASE] * HOPS_A_SECOND) + 1, p] = True
        attack = slice(first, min(first + N_AGES, n_hops))
        ages[attack, p] = np.arange(N_AGES)[: max(n_hops - first, 0)]
    return semitones, ages, sounds


def evaluate(network: Network, renderings: Renderings, n_hops: int = 20000) -> dict[str, Any]:
    """On the same random hops each time: cross entropy of the age a pitch and hop, and the share of onsets that are likelier than none."""
    hops = np.random.default_rng(5).permutation(renderings.hops)[:n_hops]
    total, found, seen = 0.0, np.zeros(N_AGES), np.zeros(N_AGES)
    network.eval()
    with torch.no_grad():
        for part in np.array_split(hops, math.ceil(len(hops) / 256)):
            batch = renderings.batch(part)
            total += float(nats_of(network, batch)[0]) * len(part)
            logits = network(batch["spectra"])
            likely = torch.logsumexp(logits[..., :N_AGES], -1) > logits[..., N_AGES]
            for a in range(N_AGES):
                seen[a] += int((batch["age"] == a).sum())
                found[a] += int(likely[batch["age"] == a].sum())
    network.train()
    return {"nats": round(total / len(hops), 5), "found": [round(float(x), 3) for x in found / np.maximum(seen, 1)], "n_hops": len(hops)}


def restore(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint, and the checkpoint."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    network = Network(tuple(checkpoint["settings"]["hidden"]))
    network.load_state_dict(checkpoint["network"])
    return network, checkpoint


def train(args: argparse.Namespace) -> list[float]:
    """Run the training that `args` asks for (see `parser`); returns the cross entropy of every step, of the age, a pitch and hop."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    data, validation = Renderings(args.corpus), Renderings(args.validation)
    network, before = Network(tuple(args.hidden)), 0
    if args.resume:
        network, checkpoint = restore(args.out / "checkpoint.pt")
        before = checkpoint["step"]
    network.prior.copy_(data.prior)
    settings = {"hidden": list(network.hidden), "batch": args.batch, "rate": args.rate, "seed": args.seed}
    optimiser = torch.optim.Adam(network.parameters(), lr=args.rate)
    rng = np.random.default_rng([args.seed, before])
    losses: list[float] = []
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    previous = signal.signal(signal.SIGTERM, stop)
    with (args.out / "train.log").open("a") as log:
        for step in tqdm(range(args.steps), mininterval=5.0):
            for group in optimiser.param_groups:
                group["lr"] = args.rate * (0.005 + min(1.0, step / 200) * 0.5 * (1.0 + math.cos(math.pi * step / args.steps)))
            age, sounds = nats_of(network, data.batch(rng.choice(data.hops, args.batch)))
            optimiser.zero_grad(set_to_none=True)
            (10.0 * (age + SOUNDS_WEIGHT * sounds)).backward()
            optimiser.step()
            losses.append(float(age.detach()))
            if (step + 1) % args.every == 0 or step + 1 == args.steps or stopped:
                figures = evaluate(network, validation)
                line = {"step": before + step + 1, "nats": round(float(np.mean(losses[-args.every :])), 5), "validation": figures}
                log.write(json.dumps(line) + "\n")
                log.flush()
                torch.save(
                    {"network": network.state_dict(), "step": before + step + 1, "settings": settings, "figures": figures},
                    args.out / "checkpoint.new",
                )
                (args.out / "checkpoint.new").replace(args.out / "checkpoint.pt")
            if stopped:
                break
    signal.signal(signal.SIGTERM, previous)
    return losses


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("corpus", type=Path)
    p.add_argument("validation", type=Path)
    p.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and train.log")
    p.add_argument("--resume", action="store_true", help="go on from FOLDER/checkpoint.pt")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--hidden", type=int, nargs=2, default=(40, 24))
    p.add_argument("--batch", type=int, default=256, help="hops, of 88 pitches each")
    p.add_argument("--steps", type=int, default=16000)
    p.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    p.add_argument("--every", type=int, default=500, help="steps between two checkpoints")
    return p


if __name__ == "__main__":
    train(parser().parse_args())
