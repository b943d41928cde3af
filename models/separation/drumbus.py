"""What a whole drum stem goes through: the room and the compressor of a real kit, or what is done to machines."""

from __future__ import annotations

import numpy as np

from models.separation import effects
from models.separation.oneshots import log_uniform
from models.separation.stems import SAMPLE_RATE

SHORT_ROOM = {"size": (0.2, 0.7), "decay_s": (0.12, 0.7), "wet": (0.05, 0.5)}
BANDS = ((50.0, 130.0, 4.0), (200.0, 900.0, 5.0), (2000.0, 6000.0, 5.0), (6000.0, 14000.0, 6.0))  # Hz from, to, dB at most
# Shares of the excerpts.
ROOM, BAND, PARALLEL, SATURATED = 0.5, 0.4, 0.5, 0.2
LOFI, ECHO, MACHINE_ROOM, MACHINE_SATURATED = 0.35, 0.2, 0.25, 0.3


def live(drums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A kit as it is recorded and mixed, in place: equaliser, a room that all drums share, parallel compression, saturation."""
    for low, high, most_db in BANDS:
        if rng.random() < BAND:
            centre, gain_db = log_uniform(rng, low, high), rng.uniform(-most_db, most_db)
            effects.peaking(drums, np.float32(centre / SAMPLE_RATE), np.float32(gain_db), np.float32(rng.uniform(0.5, 1.5)))
    if rng.random() < ROOM:
        effects.room(drums, rng, **SHORT_ROOM)
    if rng.random() < PARALLEL:
        effects.compressed(drums, rng)
    return saturated(drums, rng, SATURATED)


def machine(drums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An electronic kit as it is mixed, in place: lower rates and bits or filters, saturation, a short echo, a room, compression."""
    if rng.random() < LOFI:
        lofi(drums, rng)
    saturated(drums, rng, MACHINE_SATURATED)
    if rng.random() < ECHO:
        delay = int(log_uniform(rng, 0.03, 0.35) * SAMPLE_RATE)
        effects.echo(drums, delay, np.float32(rng.uniform(0.0, 0.6)), np.float32(rng.uniform(0.0, 0.7)), np.float32(rng.uniform(0.15, 0.6)))
    if rng.random() < MACHINE_ROOM:
        effects.room(drums, rng)
    if rng.random() < 0.25:
        effects.compressed(drums, rng)
    return drums


def lofi(drums: np.ndarray, rng: np.random.Generator) -> None:
    """A lower sample rate with few bits, a low-pass, or a band-pass."""
    kind = rng.random()
    if kind < 0.4:
        bits = rng.uniform(5.0, 10.0)
        step = np.float32(2.0**-bits * max(float(np.abs(drums).max()), 1e-6))
        effects.crush(drums, SAMPLE_RATE / log_uniform(rng, 4000.0, 22000.0), step)
    elif kind < 0.75:
        effects.filtered(drums, effects.LOW, log_uniform(rng, 1200.0, 8000.0) / SAMPLE_RATE, rng.uniform(0.4, 1.4))
    else:
        effects.filtered(drums, effects.BAND, log_uniform(rng, 300.0, 3000.0) / SAMPLE_RATE, rng.uniform(1.0, 2.0))


def saturated(drums: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """The drums, a share of them driven a little."""
    if rng.random() < share:
        effects.distort(drums, np.float32(rng.uniform(1.0, 5.0)), np.float32(0.4))
    return drums
