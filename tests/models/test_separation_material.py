"""What the material is made of beyond notes: patterns of blips, glitches, sub-basses, textures, rooms and lo-fi, players' timing."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from stemsfolder import tone, write_folder

from models.separation import atmosphere, beats, drumbus, effects, electronic, instruments, loops, oneshots, synths, voices
from models.separation.kits import GHOST, LATEST_S, RIDE, Hit, Kit, humanised, play_drums
from models.separation.songs import KEY, ONSET, VELOCITY
from models.separation.stems import Stems, read_stems

RATE = 44100
ONE = np.float32(1.0)


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Stems:
    return read_stems(write_folder(tmp_path_factory.mktemp("stems")), "train")


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def row(onset: float, end: float, key: int, velocity: int = 100) -> list[float]:
    return [onset, end, key, velocity, 0, 0, 0.8]


def strongest(y: np.ndarray) -> float:
    """The frequency of the strongest partial, in Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(y * np.hanning(len(y)), 1 << 18))) * RATE / (1 << 18))


def rms(y: np.ndarray) -> float:
    return float(np.sqrt(np.mean(y**2)))


def synth(kind: str, stem: str, length_s: float = 1.0) -> synths.Synth:
    drawn = (synths.draw_synth(rng(seed), stem, length_s) for seed in range(3000))
    return next(s for s in drawn if s.name == kind)


# Patterns


def test_some_patterns_have_blips_alone_and_no_drum_of_a_kit() -> None:
    alone = [not any(r[2] in beats.DRUMS for r in beats.beats(rng(seed), 8)) for seed in range(200)]
    assert 0.12 < np.mean(alone) < 0.35


def test_drums_of_a_kit_rest_for_some_bars_while_blips_go_on() -> None:
    resting = 0
    for seed in range(100):
        bars: dict[int, set[int]] = {}
        for r in beats.beats(rng(seed), 16):
            bars.setdefault(int(r[0] // beats.STEPS), set()).add(r[2])
        tonal = [not keys & beats.DRUMS for keys in bars.values()]
        resting += any(tonal) and not all(tonal)
    assert 8 < resting < 50


@pytest.mark.parametrize("keys", [electronic.BLIPS, electronic.ZAPS, electronic.GLITCHES, electronic.BOOMS])
def test_patterns_play_what_only_machines_have(keys: range) -> None:
    playing = [any(r[2] in keys for r in beats.beats(rng(seed), 8)) for seed in range(100)]
    assert np.mean(playing) > 0.12


def test_hits_are_repeated_at_a_32nd_and_faster() -> None:
    shortest, fastest = [], 0
    for seed in range(60):
        rows = np.array(beats.beats(rng(seed), 8))
        gaps = [np.diff(np.unique(rows[rows[:, 2] == key, 0])) for key in np.unique(rows[:, 2])]
        fastest += sum(int(np.isclose(g, 0.25).sum()) for g in gaps)
        shortest.append(min((g.min() for g in gaps if len(g)), default=1.0))
    assert 0.2 < np.mean(np.array(shortest) <= 0.5) < 0.7
    assert fastest > 0


# One-shots


@pytest.mark.parametrize("seed", range(5))
def test_a_boom_rings_below_60_hz(seed: int) -> None:
    y = oneshots.boom(rng(seed), 45.0)
    assert y.dtype == np.float32 and np.abs(y).max() == pytest.approx(1.0, abs=0.01)
    assert strongest(y) == pytest.approx(45.0, rel=0.2)
    assert np.abs(y[: int(0.25 * RATE)]).max() > 0.2
    assert np.abs(y[int(0.2 * RATE) : int(0.3 * RATE)]).max() > 0.2
    assert np.abs(y[-100:]).max() < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_a_zap_goes_through_octaves(seed: int) -> None:
    y = oneshots.zap(rng(seed))
    assert np.isfinite(y).all()
    ratio = strongest(y[: RATE // 200]) / strongest(y[RATE // 10 : RATE // 5])
    assert max(ratio, 1.0 / ratio) > 1.5


def test_a_hit_backwards_swells() -> None:
    y = oneshots.backwards(tone(200.0, 0.5, 0.1))
    assert len(y) == int(0.35 * RATE)
    assert rms(y[len(y) // 2 :]) > 3.0 * rms(y[: len(y) // 2])


@pytest.mark.parametrize("seed", range(4))
def test_a_crushed_hit_stands_still_for_frames(seed: int) -> None:
    y = oneshots.crushed(rng(seed), tone(200.0, 0.5, 0.1))
    assert np.abs(y).max() == pytest.approx(1.0, abs=0.01)
    assert np.mean(np.diff(y) == 0.0) > 0.6


@pytest.mark.parametrize("seed", range(4))
def test_a_stutter_begins_again_and_again(seed: int) -> None:
    y = oneshots.stuttered(rng(seed), np.ones(RATE, np.float32))
    begins = 1 + int((np.diff(y) > 0.02).sum())
    assert 3 <= begins <= 10 and len(y) <= 0.5 * RATE


@pytest.mark.parametrize("seed", range(4))
def test_a_kit_has_a_sound_for_all_that_patterns_play(seed: int) -> None:
    kit = electronic.draw_electronic(rng(seed))
    assert set(beats.PLAYED) | beats.DRUMS | set(electronic.ZAPS) | set(electronic.GLITCHES) <= kit.hits.keys()
    assert all(np.isfinite(hit.sound).all() and np.abs(hit.sound).max() > 0.5 for hits in kit.hits.values() for hit in hits)


def test_a_long_bass_drum_is_cut_by_the_next_one() -> None:
    hits = {188: [Hit(np.ones((1, RATE), np.float32), (1, 127), 1.0)], 190: [Hit(np.zeros((1, 100), np.float32), (1, 127), 1.0)]}
    notes = np.array([row(0.0, 0.1, 188), row(0.2, 0.3, 190)])
    out = play_drums(Kit("test", hits, alone=frozenset(electronic.BOOMS)), notes, RATE, rng(0))
    assert out[0, int(0.19 * RATE)] > 0.1
    assert not out[:, int(0.24 * RATE) :].any()


# Players


def test_a_player_moves_hits_by_milliseconds_and_adds_soft_snares_alone() -> None:
    notes = np.array([row(0.25 * i, 0.25 * i + 0.1, 42) for i in range(80)])
    added, moved = 0, 0.0
    for seed in range(30):
        played = humanised(notes, rng(seed))
        assert (np.diff(played[:, ONSET]) >= 0.0).all()
        ghosts = played[:, KEY] == GHOST
        kept = played[~ghosts]
        assert set(kept[:, KEY]) <= {42, RIDE} and len(kept) == len(notes)
        late = np.abs(kept[:, ONSET] - notes[:, ONSET]).max()
        assert late <= LATEST_S + 1e-9
        assert (played[ghosts, VELOCITY] < 45).all()
        added, moved = added + int(ghosts.sum()), max(moved, late)
    assert added > 30 and moved > 0.003
    assert len({tuple(humanised(notes, rng(s))[:, VELOCITY].tolist()) for s in range(5)}) == 5


@pytest.mark.parametrize("bus", [drumbus.live, drumbus.machine])
def test_a_drum_bus_keeps_drums_finite_and_audible_and_draws_by_its_seed(bus) -> None:  # type: ignore[no-untyped-def]
    dry = np.repeat(np.tile(tone(120.0, 0.24, 0.05), 8)[None], 2, axis=0)
    results = [bus(dry.copy(), rng(seed)) for seed in range(24)]
    for y in results:
        assert y.dtype == np.float32 and np.isfinite(y).all() and np.abs(y).max() > 0.02
    np.testing.assert_array_equal(results[3], bus(dry.copy(), rng(3)))
    assert sum(not np.allclose(y, dry) for y in results) > 10


def test_parallel_compression_raises_what_is_soft() -> None:
    dry = np.repeat(np.concatenate([tone(200.0, 0.5, 0.05), 0.05 * tone(200.0, 0.5, 0.3)])[None], 2, axis=0)
    wet = dry.copy()
    effects.compressed(wet, rng(2))
    half = dry.shape[1] // 2
    assert rms(wet[:, half:]) / rms(dry[:, half:]) > 1.2 * np.abs(wet[:, :half]).max() / np.abs(dry[:, :half]).max()


# Synthesisers


@pytest.mark.parametrize("length_s", [0.2, 2.0])
def test_short_tones_are_rare_in_other(length_s: float) -> None:
    names = Counter(synths.draw_synth(rng(seed), "other", length_s).name for seed in range(800))
    assert 0 < names["blip"] / 800 < 0.025
    assert len(names) >= 9


def test_what_other_holds_sounds_on() -> None:
    for seed in range(120):
        drawn = synths.draw_synth(rng(seed), "other", 0.2)
        if drawn.name == "blip":
            continue
        sound, _ = synths.play_synth(drawn, np.array([row(0.0, 1.0, 60)]), RATE)
        n = int(0.12 * RATE)
        assert rms(sound[:, n : 2 * n]) > 0.15 * rms(sound[:, :n]), drawn.name


def test_wind_is_noise_and_has_no_notes() -> None:
    sound, heard = synths.play_synth(synth("wind", "other", 2.0), np.array([row(0.0, 3.0, 60)]), 3 * RATE)
    power = np.abs(np.fft.rfft(sound[0])) ** 2
    at = int(np.argmax(power))
    assert power[max(0, at - 9) : at + 10].sum() < 0.2 * power.sum()
    assert heard.shape == (0, 3)


def test_a_chime_rings_on() -> None:
    sound, heard = synths.play_synth(synth("chime", "other", 2.0), np.array([row(0.0, 2.0, 60)]), 2 * RATE)
    assert rms(sound[:, int(1.4 * RATE) : int(1.8 * RATE)]) > 0.1 * rms(sound[:, int(0.1 * RATE) : int(0.5 * RATE)])
    assert heard[0, 2] == 2 * RATE


def test_a_sub_bass_is_little_more_than_its_fundamental() -> None:
    sound, _ = synths.play_synth(synth("sub", "bass"), np.array([row(0.0, 1.0, 33)]), RATE)
    power = np.abs(np.fft.rfft(sound[0])) ** 2
    assert strongest(sound[0]) == pytest.approx(55.0, abs=1.0)
    assert power[:90].sum() > 0.9 * power.sum()


def test_a_reese_beats() -> None:
    sound, _ = synths.play_synth(synth("reese", "bass"), np.array([row(0.0, 4.0, 36)]), 4 * RATE)
    levels = [rms(sound[:, i : i + RATE // 20]) for i in range(RATE, 4 * RATE, RATE // 20)]
    assert np.std(levels) / np.mean(levels) > 0.1


def test_a_glide_comes_from_the_key_before() -> None:
    out = np.zeros((2, 2 * RATE), np.float32)
    voices.glide(out, 0, 2 * RATE, 110.0 / RATE, 55.0 / RATE, 0.1 * RATE, 0.5, 1e9, 1000.0, ONE, ONE)
    assert strongest(out[0, : RATE // 20]) > 85.0
    assert strongest(out[0, RATE:]) == pytest.approx(55.0, abs=1.0)


def test_an_808_bass_glides_where_notes_follow_each_other() -> None:
    patch = synth("808", "bass")
    patch.told["glide"] = 0.1
    alone, _ = synths.play_synth(patch, np.array([row(1.0, 2.0, 33)]), 2 * RATE)
    after, heard = synths.play_synth(patch, np.array([row(0.0, 1.0, 45), row(1.0, 2.0, 33)]), 2 * RATE)
    apart, _ = synths.play_synth(patch, np.array([row(0.0, 0.5, 45), row(1.0, 2.0, 33)]), 2 * RATE)
    begin = slice(RATE + int(patch.told["release"] * RATE), 2 * RATE)
    assert np.abs(apart[:, begin] - alone[:, begin]).max() < 1e-3
    assert np.abs(after[:, begin] - alone[:, begin]).max() > 0.01
    assert heard[:, 0].tolist() == [45.0, 33.0]


# Basses


def test_basses_are_drawn_by_instrument_however_many_files_one_has(stems: Stems) -> None:
    electric = stems.where(lambda s: s.stem == "bass")
    double = replace(electric[0], instrument="double_bass", articulation="pizz")
    machine = replace(electric[0], instrument="synth_bass", articulation="bass_drop_c")
    mixed = replace(stems, samples=[*electric * 10, double, machine])
    names = Counter(instruments.bass_patch(mixed, r).name.split()[0] for r in map(rng, range(600)))
    for name, weight in instruments.BASSES.items():
        assert names[name] / 600 == pytest.approx(weight, abs=0.07)


def test_a_picked_bass_differs_at_its_attack_alone(stems: Stems) -> None:
    samples = stems.where(lambda s: s.stem == "bass")
    plain, picked = (
        instruments.play_patch(stems, instruments.Patch("x", samples, 0.1, emphasis=e), np.array([row(0.5, 1.5, 40)]), 2 * RATE, rng(0))[0]
        for e in (0.0, 4.0)
    )
    more = np.abs(picked - plain)
    assert more[:, RATE // 2 - 200 : int(0.55 * RATE)].max() > 0.01
    assert more[:, : RATE // 2 - 200].max() == 0.0 and more[:, int(0.6 * RATE) :].max() < 1e-3


def test_an_amplified_bass_keeps_its_key_and_is_another_each_time() -> None:
    dry = np.repeat(tone(82.4, 1.0, 5.0)[None], 2, axis=0)
    made = [instruments.amplified(dry.copy(), rng(seed)) for seed in range(12)]
    for y in made:
        assert np.isfinite(y).all() and rms(y) > 0.1 * rms(dry)
        assert strongest(y[0]) == pytest.approx(82.4, abs=1.0)
    assert len({y.tobytes() for y in made}) > 8


# Surroundings


def test_grains_of_a_short_sound_last() -> None:
    source = np.repeat(tone(440.0, 0.2)[None], 2, axis=0)
    cloud = atmosphere.grains(source, 3 * RATE, rng(1))
    assert cloud.shape == (2, 3 * RATE) and np.isfinite(cloud).all()
    levels = [rms(cloud[:, i : i + RATE // 2]) for i in range(RATE // 2, 3 * RATE, RATE // 2)]
    assert min(levels) > 0.3 * max(levels) > 0.0
    assert strongest(cloud[0]) == pytest.approx(440.0, rel=0.05)


@pytest.mark.parametrize("kick", [36, electronic.BOOMS[2]])
def test_a_pumped_sound_ducks_at_the_kick_and_comes_back(kick: int) -> None:
    sound = np.ones((2, 2 * RATE), np.float32)
    atmosphere.pump(sound, np.array([row(0.5, 0.6, kick), row(1.0, 1.1, 42)]), rng(0))
    assert sound[:, int(0.506 * RATE)].max() < 0.75
    assert (sound[:, : RATE // 2] == 1.0).all() and (sound[:, int(0.95 * RATE) :] == 1.0).all()
    assert np.abs(np.diff(sound[0])).max() < 0.02


def test_a_record_hisses_as_loud_throughout() -> None:
    y = atmosphere.record(4 * RATE, rng(1))
    assert y.shape == (2, 4 * RATE) and y.dtype == np.float32
    assert rms(y) == pytest.approx(1.0, rel=0.1)
    assert all(rms(y[:, i : i + RATE]) > 0.5 for i in range(0, 4 * RATE, RATE))


def test_only_frozen_grains_make_the_notes_of_other_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, drums = np.repeat(tone(440.0, 1.0)[None], 2, axis=0), np.array([row(0.1, 0.2, 36)])
    for share in (0.0, 1.0):
        monkeypatch.setattr(atmosphere, "GRAINS", share)
        for seed in range(6):
            y, noted = atmosphere.surround(sound.copy(), drums, rng(seed))
            assert noted == (share == 0.0)
            assert y.shape == sound.shape and y.dtype == np.float32 and np.isfinite(y).all() and rms(y) > 0.01


# Loops


@pytest.mark.parametrize("turn_s", [0.2, 0.88, 2.47, 6.24, 12.0])
def test_a_sixteenth_of_a_loop_divides_it_at_a_usual_tempo(turn_s: float) -> None:
    step = loops.sixteenth(turn_s)
    assert 0.35 <= 4.0 * step <= 0.85
    assert turn_s < 0.35 or np.log2(turn_s / step) == pytest.approx(round(np.log2(turn_s / step)))


def test_a_frozen_blip_is_a_steady_tone(stems: Stems) -> None:
    y = loops.frozen(tone(440.0, 0.15, 0.03)[None], rng(0))
    levels = [rms(y[:, i : i + RATE // 2]) for i in range(RATE // 2, y.shape[1] - RATE // 2, RATE // 2)]
    assert min(levels) > 0.4 * max(levels)


def test_slices_go_backwards_and_at_other_speeds() -> None:
    rising = np.tile(np.linspace(0.0, 1.0, 2000, dtype=np.float32), 16)[None]
    slopes = set[int]()
    for seed in range(60):
        y = loops.shuffled(rising, rng(seed))[0]
        slopes |= set(np.round(2000 * np.diff(y)[::50] * 2).astype(int).tolist())
    assert {-2, 1, 2, 3} <= slopes


def test_drum_loops_differ_by_seed_and_are_the_same_for_the_same(stems: Stems) -> None:
    made = [loops.drum_loop(stems, RATE * 4, rng(seed)) for seed in range(12)]
    assert all(np.isfinite(y).all() and np.abs(y).max() > 0.01 for y, _ in made)
    assert len({y.tobytes() for y, _ in made}) == 12
    assert any(name.endswith("drums") for _, name in made)
    np.testing.assert_array_equal(loops.drum_loop(stems, RATE * 4, rng(3))[0], made[3][0])


def test_tonal_loops_are_never_silent(stems: Stems) -> None:
    notes = np.array([row(0.1 * i, 0.1 * i + 0.1, 60) for i in range(20)])
    made = [loops.tonal_loop(stems, notes, RATE * 3, rng(seed)) for seed in range(12)]
    assert all(np.isfinite(y).all() and np.abs(y).max() > 0.01 for y, _ in made)
    assert any("frozen" in name for _, name in made)
