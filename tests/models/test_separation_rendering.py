"""From notes to stems: the sampler, kits, patches, synthesisers, loops, patterns and sound fonts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from renderings import FONT, need_fluidsynth
from stemsfolder import tone, write_folder, write_song

from models.separation import electronic, excerpts, loops, patterns, soundfont, synths
from models.separation.instruments import Patch, play_patch
from models.separation.kits import Hit, Kit, draw_kit, play_drums
from models.separation.sampler import ENDLESS, play
from models.separation.songs import END, KEY, ONSET, PROGRAM, Song, read_song
from models.separation.stems import STEMS, Stems, read_stems

RATE = 44100
ONE = np.float32(1.0)


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Stems:
    return read_stems(write_folder(tmp_path_factory.mktemp("stems")), "train")


def strongest(y: np.ndarray) -> float:
    """The frequency of the strongest partial, in Hz."""
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)), 1 << 18))
    return float(np.argmax(spectrum) * RATE / (1 << 18))


def row(onset: float, end: float, key: int, velocity: int = 100) -> list[float]:
    return [onset, end, key, velocity, 0, 0, 0.8]


def test_a_song_is_sorted_into_stems(tmp_path: Path) -> None:
    write_song(tmp_path / "a.mid", 1, seconds=10.0)
    song = read_song(tmp_path / "a.mid")
    assert [len(song.stem(s)) for s in STEMS] == [40, 20, 20]
    assert set(song.bass[:, PROGRAM]) == {33} and set(song.other[:, PROGRAM]) == {0}
    np.testing.assert_allclose(song.bass[:, ONSET], 0.5 * np.arange(20), atol=1e-6)


def test_a_stretch_keeps_what_sounds_already(tmp_path: Path) -> None:
    write_song(tmp_path / "a.mid", 1, seconds=10.0)
    stretch = read_song(tmp_path / "a.mid").between(2.25, 3.0)
    assert stretch.bass[0, ONSET] == pytest.approx(-0.25)
    assert stretch.bass[-1, ONSET] < 3.0


def test_what_is_no_midi_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_text("no")
    with pytest.raises(SystemExit, match=r"a\.mid"):
        read_song(tmp_path / "a.mid")


def test_a_sound_at_its_own_pitch_is_itself() -> None:
    sound, out = tone(440.0, 0.1)[None].copy(), np.zeros((2, 8000), np.float32)
    play(out, sound, 100, 1.0, ONE, ONE, ENDLESS, 1)
    n = sound.shape[1] - 3
    np.testing.assert_array_equal(out[0, 100 : 100 + n], sound[0, :n])
    assert not out[:, :100].any() and not out[:, 100 + n :].any()


def test_a_sound_twice_as_quick_is_an_octave_higher() -> None:
    sound, out = tone(440.0, 1.0)[None].copy(), np.zeros((2, RATE), np.float32)
    play(out, sound, 0, 2.0, ONE, ONE, ENDLESS, 1)
    assert strongest(out[0]) == pytest.approx(880.0, abs=2.0)


@given(cut=st.integers(1, 3000), ratio=st.floats(0.5, 2.0), start=st.integers(-1000, 1000), end=st.integers(0, 4000))
def test_where_a_stretch_begins_does_not_change_what_is_heard(cut: int, ratio: float, start: int, end: int) -> None:
    sound, whole, later = tone(440.0, 0.1)[None].copy(), np.zeros((2, 4000), np.float32), np.zeros((2, 4000 - cut), np.float32)
    play(whole, sound, start, ratio, ONE, ONE, end, 300)
    play(later, sound, start - cut, ratio, ONE, ONE, end - cut, 300)
    np.testing.assert_array_equal(later, whole[:, cut:])


def test_a_note_is_silent_after_its_fade() -> None:
    sound, out = np.ones((1, 9000), np.float32), np.zeros((2, 9000), np.float32)
    play(out, sound, 0, 1.0, ONE, ONE, 2000, 500)
    assert (out[:, :2000] == 1.0).all() and not out[:, 2500:].any()
    assert (np.diff(out[0, 2000:2500]) <= 0.0).all()


def test_a_closed_hat_cuts_an_open_one() -> None:
    hits = {46: [Hit(np.ones((1, RATE), np.float32), (1, 127), 1.0)], 42: [Hit(np.zeros((1, 100), np.float32), (1, 127), 1.0)]}
    notes = np.array([row(0.0, 0.1, 46), row(0.2, 0.3, 42)])
    out = play_drums(Kit("test", hits), notes, RATE, np.random.default_rng(0))
    assert out[0, int(0.19 * RATE)] > 0.1
    assert not out[:, int(0.24 * RATE) :].any()


@pytest.mark.parametrize("seed", range(6))
def test_a_kit_answers_each_note_with_one_instrument(stems: Stems, seed: int) -> None:
    kit = draw_kit(stems, np.random.default_rng(seed))
    assert {36, 38, 42} <= kit.hits.keys()
    assert kit.answer(46) == 42  # the folder has no open hat: its neighbour
    assert all(len({len(h.sound[0]) for h in hits}) == 1 for hits in kit.hits.values())


def test_a_patch_plays_the_key_that_is_written(stems: Stems) -> None:
    patch = Patch("piano", stems.where(lambda s: s.collection == "piano"), 0.1)
    for key in (60, 61, 65, 70):
        sound, heard = play_patch(stems, patch, np.array([row(0.1, 1.5, key)]), 2 * RATE, np.random.default_rng(1))
        assert strongest(sound[0, : int(1.5 * RATE)]) == pytest.approx(440.0 * 2 ** ((key - 69) / 12), rel=0.01)
        assert heard[0, 0] == key
        assert np.flatnonzero(np.abs(sound[0]) > 1e-3)[0] == pytest.approx(heard[0, 1], abs=200)


def test_a_key_outside_an_instrument_moves_by_octaves_and_its_note_says_so(stems: Stems) -> None:
    patch = Patch("piano", stems.where(lambda s: s.collection == "piano"), 0.1)
    _, heard = play_patch(stems, patch, np.array([row(0.0, 1.0, 30)]), RATE, np.random.default_rng(1))
    assert heard[0, 0] in (54.0, 66.0)


def test_a_part_on_a_sound_that_glides_has_no_notes(stems: Stems) -> None:
    note = replace(stems.samples[0], stem="bass", path="bass/sonicpi/x.flac", keys=(36,), articulation="bass_hit_c")
    assert not Patch("x", [note], 0.1).tuned
    assert Patch("x", [replace(note, articulation="bass_drop_c")], 0.1).tuned


@pytest.mark.parametrize("kind", sorted({*synths.BASSES, *synths.ANY}))
def test_a_synthesiser_sounds_between_the_onset_and_the_end_of_a_note(kind: str) -> None:
    seeds = (seed for seed in range(2000) if synths.draw_synth(np.random.default_rng(seed), "bass", 1.0).name == kind)
    others = (seed for seed in range(2000) if synths.draw_synth(np.random.default_rng(seed), "other", 1.0).name == kind)
    stem, seed = ("bass", next(seeds)) if kind in synths.BASSES else ("other", next(others))
    synth = synths.draw_synth(np.random.default_rng(seed), stem, 1.0)
    sound, heard = synths.play_synth(synth, np.array([row(0.5, 1.5, 48)]), 4 * RATE)
    assert sound.dtype == np.float32 and np.isfinite(sound).all()
    assert not sound[:, : RATE // 2 - 1].any()
    assert 0.01 < np.abs(sound[:, RATE // 2 : 3 * RATE // 2]).max() < 3.0
    assert np.abs(sound[:, int(3.3 * RATE) :]).max() < 0.01
    assert [h.tolist()[:2] for h in heard] == [[48.0, RATE // 2]] * (kind != "wind")


@pytest.mark.parametrize("kind", ["pad", "string", "keys", "glass"])
def test_a_synthesiser_is_in_tune(kind: str) -> None:
    """The first partial is where the key is, within a fifth of a semitone."""
    n = 0
    for seed in range(400):
        synth = synths.draw_synth(np.random.default_rng(seed), "other", 1.0)
        if synth.name != kind or synth.told["vibrato depth"] or synth.told["ratio"] < 1.0 or n == 3:
            continue
        n += 1
        sound, _ = synths.play_synth(synth, np.array([row(0.0, 2.0, 60)]), 2 * RATE)
        spectrum = np.abs(np.fft.rfft(sound[0] * np.hanning(2 * RATE)))
        near = slice(2 * 220, 2 * 320)
        assert (220 + np.argmax(spectrum[near]) / 2) == pytest.approx(440.0 * 2 ** (-9 / 12), rel=0.012)
    assert n == 3


@pytest.mark.parametrize("seed", range(4))
def test_an_electronic_kit_plays_pitches_semitone_by_semitone(seed: int) -> None:
    kit = electronic.draw_electronic(np.random.default_rng(seed))
    assert {35, 36, 38, 42, 46, 49} <= kit.hits.keys()
    ratios = [kit.hits[k][0].ratio for k in electronic.BLIPS]
    np.testing.assert_allclose(np.diff(np.log2(ratios)), 1 / 12, atol=1e-9)
    assert all(np.isfinite(h.sound).all() and np.abs(h.sound).max() <= 1.0 for hits in kit.hits.values() for h in hits)


@pytest.mark.parametrize("seed", range(10))
def test_a_pattern_lies_inside_its_time(seed: int) -> None:
    song = patterns.pattern(np.random.default_rng(seed), 12.0)
    for stem in STEMS:
        notes = song.stem(stem)
        assert len(notes) > 0
        assert notes[:, ONSET].min() >= 0.0 and notes[:, ONSET].max() < 12.0
        assert (notes[:, END] > notes[:, ONSET]).all()
    assert song.bass[:, KEY].max() < 80 and song.other[:, KEY].max() < 128


def test_a_loop_is_repeated_without_a_step() -> None:
    ramp = np.linspace(0.0, 1.0, 20000, dtype=np.float32)[None]  # where it starts again it would jump from 1 to 0
    out = loops.repeated(ramp, 60000, 1.0)
    assert np.abs(np.diff(out[0, 3:])).max() < 0.005


def test_a_shuffled_loop_is_as_loud_and_has_no_step() -> None:
    sine = (0.5 * np.sin(np.arange(40000) * 0.02)).astype(np.float32)[None]
    for seed in range(5):
        out = loops.shuffled(sine, np.random.default_rng(seed))
        assert np.abs(out).max() < 1.01
        assert np.abs(np.diff(out[0])).max() < 0.05


@pytest.mark.parametrize("make", [excerpts.sampled, excerpts.electronic, excerpts.looped])
def test_an_excerpt_has_finite_stems_of_its_length(stems: Stems, make) -> None:  # type: ignore[no-untyped-def]
    excerpt = make(stems, np.random.default_rng(3))
    assert {"drums", "other"} <= excerpt.parts.keys()
    for part in excerpt.parts.values():
        assert part.sound.shape == (2, excerpts.N_FRAMES) and part.sound.dtype == np.float32
        assert np.isfinite(part.sound).all() and np.abs(part.sound).max() > 0.01
    assert (excerpt.parts["other"].notes is None) == (make is excerpts.looped)


def test_validation_hears_other_programs_than_training() -> None:
    assert not set(soundfont.other_programs("train")) & set(soundfont.other_programs("validation"))
    assert not set(soundfont.bass_programs("train")) & set(soundfont.bass_programs("validation"))
    assert soundfont.bass_programs("validation")


def test_songs_of_one_run_sound_where_their_notes_are() -> None:
    need_fluidsynth()
    beats = np.array([[t, t + 0.4, 38, 110, 0, 9, 0.8] for t in np.arange(0.5, 3.5)])
    tune = np.array([row(t, t + 0.5, 50) for t in np.arange(0.25, 3.25)])
    song = Song(beats, tune, tune, 4.0)
    for each in soundfont.render([song, song], "train", FONT, np.random.default_rng(1)):
        sound, _, notes = each["drums"]
        assert sound.shape == (2, 4 * RATE) and notes is None
        for onset in beats[:, ONSET]:
            begun = int(onset * RATE)
            assert np.abs(sound[:, begun : begun + 900]).max() > 5.0 * np.abs(sound[:, begun - 900 : begun]).max()
        assert each["bass"][2] is not None and len(each["bass"][2]) == len(tune)
