"""Mixtures drawn from a pool, and the effects they are made with."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.separation import effects, mixing, pool, sampler
from models.separation.excerpts import Excerpt, Part

RATE = 44100
F = np.float32
KEYS = {"drums": 100, "bass": 40, "other": 64}


def sine(hz: float, seconds: float) -> np.ndarray:
    return np.repeat((0.5 * np.sin(2.0 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(F)[None], 2, axis=0)


def write_pool(folder: Path, sources: tuple[str, ...] = ("samples",), seconds: float = 4.0, n: int = 3) -> Path:
    """Excerpts whose stems are sines, each of one key that differs by stem and excerpt, with a note as long as they are."""
    lines = []
    for i in range(n):
        for source in sources:
            parts = {}
            for stem, key in KEYS.items():
                key += i
                notes = None if stem == "drums" or source == "loops" else np.array([[key, 0.0, seconds * RATE]], F)
                parts[stem] = Part(sine(440.0 * 2 ** ((key - 69) / 12), seconds), source, str(key), notes)
            lines.append(pool.write_excerpt(folder, f"{source}{i}", "train", Excerpt(f"{source}{i}", parts)))
    (folder / pool.INDEX).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def peak_hz(y: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(y * np.hanning(len(y)), 1 << 18))) * RATE / (1 << 18))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("plain"))


def drawn(folder: Path, n: int, seconds: float = 1.0, seed: int = 1) -> list[mixing.Example]:
    draw = mixing.examples(folder, "train", seconds, np.random.default_rng(seed))
    return [next(draw) for _ in range(n)]


def test_an_example_is_finite_float32_under_the_ceiling(plain: Path) -> None:
    for e in drawn(plain, 40):
        assert e.stems.shape == (3, 2, RATE) and e.stems.dtype == np.float32
        assert e.notes.dtype == np.float32 and e.notes.shape[1] == 4
        assert np.isfinite(e.stems).all()
        assert np.abs(e.stems.sum(0)).max() <= mixing.CEILING + 1e-5


def test_the_same_state_draws_the_same_mixtures(plain: Path) -> None:
    for a, b in zip(drawn(plain, 5), drawn(plain, 5), strict=True):
        np.testing.assert_array_equal(a.stems, b.stems)
        np.testing.assert_array_equal(a.notes, b.notes)


def test_the_notes_are_those_that_are_heard(plain: Path) -> None:
    """At any speed and at both rates the key says which partial sounds."""
    keys = []
    for e in drawn(plain, 30):
        for key, _, _, stem in e.notes:
            sound = e.stems[int(stem), 0] if np.abs(e.stems[int(stem), 0]).max() > 1e-3 else e.stems[int(stem), 1]
            assert peak_hz(sound) == pytest.approx(440.0 * 2 ** ((key - 69) / 12), rel=0.003)
            keys.append(key)
    assert len({round(float(k), 2) for k in keys}) > 10


def test_a_stem_that_is_absent_has_neither_sound_nor_notes(plain: Path) -> None:
    absent = 0
    for e in drawn(plain, 120, seconds=0.1):
        silent = {i for i in range(3) if not e.stems[i].any()}
        assert len(silent) < 3
        assert not silent & set(e.notes[:, 3].astype(int))
        absent += len(silent)
    assert 0.02 < absent / 360 < 0.12


def test_loops_have_no_score(tmp_path: Path) -> None:
    write_pool(tmp_path, ("samples", "loops"))
    seen = drawn(tmp_path, 60, seconds=0.1)
    assert {e.has_score for e in seen} == {True, False}
    for e in seen:
        assert e.has_score or len(e.notes) == 0
        assert e.has_score or e.group == "loop"


def test_the_group_says_what_a_mixture_is_made_of(tmp_path: Path) -> None:
    for name, source, group in (
        ("a", "samples", "midi"),
        ("b", "electronic", "electronic"),
        ("c", "loops", "loop"),
        ("d", "recorded", "recorded"),
    ):
        (tmp_path / name).mkdir()
        assert {e.group for e in drawn(write_pool(tmp_path / name, (source,)), 5, seconds=0.1)} == {group}


def test_sources_are_drawn_by_their_weights_whatever_their_number(tmp_path: Path) -> None:
    source = mixing.Pool(write_pool(tmp_path, ("samples", "electronic", "soundfont", "loops"), seconds=0.2, n=1), "train")
    rng = np.random.default_rng(0)
    drums = [(source.draw(0, rng) or {})["stems"]["drums"]["source"] for _ in range(2000)]
    for name in ("samples", "electronic", "soundfont", "loops"):
        assert drums.count(name) / 2000 == pytest.approx(mixing.SHARES["drums"][name], abs=0.04)


def test_part_of_the_mixtures_has_stems_of_one_excerpt(plain: Path) -> None:
    together = 0
    seen = [e for e in drawn(plain, 300, seconds=0.25) if len(e.notes) == 2]
    for e in seen:
        bass, other = e.notes[e.notes[:, 3] == 1, 0][0], e.notes[e.notes[:, 3] == 2, 0][0]
        together += abs((other - bass) - (KEYS["other"] - KEYS["bass"])) < 1e-4  # both with the speed of the other
    assert 0.3 < together / len(seen) < 0.75  # 30 % aligned, and of the others the third that drew the same by chance at no speed


def test_a_split_that_is_not_there_is_told(plain: Path) -> None:
    with pytest.raises(SystemExit, match="validation"):
        next(mixing.examples(plain, "validation", 1.0, np.random.default_rng(0)))


def test_more_seconds_than_an_excerpt_has_are_refused(plain: Path) -> None:
    with pytest.raises(SystemExit, match=r"at least 4\.91 s, the longest of the split 'train' has 4\.00 s: .* smaller --hops or --chunks"):
        drawn(plain, 5, seconds=4.5)


def test_an_excerpt_that_is_too_short_is_left_out(tmp_path: Path) -> None:
    write_pool(tmp_path, ("samples",))
    short = tmp_path / "samples1_bass.npy"
    np.save(short, np.load(short)[:, :RATE])
    source = mixing.Pool(tmp_path, "train", 1.0)
    assert source.n_short == 1 and {e["name"] for e in source.excerpts} == {"samples0", "samples2"}
    drawn(tmp_path, 100)


def test_an_excerpt_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    write_pool(tmp_path, ("samples",))
    (tmp_path / "samples1_bass.npy").unlink()
    with pytest.raises(SystemExit, match="excerpt samples1 cannot be read"):
        drawn(tmp_path, 1)


@given(level=st.floats(0.01, 20.0), seed=st.integers(0, 100))
def test_the_limiter_is_one_gain_for_all_stems(level: float, seed: int) -> None:
    stems = (np.random.default_rng(seed).normal(0.0, level, (3, 2, 2000))).astype(F)
    before = stems.copy()
    effects.limit(stems, F(0.9), 64, F(0.001))
    assert np.abs(stems.sum(0)).max() <= 0.9 * (1.0 + 1e-5)
    gain = stems / before
    np.testing.assert_allclose(gain, np.broadcast_to(gain[:1, :1], gain.shape), rtol=1e-4)
    assert gain.max() <= 1.0 + 1e-6


def test_what_is_under_the_ceiling_is_left_alone() -> None:
    stems = np.full((3, 2, 500), 0.1, F)
    effects.limit(stems, F(0.9), 64, F(0.001))
    assert (stems == F(0.1)).all()


@pytest.mark.parametrize("gain_db", [-9.0, 6.0])
def test_the_equaliser_has_its_gain_at_its_centre_and_none_far_off(gain_db: float) -> None:
    for hz, expected in ((1000.0, gain_db), (12000.0, 0.0), (50.0, 0.0)):
        y = sine(hz, 1.0)
        effects.peaking(y, F(1000.0 / RATE), F(gain_db), F(1.0))
        level = 20.0 * np.log10(np.abs(y[0, RATE // 2 :]).max() / 0.5)
        assert level == pytest.approx(expected, abs=0.3)


def test_a_cut_at_its_own_speed_is_the_source() -> None:
    source = np.random.default_rng(0).integers(-30000, 30000, (2, 500)).astype(np.int16)
    out = np.zeros((2, 300), F)
    sampler.cut_out(source, 100, 1.0, F(1.0), F(0.0), F(0.0), F(1.0), out)
    np.testing.assert_array_equal(out, source[:, 100:400])
    sampler.cut_out(source, 100, 1.0, F(0.0), F(-1.0), F(1.0), F(0.0), out)  # swapped, left inverted
    np.testing.assert_array_equal(out, np.stack([-source[1, 100:400], source[0, 100:400]]))


@pytest.mark.parametrize(
    ("output", "low_db", "middle_db", "high_db"), [(effects.LOW, 0, -3, -40), (effects.BAND, -20, 0, -20), (effects.HIGH, -40, -3, 0)]
)
def test_a_filter_lets_through_what_it_says(output: int, low_db: float, middle_db: float, high_db: float) -> None:
    for hz, expected in ((100.0, low_db), (1000.0, middle_db), (10000.0, high_db)):
        y = sine(hz, 0.5)
        effects.filtered(y, output, 1000.0 / RATE, 1.41)
        level = 20.0 * np.log10(np.abs(y[0, RATE // 4 :]).max() / 0.5)
        assert level == pytest.approx(expected, abs=1.0 if expected > -10 else 10.0)


def test_a_crushed_sound_is_held_and_rounded() -> None:
    y = sine(300.0, 0.1)
    effects.crush(y, 4.0, F(0.125))
    np.testing.assert_array_equal(y * 8.0, np.round(y * 8.0))
    assert all((y[:, i::4] == y[:, ::4][:, : y[:, i::4].shape[1]]).all() for i in range(4))


def test_an_echo_comes_back_softer_each_time() -> None:
    y = np.zeros((2, 5000), F)
    y[:, 0] = 1.0
    effects.echo(y, 1000, F(0.5), F(0.0), F(0.4))
    assert np.flatnonzero(y[0]).tolist() == [0, 1000, 2000, 3000, 4000]
    np.testing.assert_allclose(y[0, ::1000], [1.0, 0.4, 0.2, 0.1, 0.05], rtol=1e-5)


def test_a_compressor_lowers_what_is_above_its_threshold_by_its_slope() -> None:
    for level, gain_db in ((0.01, 0.0), (1.0, -10.0)):
        y = np.full((2, 5000), level, F)
        effects.compress(y, F(0.1), F(0.5), F(0.05), F(0.05), F(1.0), F(1.0))
        assert 20.0 * np.log10(y[0, -1] / level) == pytest.approx(gain_db, abs=0.2)


def test_a_room_rings_on_and_dies() -> None:
    y = np.zeros((2, 4 * RATE), F)
    y[:, 0] = 1.0
    delays = np.array([1200, 1400, 1600, 1800, 300, 500, 1250, 1450, 1650, 1850, 320, 520])
    effects.reverberate(y, delays, F(0.7), F(0.3), F(0.5))
    assert y[:, 0].tolist() == [1.0, 1.0]
    assert 1e-3 < np.abs(y[:, 1000:20000]).max() < 1.0
    assert np.abs(y[:, 3 * RATE :]).max() < 1e-3
