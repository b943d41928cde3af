"""Nats a note of an exported model, stepped as the run-time steps it: what rounding to int8 costs, and that training and stage agree."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from models.generation.data import Sequence
from models.generation.evaluate import HEADS
from rtserver.generation import vocabulary as v
from rtserver.generation.note_network import NoteNetwork
from rtserver.generation.vocabulary import NoteEvent


def score(network: NoteNetwork, made: list[Sequence], n_notes: int) -> dict[str, float]:
    """Mean nats by head and in all (``note``) over the sequences, until `n_notes` have been scored.

    What the model does not take is not heard.
    """
    total, n = np.zeros(3), 0
    for s in made:
        network.clear()
        network.set_texture(s.texture)
        network.set_part(s.part)
        events = [NoteEvent(*e) for e in zip(s.dt.tolist(), s.pitch.tolist(), s.duration.tolist(), strict=True)]
        for i, (event, following) in enumerate(pairwise(events[: n_notes - n + 1])):
            for k, there in network.conditions.items():
                there[...] = getattr(s, k)[i]
            network.sounding[...] = s.sounding[i]
            network.next_sounding[...] = s.next_sounding[i]
            network.set_bar(*_bar_line(s, i))
            network.step(event, int(s.phase[i]))
            network.set_bar(*_bar_line(s, i + 1))
            network.run_pitch(following.dt, int(s.phase[i + 1]))
            network.run_duration(following.pitch)
            network.swap()
            keys = np.arange(v.N_PITCH)
            rising = keys > event.pitch if following.dt == 0 and event.pitch != v.START else keys >= 0
            known = np.arange(v.N_DURATION) != v.UNKNOWN_DURATION
            total += (
                nats(network.dt_logits, following.dt),
                nats(network.pitch_logits, following.pitch, rising),
                nats(network.duration_logits, following.duration, known),
            )
            n += 1
        if n == n_notes:
            break
    heads = total / max(n, 1)
    return {**{k: round(float(x), 4) for k, x in zip(HEADS, heads, strict=True)}, "note": round(float(heads.sum()), 4)}


def _bar_line(s: Sequence, i: int) -> tuple[int, int]:
    """The last bar line before row `i`, on the axis of the phase, and the ticks of a bar."""
    return int(s.phase[i] - s.bar[i]) + 1, 12 * s.metre


def nats(logits: np.ndarray, chosen: int, allowed: np.ndarray | None = None) -> float:
    """-log of the probability of one choice among those allowed."""
    x = logits.astype(np.float64)
    if allowed is not None:
        x = np.where(allowed, x, -np.inf)
    top = x.max()
    return float(np.log(np.exp(x - top).sum()) + top - x[chosen])
