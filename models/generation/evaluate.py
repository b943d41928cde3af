"""Score a run on pieces kept apart: ``python -m models.generation.evaluate --data DATA --checkpoint FOLDER``.

With ``--model lstm`` the frame model, on a split of a published benchmark: nats a frame, and the predictions themselves with ``-o``.

Without, the performer, of a run or, by its name, of the zoo (as for `train --start`): nats a note for each head, every note of every
piece, the state carried from the first note to the last.

- ``all``: all parts as one stream, nothing known but the beat phase;
- ``metre``: the same, told where the bar lines are (as `metre.estimate` has them); ``asked``: told also density, register, texture, part;
- ``chart``: all parts, told the pitch classes of the coming two quarters and of the two after; ``sketch``: told the three or four strongest
  of each two quarters, as a chord chart would;
- ``accompany_free``: all parts but the first (the voice of a song, the first violin of a quartet), not listening;
- ``accompany``: the same notes, listening to the past chroma of the first part; ``score``: told also what it will play, and the metre;
- ``follow_free``, ``follow``: the same two, with changes of key that nothing but the chroma announces (`data.key_changes`, seeded): what
  listening is worth where the player goes where he likes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.generation import data
from models.generation.network import Network, tensors
from models.generation.pieces import Piece, load
from rtserver.generation import vocabulary as v

WINDOW = 1024
BATCH = 32
HEADS = ("dt", "pitch", "duration")
_LISTENING = data.Told(listen=True)
TASKS = {
    "all": data.Told(),
    "metre": data.Told(bar=True),
    "asked": data.Told(bar=True, texture=True, part=True, density=True, register=True),
    "chart": data.Told(chart=True),
    "sketch": data.Told(chart=True, sketch=True),
    "accompany_free": data.Told(),
    "accompany": _LISTENING,
    "score": replace(_LISTENING, score=True, bar=True),
    "follow_free": data.Told(),
    "follow": _LISTENING,
}
WHOLE = ("all", "metre", "asked", "chart", "sketch")  # all parts as one stream; the others leave the first part to the player


def sequences(pieces: list[Piece], task: str) -> list[data.Sequence]:
    """The pieces as the task has them; pieces of one part have nobody to accompany and are left out of those tasks."""
    made: list[data.Sequence] = []
    for i, piece in enumerate(pieces):
        own = np.ones(len(piece.onset), bool) if task in WHOLE else piece.part != piece.part.min()
        if task not in WHOLE and (own.all() or own.sum() < 2):
            continue
        shift = data.key_changes(len(piece.onset), np.random.default_rng(i)) if task.startswith("follow") else 0
        made.append(data.sequence(piece, own, 0, len(piece.onset), told=TASKS[task], shift=shift))
    return sorted(made, key=lambda s: len(s.dt))  # rows of like length side by side waste less


@torch.no_grad()
def score(network: Network, made: list[data.Sequence], device: str) -> dict[str, Any]:
    """Mean nats a note by head over all events of the sequences, the shortest first (see `sequences`)."""
    network.eval()
    total, n = np.zeros(3), 0.0
    for row in range(0, len(made), BATCH):
        rows = made[row : row + BATCH]
        state = network.start(len(rows), device)
        for a in range(0, max(len(s.dt) for s in rows) - 1, WINDOW):
            # Those that have ended are the first of them.
            n_ended = sum(len(s.dt) - 1 <= a for s in rows)
            rows, state = rows[n_ended:], (state[0][:, n_ended:].contiguous(), state[1][:, n_ended:].contiguous())
            size = min(WINDOW, len(rows[-1].dt) - 1 - a)
            cuts = [data.cut(s, a, min(a + WINDOW, len(s.dt) - 1), size) for s in rows]
            batch = tensors(data.stack(cuts), device)
            nats, state = network.nats(batch, state)
            total += nats.sum((1, 2)).double().cpu().numpy()
            n += float(batch["weight"].sum())
    heads = total / max(n, 1.0)
    return {**{k: round(float(x), 4) for k, x in zip(HEADS, heads, strict=True)}, "note": round(float(heads.sum()), 4), "n_notes": int(n)}


def evaluate(
    network: Network, pieces: list[Piece], device: str = "cpu", tasks: Iterable[str] = TASKS, pieces_limit: int | None = None
) -> dict[str, Any]:
    """The figures of `tasks`. `pieces_limit` scores that many pieces, evenly spread, for a glance during training."""
    if pieces_limit is not None and pieces_limit < len(pieces):
        pieces = [pieces[i] for i in np.linspace(0, len(pieces) - 1, pieces_limit).astype(int)]
    return {task: score(network, sequences(pieces, task), device) for task in tasks}


def order_0(train: list[Piece], held_out: list[Piece]) -> dict[str, Any]:
    """The scale to read the figures by: nats a note of a model without memory (frequencies in `train`, add-one), task ``all``."""
    sizes = (v.N_DT, v.N_PITCH, v.N_DURATION)
    counts = [np.ones(n) for n in sizes]
    for piece in train:
        for count, column in zip(counts, v.encode(piece.onset, piece.pitch, piece.duration)[1:], strict=True):
            count += np.bincount(column, minlength=len(count))
    columns = [np.concatenate(c) for c in zip(*(v.encode(p.onset, p.pitch, p.duration)[1:] for p in held_out), strict=True)]
    heads = [float(-np.log(count / count.sum())[column].mean()) for count, column in zip(counts, columns, strict=True)]
    return {**{k: round(x, 4) for k, x in zip(HEADS, heads, strict=True)}, "note": round(sum(heads), 4), "n_notes": len(columns[0])}


def score_performer(args: argparse.Namespace) -> dict[str, Any]:
    from models.generation.train import begin, restore  # late: it imports this module

    run = args.checkpoint[0]
    network, _ = restore(run) if run.is_file() else begin(str(run), 0.0)
    train, validation, held_out = load(args.data, args.only)
    scored = {"train": train, "valid": validation, "test": held_out}[args.split]
    return {"order_0": order_0(train, scored)} | evaluate(network.to(args.device), scored, args.device)


def score_lstm(args: argparse.Namespace) -> dict[str, Any]:
    from models.generation import frame_data, frame_evaluate

    pieces = frame_data.load(args.data)[args.split]
    networks = [n.to(args.device) for n in frame_evaluate.members(*args.checkpoint)]
    heads = sorted({"bernoulli" if args.draws else n.head for n in networks})
    if len(heads) > 1:
        raise SystemExit("joint and Bernoulli networks cannot be mixed as they are: with --draws, say 16, the joint ones go key by key")
    shifts = list(range(-args.shifts, args.shifts + 1))
    made = frame_evaluate.components(networks, pieces, shifts, args.device, args.draws)
    predicted = frame_evaluate.mix(made, args.trust)
    if args.out is not None:
        np.savez_compressed(args.out, **predicted)
    facts = {"head": heads[0], "members": len(networks), "shifts": args.shifts, "trust": args.trust}
    return facts | frame_evaluate.figure(pieces, predicted)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", choices=("performer", "lstm"), default="performer", help="lstm: the frame model of the benchmarks")
    p.add_argument("--data", type=Path, required=True, help="folder of the performer's data, or .npz of frames")
    p.add_argument("--split", choices=("train", "valid", "test"), default="test", help="test: the held-out pieces")
    p.add_argument("--only", help="of the performer: pieces with this in their name")
    runs = "folder of the run, or a model of the zoo; of the lstm several folders, or members in them"
    p.add_argument("--checkpoint", type=Path, nargs="+", required=True, help=runs)
    p.add_argument("-o", "--out", type=Path, help="of the lstm: predictions, .npz with logp (frames,) or probs (frames, 88)")
    p.add_argument("--shifts", type=int, default=0, help="of the lstm: mix the readings of the piece moved by up to so many semitones")
    p.add_argument("--draws", type=int, default=0, help="of the lstm: take joint networks key by key, from so many draws a frame")
    p.add_argument("--trust", type=float, default=0.0, help="of the lstm: how much the mixture leans to who was right before, 0 to 1")
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=1)
    return p


if __name__ == "__main__":
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    print(json.dumps({"performer": score_performer, "lstm": score_lstm}[arguments.model](arguments), indent=1))
