"""Time of one HPSS hop, spectrum to stems, beside the same hop made with scipy and with librosa, all in one run.

usage: hpss.py [--rounds N] [--output FILE]

ours      Stft, Hpss, Istft as the engine calls them, from Python
numpy     scipy.fft, numpy.median over the last n_past spectra, scipy.ndimage.median_filter over the newest one, Wiener mask, overlap-add
scipy     as numpy, but scipy.ndimage.median_filter for both medians (over time it filters the whole history)
librosa   as numpy, but librosa.decompose.hpss on the last n_past spectra (it filters all of them; only the newest is used)
span      as librosa, on as many spectra as ours spans (n_past · past_step): the same stretch of time, without leaving any out

They take turns, so that whatever else the machine does falls on all of them. p50 and p99 in microseconds over all hops.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.ndimage
from machine import machine, write_result
from tqdm import tqdm

from rtserver.dsp.hpss import PRESETS, HpssPreset
from rtserver.dsp.windows import window_pair
from rtserver.node import Spec

SAMPLE_RATE = 48000
HOPS_A_ROUND = {"ours": 400, "numpy": 20, "scipy": 2, "librosa": 2, "span": 1}
OTHERS = ("numpy", "scipy", "librosa", "span")
Hop = Callable[[np.ndarray], None]
Masks = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ours(preset: HpssPreset, n_channels: int) -> Hop:
    """The three nodes, prepared, with the buffers between them."""
    stft, hpss, istft = preset.nodes()
    spectrum = stft.prepare(Spec.signal(SAMPLE_RATE, n_channels, preset.hop_size))
    masked = hpss.prepare(spectrum)
    a, b, out = spectrum.empty(), masked.empty(), istft.prepare(masked).empty()

    def hop(x: np.ndarray) -> None:
        stft.process(x, a)
        hpss.process(a, b)
        istft.process(b, out)

    return hop


def by_hand(preset: HpssPreset, n_channels: int, separate: Masks, n_past: int) -> Hop:
    """The same hop in numpy and scipy around `separate`, which takes (history, spectrum) and returns both stems' spectra."""
    pair = window_pair(preset.window_size, preset.hop_size, preset.synthesis_size)
    past = np.zeros((n_channels, preset.window_size), np.float32)
    tail = np.zeros((2, n_channels, preset.synthesis_size), np.float32)
    history = np.zeros((n_channels, preset.window_size // 2 + 1, n_past), np.complex64)
    hop_size, m = preset.hop_size, preset.synthesis_size

    def hop(x: np.ndarray) -> None:
        past[:, :-hop_size] = past[:, hop_size:]
        past[:, -hop_size:] = x
        spectrum = scipy.fft.rfft(past * pair.analysis, axis=-1)
        history[:, :, :-1] = history[:, :, 1:]
        history[:, :, -1] = spectrum
        frames = scipy.fft.irfft(separate(history, spectrum), axis=-1)
        tail[:, :, :-hop_size] = tail[:, :, hop_size:]
        tail[:, :, -hop_size:] = 0.0
        tail[:] += frames[:, :, -m:] * pair.synthesis

    return hop


def numpy_masks(preset: HpssPreset) -> Masks:
    """The medians as one would write them by hand."""

    def separate(history: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        power = np.abs(history) ** 2
        return stems(np.median(power, axis=-1), scipy.ndimage.median_filter(power[:, :, -1], size=(1, preset.n_around)), spectrum)

    return separate


def scipy_masks(preset: HpssPreset) -> Masks:
    """Both medians by scipy.ndimage: over time the middle column of the filtered history is the median of all of it."""

    def separate(history: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        power = np.abs(history) ** 2
        h = scipy.ndimage.median_filter(power, size=(1, 1, preset.n_past))[:, :, preset.n_past // 2]
        return stems(h, scipy.ndimage.median_filter(power[:, :, -1], size=(1, preset.n_around)), spectrum)

    return separate


def stems(h: np.ndarray, p: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Both stems' spectra from both medians."""
    harmonic = spectrum * (h / (h + p + 1e-30))
    return np.stack([harmonic, spectrum - harmonic])


def librosa_masks(preset: HpssPreset, n_past: int) -> Masks | None:
    """librosa.decompose.hpss on the history; None, and a line that says so, where librosa is missing."""
    try:
        import librosa
    except ImportError:
        print("librosa is not installed: its column is left out (pip install librosa)")
        return None

    def separate(history: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        harmonic, percussive = librosa.decompose.hpss(history, kernel_size=(n_past, preset.n_around))
        return np.stack([harmonic[:, :, -1], percussive[:, :, -1]])

    return separate


def measure(methods: dict[str, Hop], n_channels: int, hop_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p99 of every method in microseconds, methods taking turns."""
    rng = np.random.default_rng(0)
    hops = [rng.uniform(-0.5, 0.5, (n_channels, hop_size)).astype(np.float32) for _ in range(max(HOPS_A_ROUND.values()))]
    times: dict[str, list[float]] = {name: [] for name in methods}
    for i in range(rounds + 1):  # the first round warms up
        for name, hop in methods.items():
            for x in hops[: HOPS_A_ROUND[name]]:
                start = time.perf_counter_ns()
                hop(x)
                if i > 0:
                    times[name].append((time.perf_counter_ns() - start) / 1e3)
    return {name: {"p50_us": round(float(np.median(t)), 2), "p99_us": round(float(np.percentile(t, 99)), 2)} for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=20, help="rounds of 400 hops of ours, 20 of numpy, 2 of scipy and of librosa, 1 of span"
    )
    parser.add_argument("--output", type=Path, help="default: results/hpss-DATE.json beside this script")
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    lines = [
        "| preset | channels | ours p50 / p99 µs | of the hop | "
        + " | ".join(f"{k} p50" for k in OTHERS)
        + " | times slower: numpy | scipy"
        " | librosa | span |",
        "|---" * (4 + 2 * len(OTHERS)) + "|",
    ]
    for name, n_channels in tqdm([(name, n) for name in PRESETS for n in (1, 2)], unit="case", disable=None):
        preset = PRESETS[name]
        span = preset.n_past * preset.past_step // 2 * 2 + 1  # librosa wants it odd
        methods = {"ours": ours(preset, n_channels)}
        for key, masks in (
            ("numpy", numpy_masks(preset)),
            ("scipy", scipy_masks(preset)),
            ("librosa", librosa_masks(preset, preset.n_past)),
        ):
            if masks is not None:
                methods[key] = by_hand(preset, n_channels, masks, preset.n_past)
        if (spanning := librosa_masks(preset, span)) is not None:
            methods["span"] = by_hand(preset, n_channels, spanning, span)
        times = measure(methods, n_channels, preset.hop_size, args.rounds)
        hop_us = preset.hop_size / SAMPLE_RATE * 1e6
        rows.append({"preset": name, "n_channels": n_channels, "hop_us": round(hop_us, 1)} | times)
        mine = times["ours"]["p50_us"]
        other = [times[k]["p50_us"] if k in times else None for k in OTHERS]
        cells = [f"{mine:.1f} / {times['ours']['p99_us']:.1f}", f"{100 * mine / hop_us:.2f} %"]
        cells += [f"{v:.0f}" if v else "–" for v in other] + [f"{v / mine:.0f}×" if v else "–" for v in other]
        lines.append("| " + " | ".join([name, str(n_channels), *cells]) + " |")
    print("\n".join(lines))
    write_result("hpss", {"hops": rows, "machine": machine()}, args.output)


if __name__ == "__main__":
    main()
