"""Recorded stems of a user's own: folders of stems and MUSDB18-HQ, as the same examples."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.separation import mixing, pool, recordings
from models.separation.stems import arranged

RATE = 44100


def write_track(folder: Path, stems: dict[str, float], seconds: float = 3.0, rate: int = RATE, ending: str = "wav") -> None:
    """Sines of so many Hz."""
    folder.mkdir(parents=True)
    for name, hz in stems.items():
        y = 0.3 * np.sin(2.0 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
        soundfile.write(folder / f"{name}.{ending}", np.stack([y, 0.5 * y], axis=1), rate)


THREE = {"drums": 4000.0, "bass": 80.0, "other": 500.0}


def frequency(y: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(y * np.hanning(len(y)), 1 << 17))) * RATE / (1 << 17))


def test_a_folder_of_stems_gives_examples_without_a_score(tmp_path: Path) -> None:
    for i in range(3):
        write_track(tmp_path / "mine" / f"t{i}", THREE, ending="flac" if i else "wav")
    recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    draw = mixing.examples(tmp_path / "pool", "train", 0.5, np.random.default_rng(0))
    for _ in range(10):
        example = next(draw)
        assert not example.has_score and example.group == "recorded" and len(example.notes) == 0
        for stem, hz in zip(example.stems, THREE.values(), strict=True):
            if stem.any():
                heard = frequency(stem[np.abs(stem).max(axis=1).argmax()])
                assert 0.8 * hz < heard < 1.12 * hz


def test_every_tenth_track_is_kept_for_validation(tmp_path: Path) -> None:
    for i in range(11):
        write_track(tmp_path / f"{i:02d}", THREE, seconds=0.1)
    assert [(t.name, split) for t, split in recordings.tracks(tmp_path) if split == "validation"] == [("05", "validation")]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_of_few_tracks_one_is_kept_for_validation(tmp_path: Path, n: int) -> None:
    for form in ("mine", "musdb/train"):
        for i in range(n):
            write_track(tmp_path / form / f"{i}", THREE, seconds=0.1)
        splits = [split for _, split in recordings.tracks(tmp_path / form.split("/")[0])]
        assert sorted(splits) == ["train"] * (n - 1) + ["validation"]


def test_a_single_track_is_not_enough_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_track(tmp_path / "mine" / "t", THREE)
    recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    assert "import two tracks at least" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="two tracks of your own"):
        mixing.Pool(tmp_path / "pool", "validation")


def test_musdb_keeps_its_own_splits(tmp_path: Path) -> None:
    root = tmp_path / "musdb18hq"
    full = {"mixture": 100.0, **THREE, "vocals": 300.0}
    for split, name in (("train", "A - B"), ("train", recordings.MUSDB_VALIDATION[0]), ("test", "C - D")):
        write_track(root / split / name, full)
    recordings.main([str(root), "--out", str(tmp_path / "pool")])
    assert {line["song"]: line["split"] for line in pool.read_index(tmp_path / "pool")} == {
        "A - B": "train",
        recordings.MUSDB_VALIDATION[0]: "validation",
        "C - D": "test",
    }


def test_vocals_come_last_and_networks_without_them_count_them_to_the_rest(tmp_path: Path) -> None:
    write_track(tmp_path / "mine" / "t", {**THREE, "vocals": 900.0})
    recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    assert mixing.n_stems(tmp_path / "pool") == 4
    draw = mixing.examples(tmp_path / "pool", "train", 0.5, np.random.default_rng(0))
    whole = next(e.stems for e in draw if all(stem.any() for stem in e.stems))
    drums, bass, vocals, other = arranged(whole, "stems4")
    assert 700.0 < frequency(vocals[np.abs(vocals).max(axis=1).argmax()]) < 1010.0
    np.testing.assert_array_equal(np.stack(arranged(whole, "stems3")), np.stack([drums, bass, other + vocals]))
    np.testing.assert_allclose(arranged(whole, "hp")[0], bass + other + vocals, atol=1e-6)


def test_a_pool_without_vocals_has_silent_ones(tmp_path: Path) -> None:
    write_track(tmp_path / "mine" / "t", THREE)
    recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    example = next(mixing.examples(tmp_path / "pool", "train", 0.5, np.random.default_rng(0)))
    assert len(example.stems) == 3 and not arranged(example.stems, "stems4")[2].any()


def test_harmonic_and_percussive_are_other_and_drums(tmp_path: Path) -> None:
    write_track(tmp_path / "t", {"harmonic": 500.0, "percussive": 4000.0})
    made = recordings.read_track(tmp_path / "t")
    assert {stem: round(frequency(y[0])) for stem, y in made.items()} == {"other": 500, "drums": 4000}


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    write_track(tmp_path / "t", THREE, rate=48000)
    made = recordings.read_track(tmp_path / "t")
    assert made["other"].shape == (2, 3 * RATE)
    assert frequency(made["other"][0]) == pytest.approx(500.0, abs=1.0)


@pytest.mark.parametrize("peak", [0.01, 4.0])
def test_resampling_keeps_what_lies_above_full_scale(tmp_path: Path, peak: float) -> None:
    write_track(tmp_path / "t", THREE, rate=48000)
    y = peak * np.sin(2.0 * np.pi * 500.0 * np.arange(3 * 48000) / 48000)
    soundfile.write(tmp_path / "t" / "other.wav", np.stack([y, y], axis=1), 48000, subtype="FLOAT")
    made = recordings.read_track(tmp_path / "t")["other"][0, 100:-100]
    wanted = peak * np.sin(2.0 * np.pi * 500.0 * np.arange(3 * RATE) / RATE)[100:-100]
    assert np.abs(made - wanted).max() < 0.01 * peak


def test_a_long_track_is_cut_into_excerpts_that_cover_it() -> None:
    n = 60 * RATE
    track = {"drums": np.arange(n, dtype=np.float32)[None].repeat(2, axis=0)}
    parts = [e.parts["drums"].sound for e in recordings.cut(track, "t")]
    assert {p.shape[1] for p in parts} == {24 * RATE}
    assert parts[0][0, 0] == 0.0 and parts[-1][0, -1] == n - 1
    assert all(b[0, 0] <= a[0, -1] + 1 for a, b in pairwise(parts))


def test_importing_again_replaces_what_was_imported(tmp_path: Path) -> None:
    write_track(tmp_path / "mine" / "a", THREE)
    for _ in range(2):
        recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    assert len(pool.read_index(tmp_path / "pool")) == 1


def test_another_folder_of_the_same_name_needs_its_own(tmp_path: Path) -> None:
    for whose, hz in (("a", 500.0), ("b", 700.0)):
        write_track(tmp_path / whose / "stems" / "t", {**THREE, "other": hz})
    recordings.main([str(tmp_path / "a" / "stems"), "--out", str(tmp_path / "pool")])
    with pytest.raises(SystemExit, match=r"a/stems: give these tracks another --name"):
        recordings.main([str(tmp_path / "b" / "stems"), "--out", str(tmp_path / "pool")])
    recordings.main([str(tmp_path / "b" / "stems"), "--out", str(tmp_path / "pool"), "--name", "others"])
    lines = pool.read_index(tmp_path / "pool")
    heard = {line["dataset"]: round(frequency(np.load(tmp_path / "pool" / f"{line['name']}_other.npy")[0] / 32767.0)) for line in lines}
    assert heard == {"stems": 500, "others": 700}


def test_a_name_that_is_given_replaces_what_has_it(tmp_path: Path) -> None:
    for whose in ("a", "b"):
        write_track(tmp_path / whose / "stems" / whose, THREE)
        recordings.main([str(tmp_path / whose / "stems"), "--out", str(tmp_path / "pool"), "--name", "stems"])
    assert [line["song"] for line in pool.read_index(tmp_path / "pool")] == ["b"]


def test_stems_that_belong_together_keep_their_balance(tmp_path: Path) -> None:
    write_track(tmp_path / "mine" / "a", THREE)
    y, _ = soundfile.read(tmp_path / "mine" / "a" / "bass.wav")
    soundfile.write(tmp_path / "mine" / "a" / "bass.wav", 0.1 * y, RATE)
    recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    (line,) = pool.read_index(tmp_path / "pool")
    levels = {}
    for stem, told in line["stems"].items():
        levels[stem] = told["balance"] * pool.loudness(np.load(tmp_path / "pool" / f"{line['name']}_{stem}.npy").astype(np.float32))
    assert levels["bass"] / levels["drums"] == pytest.approx(0.1, rel=0.02)


def test_a_missing_stem_is_named(tmp_path: Path) -> None:
    write_track(tmp_path / "t", {"drums": 100.0, "bass": 50.0})
    with pytest.raises(SystemExit, match="no other"):
        recordings.read_track(tmp_path / "t")


def test_stems_of_different_lengths_are_refused(tmp_path: Path) -> None:
    write_track(tmp_path / "t", THREE)
    soundfile.write(tmp_path / "t" / "bass.wav", np.zeros((100, 2)), RATE)
    with pytest.raises(SystemExit, match="bass 100"):
        recordings.read_track(tmp_path / "t")


def test_a_rate_that_is_not_supported_is_told(tmp_path: Path) -> None:
    write_track(tmp_path / "t", THREE, rate=96000)
    with pytest.raises(SystemExit, match="96000 Hz"):
        recordings.read_track(tmp_path / "t")


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="drums, bass and other"):
        recordings.tracks(tmp_path)


def test_a_sample_that_is_no_number_is_told(tmp_path: Path) -> None:
    write_track(tmp_path / "t", THREE)
    y = np.zeros((3 * RATE, 2))
    y[5, 0] = np.nan
    soundfile.write(tmp_path / "t" / "bass.wav", y, RATE, subtype="FLOAT")
    with pytest.raises(SystemExit, match=r"bass\.wav: expected numbers, got NaN"):
        recordings.read_track(tmp_path / "t")


def test_what_sounds_the_same_twice_is_refused(tmp_path: Path) -> None:
    write_track(tmp_path / "t", {**THREE, "percussive": 100.0})
    with pytest.raises(SystemExit, match="has bass, drums, other and percussive, which sound the same twice"):
        recordings.read_track(tmp_path / "t")


def test_tracks_that_are_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "silent", "short"):
        write_track(tmp_path / "mine" / name, THREE)
    for stem in THREE:
        soundfile.write(tmp_path / "mine" / "silent" / f"{stem}.wav", np.zeros((2 * RATE, 2)), RATE)
        soundfile.write(tmp_path / "mine" / "short" / f"{stem}.wav", np.zeros((0, 2)), RATE)
    (tmp_path / "mine" / "empty").mkdir()
    recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool")])
    told = capsys.readouterr().out
    assert "silent is left out: it is silent" in told and "short is left out: it is shorter than 1 s" in told
    assert "empty is left out: it has none of drums" in told and "good is" not in told


@pytest.mark.parametrize("name", ["../z", ""])
def test_a_name_that_leads_out_of_the_pool_is_refused(name: str, tmp_path: Path) -> None:
    write_track(tmp_path / "mine" / "t", THREE)
    with pytest.raises(SystemExit, match="name of the collection"):
        recordings.main([str(tmp_path / "mine"), "--out", str(tmp_path / "pool"), "--name", name])
    assert not list(tmp_path.glob("z_*")) and not (tmp_path / "pool").exists()
