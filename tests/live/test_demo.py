"""The demonstration is the main job: it must pass, and leave what it says."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from rtserver.audio import file as audio_file


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JACK_")}  # it brings a server of its own
    done = subprocess.run(
        [sys.executable, "-m", "rtserver", "demo", "-o", str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    return folder, done


def test_it_passes(demo):
    _, done = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo passed" in done.stdout


def test_it_leaves_every_file_that_it_names(demo):
    folder, done = demo
    named = [line.strip() for line in done.stdout.split("files:")[1].splitlines() if line.strip().startswith(str(folder))]
    assert {name.rsplit("/", 1)[1] for name in named} >= {
        "harmonic.wav",
        "percussive.wav",
        "drums.wav",
        "bass.wav",
        "other.wav",
        "generated.mid",
        "events.jsonl",
        "summary.json",
    }
    for name in named:
        with open(name, "rb") as file:
            assert file.read(4), name


def test_what_was_heard_sums_to_what_was_played(demo):
    """Where nothing was late; the measured share of late frames is in the summary."""
    folder, _ = demo
    x, h, p = (audio_file.read(folder / f"{name}.wav")[0][0] for name in ("input", "harmonic", "percussive"))
    n = min(len(x), len(h), len(p))
    exact = np.abs(x[:n] - h[:n] - p[:n]) < 1e-4
    assert exact.mean() > 0.9


def test_the_stems_of_the_band_sum_to_the_band(demo):
    folder, _ = demo
    band, *stems = (audio_file.read(folder / f"{name}.wav")[0][0] for name in ("band", "drums", "bass", "other"))
    n = min(map(len, (band, *stems)))
    assert (np.abs(band[:n] - np.sum([x[:n] for x in stems], axis=0)) < 1e-4).mean() > 0.9


def test_the_summary_holds_figures(demo):
    folder, _ = demo
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["notes_on"] == summary["notes_off"] > 20
    assert min(summary["notes_by_part"].values()) > 5
    assert summary["replay"]["n_frames"] > 30 * 48000
    assert summary["replay"]["n_different"] == 0
    assert summary["replay"]["n_same_notes"] == summary["replay"]["n_notes"]
    assert 0.0 < summary["error_s"]["50"] < 0.15
    assert summary["stems"]["stated"] == summary["stems"]["measured"]
    for mixture, medians, network in summary["stems"]["si_sdr_db"].values():
        assert mixture < min(medians, network)
