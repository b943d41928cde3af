"""The pool on disk: the same for the same seed, validation apart from training, its index true."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from stemsfolder import write_folder

from models.separation import credits, pool, soundfont
from models.separation.excerpts import N_FRAMES, SECONDS, Excerpt, Part
from models.separation.pool import Job
from models.separation.stems import STEMS, read_stems

N = 7  # excerpts


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

    assert "MuldjordKit" in told("samples", "midi/a.mid") and "CC BY 4.0" in told("samples", "midi/a.mid")
    assert "Freedoom" in told("electronic", "midi/a.mid") and "MuldjordKit" not in told("electronic", "midi/a.mid")
    assert "Frank Wen" in told("soundfont", "midi/a.mid")
    assert told("recorded", "x", dataset="mine") == "Recordings: mine."
    assert told("electronic", "pattern") == ""
