"""Stated against measured latency of a live server, for every preset and block size, through JACK.

    python benchmarks/latency.py [--output FILE.json]

For each pair: a private jackd with that period, ``rtserver run`` with a harmonic, a percussive and a dry output, and a tape machine that
plays noise and records what comes back. Harmonic and percussive sum to the input, so the lag of their sum behind the dry output, which
goes through the callback alone, is the server's own latency; the dry output's lag is the way through JACK and back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from machine import machine, private_jackd, write_result

RATE = 48000
PRESETS = ("stage", "default", "quality")
BLOCKS = (64, 128, 256, 480, 1024)
SHOW = """
name = "rtbench"
[audio]
device = "system"
block_size = {block}
spare_blocks = 2
[separation]
preset = "{preset}"
[outputs.harmonic]
source = "harmonic"
channels = [1]
[outputs.percussive]
source = "percussive"
channels = [2]
[outputs.monitor]
source = "dry"
channels = [3]
align = false
[generation]
enabled = false
[midi]
api = "null"
[wire]
enabled = false
"""


def lag(reference: np.ndarray, delayed: np.ndarray) -> int:
    """Frames by which `delayed` lags `reference`."""
    n = 1 << (len(reference) + len(delayed)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(delayed, n) * np.conj(np.fft.rfft(reference, n)), n)
    return int(np.argmax(cross[: n // 2]))


def measure(preset: str, block: int) -> dict[str, object]:
    """One server: stated and measured latency in frames."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 2 * RATE).astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch, private_jackd(block, RATE) as environment:
        folder = Path(scratch)
        (folder / "show.toml").write_text(SHOW.format(block=block, preset=preset))
        soundfile.write(folder / "play.wav", noise, RATE, "FLOAT")
        stated = json.loads(
            subprocess.run(
                [sys.executable, "-m", "rtserver", "latency", str(folder / "show.toml"), "--json"], check=True, capture_output=True
            ).stdout
        )
        server = subprocess.Popen([sys.executable, "-m", "rtserver", "run", str(folder / "show.toml")], env=environment)
        try:
            tape = [sys.executable, "-m", "rtserver.audio.tape", str(folder / "play.wav"), str(folder / "record.wav"), "--channels", "3"]
            tape += ["--play-to", "rtbench", "--record-from", "rtbench", "--block-size", str(block)]
            subprocess.run(tape, env=environment, check=True, stdout=subprocess.DEVNULL)
        finally:
            server.terminate()
            server.wait()
        record, _ = soundfile.read(folder / "record.wav")
    way = lag(noise, record[:, 2])
    frames = {entry["output"]: entry["frames"] for entry in stated["outputs"]}
    return {
        "preset": preset,
        "block_size": block,
        "stated": frames["harmonic"],
        "measured": lag(noise, record[:, 0] + record[:, 1]) - way,
        "jack_and_back": way,
    }


def main() -> None:
    """Measure every pair and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    print("| preset | block | stated | measured | ms | through JACK and back |\n|---|---|---|---|---|---|")
    for preset in PRESETS:
        for block in BLOCKS:
            row = measure(preset, block)
            rows.append(row)
            ms = 1000 * int(str(row["measured"])) / RATE
            print(f"| {preset} | {block} | {row['stated']} | {row['measured']} | {ms:.1f} | {row['jack_and_back']} |", flush=True)
    wrong = [row for row in rows if row["stated"] != row["measured"]]
    write_result("latency", {"rows": rows, "sample_rate": RATE, "spare_blocks": 2, "machine": machine()}, args.output)
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(rows)} differ")


if __name__ == "__main__":
    main()
