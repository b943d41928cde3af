"""The embedded demonstration is what its README says: the score, the performance, the truth between them, and the recording."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import partitura
import pytest
import soundfile as sf
from partitura.score import Part, Repeat, unfold_part_maximal

from rtserver import demo

FOLDER = demo.SCORE.parent
MAKE_DEMO = Path(__file__).resolve().parents[2] / "tools" / "make_demo.py"
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
JUMP_FROM, JUMP_TO = 24.0, 48.0  # quarters: the end of the first section, and the end of its repeat
LEAD_IN_S, TAIL_S = 0.5, 2.5


@pytest.fixture(scope="module")
def part() -> Part:
    return partitura.load_musicxml(str(demo.SCORE))[0]


@pytest.fixture(scope="module")
def unfolded(part: Part) -> np.ndarray:
    return unfold_part_maximal(part).note_array()


@pytest.fixture(scope="module")
def played() -> list[tuple[float, float, int]]:
    """(onset_s, offset_s, pitch) of every note of the performance, in order of onset."""
    notes: list[tuple[float, float, int]] = []
    sounding: dict[int, float] = {}
    now = 0.0
    for message in mido.MidiFile(demo.PERFORMANCE):
        now += message.time
        if message.type == "note_on" and message.velocity > 0:
            assert message.note not in sounding, f"key {message.note} goes down twice at {now:.3f} s"
            sounding[message.note] = now
        elif message.type in ("note_on", "note_off"):
            notes.append((sounding.pop(message.note), now, message.note))
    assert not sounding, "notes without an end"
    return sorted(notes)


@pytest.fixture(scope="module")
def truth() -> list[dict[str, float]]:
    with demo.TRUTH.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    return sf.read(demo.RECORDING, dtype="int16", always_2d=True)[0]


def test_score_repeats_its_first_section(part: Part) -> None:
    quarter = part.quarter_map
    assert [(float(quarter(r.start.t)), float(quarter(r.end.t))) for r in part.iter_all(Repeat)] == [(0.0, JUMP_FROM)]


def test_every_measure_has_three_quarters(part: Part) -> None:
    lengths = [float(part.quarter_map(m.end.t) - part.quarter_map(m.start.t)) for m in part.measures]
    assert lengths == [3.0] * 24


def test_unfolded_score_counts_its_repeated_notes_twice(part: Part, unfolded: np.ndarray) -> None:
    written = part.note_array()
    n_repeated = int((written["onset_quarter"] < JUMP_FROM).sum())
    assert (len(written), n_repeated, len(unfolded)) == (156, 54, 210)


def test_unfolded_score_lasts_96_quarters(unfolded: np.ndarray) -> None:
    assert unfolded["onset_quarter"].min() == 0.0
    assert (unfolded["onset_quarter"] + unfolded["duration_quarter"]).max() == 96.0


def test_score_stays_in_g_major_but_for_the_leading_note_of_d(part: Part) -> None:
    assert {(n.step, n.alter or 0) for n in part.notes} == {(s, 0) for s in "ABCDEG"} | {("F", 1), ("C", 1)}


def test_truth_moves_forward_within_each_segment(truth: list[dict[str, float]]) -> None:
    for before, after in pairwise(truth):
        if before["segment"] == after["segment"]:
            assert after["score_quarter"] > before["score_quarter"]
            assert after["perf_time_s"] > before["perf_time_s"]


def test_truth_jumps_over_the_repeat(truth: list[dict[str, float]]) -> None:
    jumps = [(before, after) for before, after in pairwise(truth) if before["segment"] != after["segment"]]
    assert [(b["segment"], a["segment"], a["score_quarter"]) for b, a in jumps] == [(0.0, 1.0, JUMP_TO)]
    assert jumps[0][0]["score_quarter"] < JUMP_FROM


def test_truth_times_are_onsets_of_the_performance(
    truth: list[dict[str, float]], unfolded: np.ndarray, played: list[tuple[float, float, int]]
) -> None:
    onsets = defaultdict(list)
    for onset, _, pitch in played:
        onsets[pitch].append(onset)
    for row in truth:
        pitches = unfolded["pitch"][np.isclose(unfolded["onset_quarter"], row["score_quarter"])]
        here = [t for p in pitches for t in onsets[int(p)] if row["perf_min_s"] - 1e-4 <= t <= row["perf_max_s"] + 1e-4]
        assert len(here) == row["n_notes"], row
        assert np.allclose([np.mean(here), min(here), max(here)], [row["perf_time_s"], row["perf_min_s"], row["perf_max_s"]], atol=1e-4)


def test_three_notes_are_wrong_and_three_are_missing(
    truth: list[dict[str, float]], unfolded: np.ndarray, played: list[tuple[float, float, int]]
) -> None:
    quarter = unfolded["onset_quarter"]
    n_due = int(((quarter < JUMP_FROM) | (quarter >= JUMP_TO)).sum())
    n_right = int(sum(row["n_notes"] for row in truth))
    assert (n_due - len(played), len(played) - n_right) == (3, 3)


def test_player_pauses_between_measures_16_and_17(truth: list[dict[str, float]]) -> None:
    before, after = max(pairwise(truth), key=lambda rows: rows[1]["perf_time_s"] - rows[0]["perf_time_s"])
    assert (before["score_quarter"], after["score_quarter"]) == (71.0, 72.0)
    assert 1.7 < after["perf_time_s"] - before["perf_time_s"] < 2.2  # a beat and the pause of 1.5 s


def test_player_slows_down_at_the_end(truth: list[dict[str, float]]) -> None:
    def bpm(a: float, b: float) -> float:
        time_s = {row["score_quarter"]: row["perf_time_s"] for row in truth}
        return 60.0 * (b - a) / (time_s[b] - time_s[a])

    assert bpm(93.0, 95.0) < 0.65 * bpm(72.0, 87.0)


def test_recording_is_stereo_at_48_khz_in_16_bits() -> None:
    info = sf.info(demo.RECORDING)
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 2, "PCM_16")


def test_recording_ends_a_tail_after_the_last_release(recording: np.ndarray, played: list[tuple[float, float, int]]) -> None:
    length_s = len(recording) / 48_000
    assert length_s == pytest.approx(max(offset for _, offset, _ in played) + TAIL_S, abs=0.001)
    assert 30.0 <= length_s <= 36.0


def test_recording_is_loud_but_not_clipped(recording: np.ndarray) -> None:
    assert 0.5 < np.abs(recording.astype(np.int32)).max() / 32768 < 0.9


def test_recording_starts_with_silence_and_then_sounds_with_the_midi_file(
    recording: np.ndarray, played: list[tuple[float, float, int]]
) -> None:
    first = int(np.argmax(np.abs(recording.astype(np.int32)).max(axis=1) > 33)) / 48_000  # -60 dBFS
    assert not recording[: int(LEAD_IN_S * 48_000)].any()
    assert played[0][0] <= first < played[0][0] + 0.02


def test_recording_dies_away_in_a_room(recording: np.ndarray, played: list[tuple[float, float, int]]) -> None:
    def level_db(time_s: float) -> float:
        i = int(time_s * 48_000)
        return 10 * np.log10(np.mean(np.square(recording[i : i + 4800] / 32768.0)) + 1e-12)

    release_s = max(offset for _, offset, _ in played)
    assert level_db(release_s + 0.3) > -60.0  # reverberation: a dry piano's dampers have done their work by then
    assert level_db(len(recording) / 48_000 - 0.1) < -75.0


def test_folder_is_small_enough_to_ship() -> None:
    assert sum(f.stat().st_size for f in FOLDER.iterdir() if f.is_file()) <= 4_000_000


def test_script_makes_the_symbolic_files_again_byte_for_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(MAKE_DEMO), "--symbolic", "-o", str(tmp_path)], check=True)
    for path in (demo.SCORE, demo.PERFORMANCE, demo.TRUTH):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.skipif(shutil.which("fluidsynth") is None or not SOUNDFONT.exists(), reason="needs fluidsynth and FluidR3_GM.sf2")
def test_script_makes_the_recording_twice_the_same(tmp_path: Path) -> None:
    for run in ("a", "b"):
        subprocess.run([sys.executable, str(MAKE_DEMO), "-o", str(tmp_path / run)], check=True)
    assert (tmp_path / "a" / demo.RECORDING.name).read_bytes() == (tmp_path / "b" / demo.RECORDING.name).read_bytes()
