"""The round trip through a loop-back cable, measured: three bursts of noise, found again by correlation. Pure arithmetic, no device.

Each burst is white, so that its correlation with itself is one narrow peak, and of its own seed, so that the echo of one is not taken for
another. How much the peak stands out and whether the three agree is the confidence; where it is low, the record tells why.
"""

from __future__ import annotations

import msgspec
import numpy as np

from rtserver.node import Array

N_BURSTS = 3
BURST_SIZE = 1 << 14  # frames: 42 dB of gain over noise that does not correlate
LONGEST_S = 1.0  # round trips up to this are found: JACK with large periods, wireless links
ASIDE = 32  # frames beside the peak that belong to it: a band-limited path smears it
CONFIDENT = 0.5
SILENT_DB, CLIPPED = -70.0, 0.99


class RoundTrip(msgspec.Struct, frozen=True):
    """What was found between one output and one input channel.

    frames : median of the bursts, in frames; fine : the same with the peak's place between frames; confidence : 0..1;
    bursts : each burst's own; level_db : of what came back, against what was sent; remedy : what to look at where confidence is low.
    """

    frames: int
    fine: float
    seconds: float
    confidence: float
    bursts: tuple[int, ...]
    level_db: float
    remedy: str = ""


def gap_size(sample_rate: int) -> int:
    """Frames from the end of one burst to the next."""
    return round(LONGEST_S * sample_rate)


def bursts(sample_rate: int, level_db: float) -> Array:
    """The signal to play, (n_frames,) float32: bursts of ±`level_db` dBFS, each followed by silence."""
    silence = np.zeros(gap_size(sample_rate), np.float32)
    amplitude = np.float32(10.0 ** (level_db / 20.0))
    parts: list[Array] = []
    for seed in range(N_BURSTS):
        parts += [amplitude * _burst(seed), silence]
    return np.concatenate(parts)


def _burst(seed: int) -> Array:
    """White noise of two values, (BURST_SIZE,) float32: all of its energy below a given peak."""
    return np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), BURST_SIZE)


def round_trip(record: Array, sample_rate: int, level_db: float) -> RoundTrip:
    """Find the bursts again in `record`, (n_frames,) float32, recorded while they were played."""
    step = BURST_SIZE + gap_size(sample_rate)
    found = [_find(record[seed * step : (seed + 1) * step], _burst(seed)) for seed in range(N_BURSTS)]
    places = tuple(place for place, _, _, _ in found)
    frames = int(np.median(places))
    agreeing = sum(abs(place - frames) <= 1 for place in places) / N_BURSTS
    clear = float(np.median([1.0 - second / peak if peak > 0 else 0.0 for _, _, peak, second in found]))
    # A single burst out of three may be an accident: below two agreeing bursts there is no confidence at all.
    confidence = clear * agreeing if agreeing * N_BURSTS >= 2 else 0.0
    peaks = np.median([peak for _, _, peak, _ in found]) / BURST_SIZE
    returned_db = 20.0 * np.log10(max(float(peaks), 1e-9)) - level_db
    fine = float(np.median([place + offset for place, offset, _, _ in found]))
    remedy = "" if confidence >= CONFIDENT else _remedy(record, agreeing)
    return RoundTrip(frames, fine, frames / sample_rate, confidence, places, float(returned_db), remedy)


def _find(heard: Array, burst: Array) -> tuple[int, float, float, float]:
    """(place, its fraction of a frame, height of the peak, height of the next) of `burst` in `heard`."""
    n_fft = 1 << (len(heard) + len(burst)).bit_length()
    cross: Array = np.abs(
        np.fft.irfft(np.fft.rfft(heard, n_fft) * np.conj(np.fft.rfft(burst, n_fft)), n_fft)[: len(heard) - len(burst) + 1]
    )
    place = int(np.argmax(cross))
    peak = float(cross[place])
    others = cross.copy()
    others[max(0, place - ASIDE) : place + ASIDE + 1] = 0.0
    offset = 0.0
    if 0 < place < len(cross) - 1:
        before, after = float(cross[place - 1]), float(cross[place + 1])
        bend = before - 2.0 * peak + after  # a parabola through three points
        offset = 0.5 * (before - after) / bend if bend else 0.0
    return place, offset, peak, float(others.max())


def _remedy(record: Array, agreeing: float) -> str:
    loudest = float(np.abs(record).max(initial=0.0))
    if 20.0 * np.log10(max(loudest, 1e-9)) < SILENT_DB:
        return "nothing comes back: is the cable between this output and this input, and is the input's gain up?"
    if loudest >= CLIPPED:
        return "the input clips: turn its gain down, or use a lower --level-db"
    if agreeing < 1.0:
        return "the bursts do not agree: dropouts (a larger audio.block_size?), or feedback: mute the monitors"
    return "the bursts hardly stand out: raise --level-db, or is there another signal on this input?"
