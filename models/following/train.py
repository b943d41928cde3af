"""Train the onset network: ``python -m models.following.train CORPUS VALIDATION --out FOLDER``.

CORPUS and VALIDATION are folders of renderings (`models.following.corpus`). One process, on a CPU or one GPU, deterministic by seed on one
CPU. Streams walk through renderings, each with its own memory, from random places on. Writes FOLDER/checkpoint.pt and a line of JSON to
FOLDER/train.log every few hundred steps, at the end and on SIGTERM; ``--resume`` goes on from the checkpoint's weights with a schedule of
its own.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.following.corpus import ONSET, PITCH, RELEASE
from models.following.network import Network, State, nats_of
from rtserver.dsp.features import FIRST_PITCH
from rtserver.dsp.layout import N_SEMITONES
from rtserver.following.onsetnet import N_AGES, N_HOPS, N_PITCHES

HOPS_A_SECOND = 100
CONTEXT = N_HOPS - 1
SOUNDS_WEIGHT = 0.05  # of the second head, against the first
GRADIENT_LIMIT = 1.0


class Renderings:
    """All renderings of a folder as one row of hops, each after eight hops of silence.

    Attributes
    ----------
    first, last : int64 (n,)
        The hops of each: its first, and the one after its last.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise SystemExit(f"{folder} holds no renderings: make them with python -m models.following.corpus")
        spectra, ages, sounds = zip(*(labelled(**np.load(path)) for path in paths), strict=True)
        lengths = np.array([len(x) for x in spectra])
        self.last = np.cumsum(lengths + CONTEXT)
        self.first = self.last - lengths
        silence = np.zeros((CONTEXT, N_SEMITONES), np.float16)
        self.spectra = torch.from_numpy(np.concatenate([part for x in spectra for part in (silence, x)])).to(device)
        none, quiet = np.full((CONTEXT, N_PITCHES), N_AGES, np.int8), np.zeros((CONTEXT, N_PITCHES), np.bool_)
        self.ages = torch.from_numpy(np.concatenate([part for x in ages for part in (none, x)])).to(device)
        self.sounds = torch.from_numpy(np.concatenate([part for x in sounds for part in (quiet, x)])).to(device)
        counts = sum(np.bincount(x.reshape(-1), minlength=N_AGES + 1) for x in ages)
        self.prior = torch.from_numpy((counts / counts.sum()).astype(np.float32))

    def batch(self, hops: np.ndarray, n_hops: int) -> dict[str, Tensor]:
        """What the network sees from each of `hops` (B,) on, for so long, and the truth."""
        device = self.spectra.device
        here = torch.from_numpy(hops).to(device)[:, None]
        seen = here + torch.arange(-CONTEXT, n_hops, device=device)
        judged = seen[:, CONTEXT:]
        return {"spectra": self.spectra[seen].float(), "age": self.ages[judged].long(), "sounds": self.sounds[judged].float()}


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


class Streams:
    """`n` walks through renderings, chunk by chunk; whoever is at the end goes on at a random place."""

    def __init__(self, data: Renderings, n: int, n_hops: int, rng: np.random.Generator) -> None:
        self._data, self._n_hops, self._rng = data, n_hops, rng
        self._long = np.flatnonzero(data.last - data.first > n_hops)
        if not len(self._long):
            raise SystemExit(f"no rendering is longer than a chunk of {n_hops} hops — make longer ones, or set --chunk")
        self._hop, self._last = np.zeros(n, np.int64), np.zeros(n, np.int64)

    def next(self, state: State) -> tuple[dict[str, Tensor], State]:
        """A chunk of each, and `state` with silence where a walk began."""
        begun = np.flatnonzero(self._hop + self._n_hops > self._last)
        for i in begun:
            r = self._long[self._rng.integers(len(self._long))]
            self._hop[i] = self._rng.integers(self._data.first[r], self._data.last[r] - self._n_hops)
            self._last[i] = self._data.last[r]
        whole, pitch = (x.detach().clone() for x in state)
        index = torch.from_numpy(begun).to(whole.device)
        whole[:, index] = 0.0
        pitch.view(1, len(self._hop), N_PITCHES, -1)[:, index] = 0.0
        batch = self._data.batch(self._hop, self._n_hops)
        self._hop += self._n_hops
        return batch, (whole, pitch)


def walk(data: Renderings, n_hops: int, limit: int) -> Iterator[dict[str, Tensor]]:
    """All renderings side by side from their beginnings, chunk by chunk, for at most so many hops and as long as the shortest."""
    for n in range(0, min(limit, int((data.last - data.first).min())) - n_hops + 1, n_hops):
        yield data.batch(data.first + n, n_hops)


@torch.no_grad()
def evaluate(network: Network, data: Renderings, n_hops: int = 200, limit: int = 6000) -> dict[str, Any]:
    """Cross entropy of the age a pitch and hop, and the share of onsets that are likelier than none, at each age."""
    total, n, found, seen = 0.0, 0, torch.zeros(N_AGES), torch.zeros(N_AGES)
    network.eval()
    state = network.silence(len(data.first))
    for batch in walk(data, n_hops, limit):
        logits, state = network(batch["spectra"], state)
        age = batch["age"]
        total += float(torch.nn.functional.cross_entropy(logits[..., : N_AGES + 1].flatten(0, 2), age.flatten(), reduction="sum"))
        n += age.shape[0] * age.shape[1]
        likely = torch.logsumexp(logits[..., :N_AGES], -1) > logits[..., N_AGES]
        seen += torch.bincount(age.flatten(), minlength=N_AGES + 1)[:N_AGES].cpu()
        found += torch.bincount(age[likely], minlength=N_AGES + 1)[:N_AGES].cpu()
    network.train()
    shares = (found / seen.clamp(min=1)).tolist()
    return {"nats": round(total / (n * N_PITCHES), 5), "found": [round(x, 3) for x in shares], "n_hops": n}


def restore(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint, and the checkpoint."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    network = Network(tuple(checkpoint["settings"]["sizes"]))
    network.load_state_dict(checkpoint["network"])
    return network, checkpoint


def train(args: argparse.Namespace) -> list[float]:
    """Run the training that `args` asks for (see `parser`); returns the cross entropy of every step, of the age, a pitch and hop."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    args.out.mkdir(parents=True, exist_ok=True)
    data, validation = Renderings(args.corpus, args.device), Renderings(args.validation, args.device)
    network, before = Network(tuple(args.sizes)), 0
    if args.resume:
        network, checkpoint = restore(args.out / "checkpoint.pt")
        before = checkpoint["step"]
    network.prior.copy_(data.prior)
    network.to(args.device)
    settings = {"sizes": list(network.sizes), "batch": args.batch, "chunk": args.chunk, "rate": args.rate, "seed": args.seed}
    optimiser = torch.optim.Adam(network.parameters(), lr=args.rate)
    streams = Streams(data, args.batch, args.chunk, np.random.default_rng([args.seed, before]))
    state = network.silence(args.batch)
    losses: list[Tensor] = []
    stopped = False
    begun_s = time.monotonic()

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    previous = signal.signal(signal.SIGTERM, stop)
    with (args.out / "train.log").open("a") as log:
        for step in tqdm(range(args.steps), mininterval=5.0):
            done = step / args.steps
            if args.minutes:
                done = max(done, (time.monotonic() - begun_s) / (60.0 * args.minutes))
                stopped = stopped or done >= 1.0
            for group in optimiser.param_groups:
                group["lr"] = args.rate * (0.005 + min(1.0, step / 200) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))))
            batch, state = streams.next(state)
            with torch.autocast("cuda", torch.bfloat16, enabled=args.device == "cuda"):
                age, sounds, state = nats_of(network, batch, state)
            state = (state[0].float(), state[1].float())
            optimiser.zero_grad(set_to_none=True)
            (10.0 * (age + SOUNDS_WEIGHT * sounds)).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_LIMIT)
            optimiser.step()
            losses.append(age.detach())
            if (step + 1) % args.every == 0 or step + 1 == args.steps or stopped:
                figures = evaluate(network, validation)
                recent = round(float(torch.stack(losses[-args.every :]).mean()), 5)
                line = {"step": before + step + 1, "s": round(time.monotonic() - begun_s), "nats": recent, "validation": figures}
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
    return torch.stack(losses).tolist()


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("corpus", type=Path)
    p.add_argument("validation", type=Path)
    p.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and train.log")
    p.add_argument("--resume", action="store_true", help="go on from FOLDER/checkpoint.pt")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--sizes", type=int, nargs=6, default=(48, 6, 96, 8, 24, 32), help="see models.following.network.Network")
    p.add_argument("--batch", type=int, default=32, help="streams")
    p.add_argument("--chunk", type=int, default=200, help="hops of each stream a step")
    p.add_argument("--steps", type=int, default=16000)
    p.add_argument("--minutes", type=float, help="end after so long; the learning rate falls accordingly")
    p.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    p.add_argument("--every", type=int, default=500, help="steps between two checkpoints")
    return p


if __name__ == "__main__":
    train(parser().parse_args())
