"""The table of everything that separates: every method is in it, and what it prints is what it keeps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "models"))  # the clips that its tests make

from stemclips import stems, write  # noqa: E402


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("loop_a", "loop_b", "midi_a")):
        sounds = stems(1.2, seed)
        write(folder / name, {k: sounds[k] for k in (("drums", "other") if name == "loop_a" else sounds)})
    out = tmp_path_factory.mktemp("out") / "table.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "separation_quality.py"), "--clips", str(folder), "--networks", "stems3-int8"]
    command += ["--blends", "0.3", "--no-librosa", "--per-clip", "--json", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(out.read_text()), done.stdout


def test_every_method_is_compared(printed: tuple[dict, str]) -> None:
    names = list(printed[0]["means_db"])
    assert len([n for n in names if n.startswith("HPSS ") and "alone" not in n]) == 3
    assert len([n for n in names if n.startswith("KAM live")]) == len([n for n in names if n.startswith("KAM whole")]) == 6
    assert len([n for n in names if n.startswith("stems3-int8")]) == 8, (
        "without blend, with the manifest's, with the one asked for and by place, at two presets"
    )
    assert len([n for n in names if n.startswith("oracle mask")]) == len([n for n in names if "alone as stems" in n]) == 2
    assert names[0] == "mixture"


def test_each_is_held_against_ours_at_its_own_latency(printed: tuple[dict, str]) -> None:
    result = printed[0]
    for ms, preset in (("11.6", "default"), ("5.8", "stage")):
        of, own = (result["per_clip_db"][name] for name in (f"stems3-int8, {ms} ms", f"HPSS {preset}, {ms} ms"))
        gains = [of[c]["percussive"][0] - own[c]["percussive"][0] for c in of]
        found = result["ahead_of_causal_hpss_db"][f"stems3-int8, {ms} ms"]["all percussive"]
        assert found["mean"] == pytest.approx(sum(gains) / len(gains), abs=0.006)
        assert found["worst"] == pytest.approx(min(gains), abs=0.006)


def test_a_clip_without_bass_is_scored_without(printed: tuple[dict, str]) -> None:
    result = printed[0]
    assert "bass" not in result["per_clip_db"]["mixture"]["loop_a"]
    assert "bass" in result["per_clip_db"]["mixture"]["loop_b"]
    assert set(result["bsseval_v4_db"]["per_clip"]["mixture"]["loop_a"]) == {"drums", "other"}


def test_what_is_kept_is_what_is_printed(printed: tuple[dict, str]) -> None:
    result, said = printed
    assert result["clips"] == {"loop": ["loop_a", "loop_b"], "midi": ["midi_a"]}
    assert result["networks"]["stems3-int8"]["sha256"] and result["machine"]["cores"] > 0
    for method, of in result["means_db"].items():
        assert f"| {method} | {of['loop']['harmonic'][0]:.2f} / {of['loop']['harmonic'][1]:.2f} |" in said
    for clip in ("loop_a", "midi_a"):
        assert f"\n{clip}\n" in said
