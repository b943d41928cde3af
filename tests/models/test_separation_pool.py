"""The pool on disk: the same for the same seed, validation apart from training, its index true."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from stemsfolder import write_folder

from models.separation import credits, pool, soundfont
from models.separation.excerpts import N_FRAMES, SECONDS, Excerpt, Part
from models.separation.pool import Job
from models.separation.stems import STEMS, read_stems, sources

N = 7  # excerpts
needs_fluidsynth = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="FluidSynth is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("stems"))


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soundfont, "FONTS", ())
        pool.main([str(folder), "--out", str(out), "--minutes", str(N * SECONDS / 60)])
    return out


def test_each_line_of_the_index_has_its_files(built: Path) -> None:
    lines = pool.read_index(built)
    assert len(lines) == N
    for line in lines:
        notes = np.load(built / f"{line['name']}_notes.npy")
        assert notes.dtype == np.float32 and notes.shape[1] == 4
        assert set(notes[:, 3].astype(int)) <= {STEMS.index(s) for s, part in line["stems"].items() if part["notes"]}
        for stem in line["stems"]:
            sound = np.load(built / f"{line['name']}_{stem}.npy", mmap_mode="r")
            assert sound.dtype == np.int16 and sound.shape == (2, N_FRAMES)


def test_an_excerpt_depends_on_the_seed_and_its_number_alone(built: Path, folder: Path, tmp_path: Path) -> None:
    line = pool.read_index(built)[-1]
    kind = {"samples": "samples", "electronic": "electronic", "loops": "loops"}[line["stems"]["drums"]["source"]]
    job = Job(kind, line["split"], int(line["name"].split("_")[1]))
    assert pool.render(job, folder=folder, out=tmp_path, seed=1, fonts=[]) == [line]
    for stem in line["stems"]:
        name = f"{line['name']}_{stem}.npy"
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_validation_is_of_songs_that_training_never_hears(built: Path, folder: Path) -> None:
    songs = {split: set(read_stems(folder, split).songs) for split in ("train", "validation")}
    lines = pool.read_index(built)
    assert {line["split"] for line in lines} == {"train", "validation"}
    for line in lines:
        if line["song"].startswith("midi/"):
            assert line["song"].split("@")[0] in songs[line["split"]]


def test_a_gain_brings_a_stem_to_the_reference(built: Path) -> None:
    for line in pool.read_index(built):
        for stem, part in line["stems"].items():
            sound = np.load(built / f"{line['name']}_{stem}.npy") / np.float32(32767.0)
            assert pool.loudness(sound) * part["gain"] == pytest.approx(pool.REFERENCE, rel=0.01)


def test_the_kinds_have_their_shares_at_any_time() -> None:
    weights = {"samples": 0.4, "electronic": 0.3, "soundfont": 0.2, "loops": 0.1}
    jobs = pool.plan(400, "train", 0, weights)
    counted: Counter[str] = Counter()
    for job in jobs:
        assert job.first == counted.total()
        counted[job.kind] += job.n
        if counted.total() >= 100:
            assert all(abs(counted[k] / counted.total() - w) < 0.1 for k, w in weights.items())
    assert counted.total() == 400


def test_what_is_silent_is_absent(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0.0, 0.1, (2, 44100)).astype(np.float32)
    line = pool.write_excerpt(tmp_path, "a", "train", Excerpt("s", {"drums": Part(sound, "x", "x"), "bass": Part(0.0 * sound, "x", "x")}))
    assert line is not None and list(line["stems"]) == ["drums"]
    assert pool.write_excerpt(tmp_path, "b", "train", Excerpt("s", {"bass": Part(0.0 * sound, "x", "x")})) is None


def test_without_a_font_the_pool_goes_without(built: Path) -> None:
    assert not [part for line in pool.read_index(built) for part in line["stems"].values() if part["source"] == "soundfont"]


def test_a_font_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"none\.sf2"):
        pool.main([str(folder), "--out", str(tmp_path), "--fonts", str(tmp_path / "none.sf2")])


def test_a_folder_without_a_pool_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"models\.separation\.pool"):
        pool.read_index(tmp_path)


def test_the_credits_are_those_of_what_is_in_the_pool(tmp_path: Path) -> None:
    def told(source: str, song: str, **more: str) -> str:
        line = {"name": "a", "split": "train", "song": song, "stems": {"drums": {"source": source, "label": "FluidR3_GM: 3", "gain": 1.0}}}
        (tmp_path / pool.INDEX).write_text(json.dumps(line | more) + "\n")
        return "\n".join(credits.attribution(tmp_path))

    (tmp_path / pool.SOURCES).write_text(json.dumps(["MuldjordKit (CC BY 4.0)", "kit of mine (not for sale)"]))
    assert "kinwie" in told("samples", "midi/a.mid") and "Samples: kit of mine (not for sale)." in told("samples", "midi/a.mid")
    assert "MIDI files" in told("electronic", "midi/a.mid") and "MuldjordKit" not in told("electronic", "midi/a.mid")
    assert "Frank Wen" in told("soundfont", "midi/a.mid")
    assert told("recorded", "x", dataset="mine") == "Recordings: mine (licence not stated)."
    assert told("electronic", "pattern") == "Synthesised sounds."


def test_a_pool_that_does_not_say_whose_its_samples_are_gets_nobody_s_name(tmp_path: Path) -> None:
    line = {"name": "a", "split": "train", "song": "loops", "stems": {"drums": {"source": "samples", "label": "room", "gain": 1.0}}}
    (tmp_path / pool.INDEX).write_text(json.dumps(line) + "\n")
    assert credits.attribution(tmp_path) == ["Samples: of a folder that is not on record."]


@pytest.mark.parametrize("content", [b"", b'["MuldjordKit', b"{}", b"[1]", b"\xff\x00"])
def test_damaged_names_of_whose_samples_a_pool_plays_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / pool.SOURCES
    path.write_bytes(content)
    with pytest.raises(SystemExit, match=f"^{re.escape(str(path))}: expected a list of names as JSON, got "):
        pool.read_sources(tmp_path)


def test_whose_samples_a_pool_plays_comes_from_their_table(built: Path, tmp_path: Path) -> None:
    named = json.loads((built / pool.SOURCES).read_text())
    assert "drums/muldjord (licence not stated)" in named, "the table made here has neither of the two columns"
    table = "path,source,licence\na.flac,kit a.wav,CC0 1.0\nb.flac,kit b.wav,CC0 1.0\nc.flac,secret c.wav,none\n"
    (tmp_path / "manifest.csv").write_text(table)
    (tmp_path / "splits.json").write_text(json.dumps({"samples": {"train": ["a.flac", "b.flac"]}}))
    assert sources(tmp_path) == ["kit (CC0 1.0)"]


def test_rendering_again_keeps_recordings_and_replaces_the_rest(built: Path, folder: Path, tmp_path: Path) -> None:
    mine = {"name": "mine_0", "split": "train", "song": "t", "stems": {}, "dataset": "mine"}
    stale = {"name": "9_00000", "split": "train", "song": "pattern", "stems": {}}
    (tmp_path / pool.INDEX).write_text(json.dumps(mine) + "\n" + json.dumps(stale) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soundfont, "FONTS", ())
        pool.main([str(folder), "--out", str(tmp_path), "--minutes", str(2 * SECONDS / 60)])
    names = [line["name"] for line in pool.read_index(tmp_path)]
    assert len(names) == 3 and names[0] == "mine_0" and "9_00000" not in names


def test_a_pool_has_one_writer_at_a_time(folder: Path, tmp_path: Path) -> None:
    with pool.alone(tmp_path), pytest.raises(SystemExit, match="another process"):
        pool.main([str(folder), "--out", str(tmp_path), "--minutes", "0.8"])
    with pool.alone(tmp_path):
        pass


def test_several_processes_end_with_the_line_that_one_of_them_says(folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(folder, tmp_path / "stems")
    for path in own.glob("*/**/*.flac"):
        path.write_bytes(b"")
    command = [sys.executable, "-m", "models.separation.pool", str(own), "--out", str(tmp_path / "pool"), "--processes", "2"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=120)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and ".flac" in last and "Traceback" not in done.stderr, done.stderr


def rendered_before(out: Path) -> list[str]:
    stale = {"name": "9_00000", "split": "train", "song": "pattern", "stems": {}}
    (out / pool.INDEX).write_text(json.dumps(stale) + "\n")
    (out / pool.SOURCES).write_text('["a kit (CC0 1.0)"]')
    return ["9_00000"]


def test_a_rendering_that_fails_keeps_what_was_there(folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(folder, tmp_path / "stems")
    for path in own.glob("*/**/*.flac"):
        path.unlink()
    before = rendered_before(tmp_path)
    with pytest.raises(SystemExit, match=r"\.flac"):
        pool.main([str(own), "--out", str(tmp_path)])
    assert [line["name"] for line in pool.read_index(tmp_path)][:1] == before
    assert "a kit (CC0 1.0)" in json.loads((tmp_path / pool.SOURCES).read_text()), "what is still there is still credited"


def test_a_pool_can_be_read_while_it_is_rendered_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = rendered_before(tmp_path), list[list[str]]()

    def render(job: Job, **_: object) -> list[dict[str, object]]:
        seen.append([line["name"] for line in pool.read_index(tmp_path)])
        return [{"name": f"1_{job.first:05d}", "split": job.split, "song": "pattern", "stems": {}}]

    monkeypatch.setattr(pool, "render", render)
    monkeypatch.setattr(soundfont, "FONTS", ())
    pool.main([str(folder), "--out", str(tmp_path), "--minutes", "0.8"])
    assert seen == [before, [*before, "1_00001"]]
    assert [line["name"] for line in pool.read_index(tmp_path)] == ["1_00001", "1_00000"]
    assert "a kit (CC0 1.0)" not in json.loads((tmp_path / pool.SOURCES).read_text())


@pytest.mark.parametrize("wrong", ["--seed -1", "--processes 0", "--processes two", "--minutes nan", "--minutes 0"])
def test_numbers_that_cannot_be_are_named(folder: Path, tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = rendered_before(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        pool.main([str(folder), "--out", str(tmp_path), *wrong.split()])
    assert f"argument {wrong.split(maxsplit=1)[0]}: expected a" in capsys.readouterr().err
    assert [line["name"] for line in pool.read_index(tmp_path)] == before


def test_a_line_that_was_cut_short_is_named(tmp_path: Path) -> None:
    rendered_before(tmp_path)
    with (tmp_path / pool.INDEX).open("a") as index:
        index.write('{"name": "9_0')
    with pytest.raises(SystemExit, match=r"excerpts\.jsonl, line 2: expected an excerpt"):
        pool.read_index(tmp_path)


def test_an_excerpt_that_was_rendered_again_counts_once(tmp_path: Path) -> None:
    lines = [{"name": "1_00000", "split": "train", "song": song, "stems": {}} for song in ("a", "b")]
    pool.write_index(tmp_path, lines)
    assert pool.read_index(tmp_path) == lines[1:]


def test_a_file_is_no_pool_and_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(SystemExit, match="notes: expected a folder"):
        pool.main([str(folder), "--out", str(tmp_path / "notes")])
    assert (tmp_path / "notes").read_text() == "mine"


@needs_fluidsynth
def test_a_file_that_is_no_font_is_named(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "st.wav", np.zeros((100, 2)), 44100)
    with pytest.raises(SystemExit, match=r"st\.wav: expected a sound font"):
        pool.main([str(folder), "--out", str(tmp_path / "pool"), "--fonts", str(tmp_path / "st.wav")])
    assert not (tmp_path / "pool").exists()


@needs_fluidsynth
def test_a_font_that_is_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.sf2").write_bytes(b"RIFF\x10\x00\x00\x00sfbkLIST")
    job = Job("soundfont", "train", 0)
    with pytest.raises(SystemExit, match=r"cut\.sf2: expected a sound font that FluidSynth can play"):
        pool.render(job, folder=folder, out=tmp_path, seed=1, fonts=[tmp_path / "cut.sf2"])
