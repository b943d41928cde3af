"""What the frame model predicts for a split, as probabilities that can be scored by anybody: see `evaluate --model lstm`.

Several networks and several transpositions of the piece can be mixed. Each of them says ``p_k(frame | past)``, and so does their mixture,
``sum_k w_k p_k``, as long as the weights come from the past alone. Here ``w_k`` is proportional to ``p_k(past) ** trust``: 0 is the plain
mean, 1 is Bayesian model averaging. The transposed reading is a bijection of frames, apart from what falls off the keyboard, which counts
as probability 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.generation import frame_data, frame_marginals
from models.generation.frame_network import FrameNetwork
from models.generation.frame_train import Network, restore

MAX_FRAMES = 8192  # padded frames run at once: a gigabyte
N_BOOTSTRAP = 2000


def members(*runs: Path) -> list[Network]:
    """The networks of folders of `frame_train`, or of single files in them. Exits where there is none."""
    made: list[Network] = []
    for run in runs:
        paths = sorted(run.glob("member-*.pt")) if run.is_dir() else [run]
        if not paths:
            raise SystemExit(f"{run} holds no member-0.pt: name the --out folder of models.generation.frame_train")
        made += [restore(p) for p in paths]
    return made


@torch.no_grad()
def components(
    networks: list[Network], pieces: list[np.ndarray], shifts: list[int], device: str = "cpu", draws: int = 0
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """For each piece the log-probability of each frame by each component (networks x shifts, frames), and of Bernoulli networks the
    probabilities (networks x shifts, frames, 88), brought back to the written key; None of joint ones.

    With `draws` joint networks count as Bernoulli ones, by that many draws a frame (`frame_marginals`)."""
    out: list[tuple[np.ndarray, np.ndarray | None]] = []
    for piece in pieces:
        age = frame_data.ages(piece)
        moved = [frame_data.transpose(piece, s) for s in shifts]
        at_once = max(1, MAX_FRAMES // len(piece))
        logs: list[np.ndarray] = []
        keys: list[np.ndarray] = []
        for network in networks:
            seen, place = frame_data.past(piece, age, network.lags)
            rows = [(m, frame_data.transpose(seen, s), place) for m, s in zip(moved, shifts, strict=True)]
            for a in range(0, len(rows), at_once):
                batch = frame_data.collate(rows[a : a + at_once]).to(device)
                if isinstance(network, FrameNetwork) and network.head == "joint" and not draws:
                    logs.append(network.log_joint(batch).double().cpu().numpy())
                else:
                    if isinstance(network, FrameNetwork) and network.head == "joint":
                        p = frame_marginals.marginals(network, batch, draws).double().cpu().numpy()
                    else:
                        p = torch.sigmoid(network.key_logits(batch).double()).cpu().numpy()
                    keys.append(np.stack([frame_data.transpose(x, -s) for x, s in zip(p, shifts[a : a + at_once], strict=True)]))
        if keys:
            p = np.concatenate(keys)
            q = np.clip(p, 1e-7, 1 - 1e-7)
            out.append((np.where(piece > 0, np.log(q), np.log1p(-q)).sum(axis=-1), p))
        else:
            log = np.concatenate(logs)
            lost = np.stack([m.sum(axis=1) < piece.sum(axis=1) for m in moved])
            log[np.tile(lost, (len(networks), 1))] = -np.inf
            out.append((log, None))
    return out


def weights(log: np.ndarray, trust: float) -> np.ndarray:
    """Weights (components, frames) that sum to one, each frame's from the frames before it alone."""
    past = np.cumsum(np.maximum(log, -1e4), axis=1) - np.maximum(log, -1e4)
    x = trust * past
    w = np.exp(x - x.max(axis=0))
    return w / w.sum(axis=0)


def mix(made: list[tuple[np.ndarray, np.ndarray | None]], trust: float) -> dict[str, np.ndarray]:
    """``logp`` (frames,) or ``probs`` (frames, 88) of all pieces in a row: what a scorer reads."""
    if made[0][1] is None:
        with np.errstate(divide="ignore"):
            rows = [np.logaddexp.reduce(np.log(weights(log, trust)) + log, axis=0) for log, _ in made]
        return {"logp": np.concatenate(rows)}
    return {"probs": np.concatenate([np.einsum("kt,ktp->tp", weights(log, trust), p) for log, p in made if p is not None])}


def figure(pieces: list[np.ndarray], predicted: dict[str, np.ndarray]) -> dict[str, Any]:
    """Nats a frame, first frames left out as in the code of Bai et al. 2018, and the 95 % interval of a bootstrap over pieces."""
    if "logp" in predicted:
        log = predicted["logp"]
    else:
        x, p = np.concatenate(pieces), np.clip(predicted["probs"], 1e-7, 1 - 1e-7)
        log = np.where(x > 0, np.log(p), np.log1p(-p)).sum(axis=1)
    rows = np.split(-log, np.cumsum([len(p) for p in pieces])[:-1])
    total, n = np.array([r[1:].sum() for r in rows]), np.array([len(r) - 1 for r in rows])
    draws = np.random.default_rng(0).integers(0, len(n), (N_BOOTSTRAP, len(n)))
    low, high = np.percentile(total[draws].sum(axis=1) / n[draws].sum(axis=1), (2.5, 97.5))
    return {"nats": round(float(total.sum() / n.sum()), 4), "low": round(float(low), 4), "high": round(float(high), 4), "n_pieces": len(n)}
