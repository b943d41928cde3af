"""Facts about the mixer kernel, driven as the callback drives it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.audio import table as t
from rtserver.audio.mixer import mix_output, take_input
from rtserver.config import parse
from rtserver.plan import Branch, fill, open_session, plan
from rtserver.shared.session import Setup

BLOCK = 64
BASE = {"audio": {"block_size": BLOCK}, "generation": {"enabled": False}}


class Mixer:
    """A private session without an engine: the test writes the tracks itself."""

    def __init__(self, outputs, latency=100, inputs=None):
        config = parse({**BASE, "inputs": inputs or {"main": {}}, "outputs": outputs})
        branches = [] if inputs else [Branch("main", 32, {"harmonic": latency, "percussive": latency})]
        self.plan = plan(config, branches, 1)
        self.session = open_session(Setup(config, "", "", self.plan.tracks), self.plan)
        block = self.session.block
        self.table = block["audio.table"]
        self.i64 = block.bytes[: len(block.bytes) // 8 * 8].view(np.int64)
        self.f32 = self.i64.view(np.float32)
        self.tracks = [self.session.track(track, i) for i, track in enumerate(self.plan.tracks)]

    def change(self, o, key, value, frame):
        """What the engine does to change a level or a bypass from `frame` on."""
        self.session.block["audio.values"][o, t.KEYS.index(key)] = value
        self.session.block["audio.pending"][o, t.KEYS.index(key)] = frame

    def log(self, *kinds):
        """Rows of these kinds: (kind, output, frame, value)."""
        rows = self.session.block["audio.log"][: int(self.table[t.LOG_WRITTEN])]
        return [tuple(int(v) for v in row) for row in rows if row[0] in kinds]

    def run(self, x):
        """One block of (frames, channels) in, the mixed block out."""
        out = np.full((len(x), self.plan.device_out), np.nan, np.float32)
        take_input(self.table, self.i64, self.f32, x)
        mix_output(self.table, self.i64, self.f32, out)
        return out

    def row(self, o, index):
        return int(self.table[t.OUTPUTS + o * t.OUTPUT_WIDTH + index])


ONE = {"harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"}}
MONITOR = {"monitor": {"source": "dry", "channels": [1], "align": False}}


def noise(n, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def feed(mixer, x, upto=None, cut=BLOCK):
    """Run `x`; the track carries the input itself, served `cut` frames after it came, up to frame `upto`."""
    out = []
    for start in range(0, len(x), cut):
        out.append(mixer.run(np.ascontiguousarray(x[start : start + cut])))
        end = start + cut if upto is None else min(start + cut, upto)
        if end > mixer.tracks[0].written_to:
            mixer.tracks[0].write(np.ascontiguousarray(x[mixer.tracks[0].written_to : end].T), mixer.tracks[0].written_to)
    return np.concatenate(out)


def test_dry_unaligned_passes_at_once():
    x = noise(4 * BLOCK)
    np.testing.assert_array_equal(feed(Mixer(MONITOR), x), x)


def test_a_track_is_heard_after_its_delay_bit_for_bit():
    mixer = Mixer(ONE)
    x = noise(40 * BLOCK)
    delay = mixer.row(0, t.DELAY)
    out = feed(mixer, x)
    np.testing.assert_array_equal(out[delay:], x[:-delay])
    assert not out[:delay].any()


def test_extra_delay_is_added_to_the_engines_outputs_alone():
    mixer = Mixer(ONE | {"monitor": {"source": "dry", "channels": [2], "align": False}})
    mixer.table[t.EXTRA_DELAY] = 37
    x = noise(40 * BLOCK)
    delay = mixer.row(0, t.DELAY) + 37
    out = feed(mixer, x)
    np.testing.assert_array_equal(out[delay:, 0], x[:-delay, 0])
    np.testing.assert_array_equal(out[:, 1], x[:, 0])


def test_a_change_of_the_extra_delay_is_logged_with_its_frame_and_can_be_done_again():
    x = noise(60 * BLOCK)

    def play(change, cut):
        mixer = Mixer(ONE)
        out = [feed(mixer, x[:change], cut=cut)]
        mixer.table[t.EXTRA_DELAY] = 37
        for start in range(change, len(x), cut):
            out.append(mixer.run(x[start : start + cut]))
            mixer.tracks[0].write(np.ascontiguousarray(x[start : start + cut].T), start)
        return np.concatenate(out), mixer.log(t.LOG_LAG)

    live, ((_, _, frame, n_frames),) = play(30 * BLOCK, BLOCK)
    assert (frame, n_frames) == (30 * BLOCK, 37)
    again, _ = play(frame, BLOCK // 4)
    np.testing.assert_array_equal(again, live)


def test_nothing_late_is_counted_on_time():
    mixer = Mixer(ONE)
    feed(mixer, noise(40 * BLOCK))
    assert mixer.row(0, t.LATE_FRAMES) == 0
    assert mixer.table[t.LOG_WRITTEN] == mixer.table[t.MISSES] == 0


def test_a_late_track_fades_to_dry_of_the_same_latency():
    mixer = Mixer(ONE)
    x = noise(60 * BLOCK)
    out = feed(mixer, x, upto=20 * BLOCK)
    late_from = 20 * BLOCK + mixer.row(0, t.DELAY)
    dry = np.roll(x, mixer.plan.outputs[0].latency, axis=0)
    np.testing.assert_array_equal(out[late_from + t.FADE :], dry[late_from + t.FADE :])


def test_a_late_muted_track_is_silent_after_the_fade():
    mixer = Mixer({"percussive": {"source": "harmonic", "channels": [1], "on_late": "mute"}})
    out = feed(mixer, noise(60 * BLOCK), upto=20 * BLOCK)
    late_from = 20 * BLOCK + mixer.row(0, t.DELAY)
    assert out[late_from - 1].any()
    assert not out[late_from + t.FADE :].any()


def test_concealment_does_not_click():
    """A slow sine that stops coming: no step exceeds what the sine, its mirror and the fade can make."""
    mixer = Mixer({"late": {"source": "harmonic", "channels": [1], "on_late": "mute"}})
    x = np.sin(2 * np.pi * np.arange(60 * BLOCK) / 400).astype(np.float32)[:, None]
    out = feed(mixer, x, upto=20 * BLOCK)
    assert np.abs(np.diff(out[mixer.row(0, t.DELAY) :, 0])).max() < 2 * np.pi / 400 + 1.5 / t.FADE


def test_a_miss_is_logged_with_its_frames_when_it_ends():
    mixer = Mixer(ONE)
    x = noise(60 * BLOCK)
    feed(mixer, x[: 40 * BLOCK], upto=20 * BLOCK)
    frame = 40 * BLOCK
    mixer.tracks[0].restart(frame)
    for start in range(40 * BLOCK, 60 * BLOCK, BLOCK):
        mixer.run(x[start : start + BLOCK])
        mixer.tracks[0].write(np.ascontiguousarray(x[start : start + BLOCK].T), start)
    delay = mixer.row(0, t.DELAY)
    assert mixer.table[t.MISSES] == 1
    ((_, output, first, n_frames),) = mixer.log(t.LOG_MISS)
    assert (output, first) == (0, 20 * BLOCK + delay)
    assert mixer.log(t.LOG_ABSENT) == [(t.LOG_ABSENT, 0, first, frame + delay - first)]
    assert first + n_frames == frame + delay + t.FADE  # the first frame that is whole again


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=3, max_size=40), st.integers(0, 3000))
def test_cutting_changes_no_bit_even_when_late_and_ramping(cuts, upto):
    x = noise(sum(cuts))
    track = noise(4096, seed=3)[: max(1, min(upto, 4096))]
    results = []
    for blocks in (cuts, [1] * sum(cuts)):
        mixer = Mixer(ONE)
        mixer.tracks[0].write(np.ascontiguousarray(track.T), 0)
        mixer.change(0, "level", 0.25, 100)
        mixer.change(0, "bypass", 1.0, 300)
        out, start = [], 0
        for n in blocks:
            out.append(mixer.run(np.ascontiguousarray(x[start : start + n])))
            start += n
        results.append(np.concatenate(out))
    np.testing.assert_array_equal(*results)


def test_a_gain_change_is_a_ramp_from_its_frame():
    mixer = Mixer(MONITOR)
    mixer.change(0, "level", 0.0, 1000)
    out = feed(mixer, np.ones((40 * BLOCK, 1), np.float32))[:, 0]
    assert out[999] == 1.0
    assert 0.0 < out[1001] < 1.0
    assert np.abs(np.diff(out)).max() < 1.1 / (t.RAMP_S * 48000)
    assert out[1000 + round(t.RAMP_S * 48000) + 2] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_silenced_and_counted(bad):
    mixer = Mixer(MONITOR)
    x = noise(BLOCK)
    x[10] = bad
    out = mixer.run(x)
    assert out[10, 0] == 0.0
    assert mixer.table[t.NONFINITE_IN] == 1


def test_what_a_track_breaks_is_silenced_at_the_output():
    mixer = Mixer(ONE)
    x = noise(40 * BLOCK)
    track = x.copy()
    track[500] = np.nan
    mixer.tracks[0].write(np.ascontiguousarray(track.T), 0)
    out = np.concatenate([mixer.run(x[s : s + BLOCK]) for s in range(0, len(x), BLOCK)])
    assert np.isfinite(out).all()
    assert mixer.table[t.NONFINITE_OUT] == 1


def test_mono_is_copied_to_every_channel_of_an_output():
    mixer = Mixer({"wide": {"source": "dry", "channels": [1, 3], "align": False}})
    x = noise(BLOCK)
    out = mixer.run(x)
    np.testing.assert_array_equal(out[:, [0, 2]], np.repeat(x, 2, axis=1))
    assert not out[:, 1].any()


def test_outputs_on_one_channel_are_mixed_and_aligned():
    both = {"dry": {"source": "dry", "channels": [1]}, "harmonic": {"source": "harmonic", "channels": [1], "on_late": "dry"}}
    mixer = Mixer(both)
    x = noise(40 * BLOCK)
    out = feed(mixer, x)
    latency = mixer.plan.outputs[1].latency - 100  # the track of this test lags by nothing
    assert mixer.plan.outputs[0].latency == mixer.plan.outputs[1].latency
    np.testing.assert_allclose(out[latency + 100 :], x[: -latency - 100] + x[100:-latency], atol=1e-6)


def test_no_kernel_compiles_after_import():
    before = [len(k.signatures) for k in (take_input, mix_output)]
    feed(Mixer(ONE), noise(4 * BLOCK))
    assert [len(k.signatures) for k in (take_input, mix_output)] == before == [1, 1]


def test_a_change_is_logged_with_the_frame_at_which_it_began():
    mixer = Mixer(MONITOR)
    mixer.change(0, "level", 0.25, 3 * BLOCK + 5)
    feed(mixer, noise(8 * BLOCK))
    mixer.change(0, "level", 0.5, BLOCK)  # long past: at once
    feed(mixer, noise(2 * BLOCK))
    rows = mixer.log(t.LOG_LEVEL)
    assert [row[:3] for row in rows] == [(t.LOG_LEVEL, 0, 3 * BLOCK + 5), (t.LOG_LEVEL, 0, 8 * BLOCK)]
    assert np.array([row[3] for row in rows], np.int64).view(np.float32)[::2].tolist() == [0.25, 0.5]


def test_bypass_is_the_dry_input_at_the_outputs_latency():
    mixer = Mixer({"harmonic": {"source": "harmonic", "channels": [1], "bypass": True}})
    x = noise(40 * BLOCK)
    out = feed(mixer, x)
    latency = mixer.plan.outputs[0].latency
    np.testing.assert_array_equal(out[latency:], x[:-latency])


def test_a_forced_absence_repeats_a_miss_bit_for_bit():
    x = noise(60 * BLOCK)
    live = Mixer(ONE)
    first = feed(live, x[: 40 * BLOCK], upto=20 * BLOCK)
    live.tracks[0].restart(40 * BLOCK)
    second = []
    for start in range(40 * BLOCK, 60 * BLOCK, BLOCK):
        second.append(live.run(x[start : start + BLOCK]))
        live.tracks[0].write(np.ascontiguousarray(x[start : start + BLOCK].T), start)
    ((_, _, frame, n_frames),) = live.log(t.LOG_ABSENT)
    again = Mixer(ONE)
    row = again.table[t.OUTPUTS :][: t.OUTPUT_WIDTH]
    row[[t.FORCE_FROM, t.FORCE_UNTIL]] = (frame, frame + n_frames)
    np.testing.assert_array_equal(feed(again, x), np.concatenate([first, *second]))


def two_decks(change=BLOCK * 20):
    """The second deck plays the dry input at half its level, from `change` on."""
    mixer = Mixer(MONITOR)
    config = parse({**BASE, "outputs": {"monitor": {**MONITOR["monitor"], "gain_db": -20.0}}})
    fill(mixer.session.block, plan(config, [], 1), 1)
    mixer.table[t.DECKS + t.END] = change
    mixer.table[t.DECKS + t.DECK_WIDTH + t.START] = change
    mixer.table[t.DECKS + t.DECK_WIDTH + t.END] = t.FOREVER
    return mixer


def test_decks_crossfade_without_a_step_and_without_a_gap():
    mixer, n = two_decks(), round(t.RAMP_S * 48000)
    out = feed(mixer, np.ones((60 * BLOCK, 1), np.float32))[:, 0]
    assert (out[: 20 * BLOCK] == 1.0).all()
    np.testing.assert_allclose(out[20 * BLOCK + n + 2 :], 0.1, rtol=1e-6)
    assert np.abs(np.diff(out)).max() < 1.1 / n


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=10, max_size=30))
def test_decks_change_at_a_frame_however_blocks_are_cut(cuts):
    x = noise(sum(cuts))
    results = []
    for blocks in (cuts, [1] * sum(cuts)):
        mixer, start, out = two_decks(change=sum(cuts) // 3), 0, []
        for n in blocks:
            out.append(mixer.run(np.ascontiguousarray(x[start : start + n])))
            start += n
        results.append(np.concatenate(out))
    np.testing.assert_array_equal(*results)


def test_what_was_played_is_kept():
    mixer = Mixer(ONE)
    out = feed(mixer, noise(40 * BLOCK))
    kept = np.zeros((1, len(out)), np.float32)
    assert mixer.session.played.read(0, kept)
    np.testing.assert_array_equal(kept.T, out)


def test_meters_tell_peak_rms_and_clips_of_whole_windows():
    mixer = Mixer(MONITOR)
    size = int(mixer.table[t.METER_SIZE])
    x = noise(2 * size)
    x[size + 5] = 1.5
    out = feed(mixer, x, cut=size // 4)
    meters = mixer.session.block["audio.meters"]
    assert mixer.table[t.METER_FRAME] == 2 * size
    for row, signal in ((0, x), (t.MAX_CHANNELS, out)):
        peak, mean_square, clipped = meters[row]
        assert (peak, clipped) == (1.5, 1.0)
        assert mean_square == pytest.approx(float(np.mean(np.square(signal[size:]))), rel=1e-4)


def test_inputs_have_their_own_dry_sound():
    inputs = {"guitar": {"channels": [2]}, "voice": {"channels": [1, 3]}}
    outputs = {
        "guitar": {"source": "dry", "input": "guitar", "channels": [1]},
        "voice": {"source": "dry", "input": "voice", "channels": [2, 3]},
    }
    mixer = Mixer(outputs, inputs=inputs)
    x = noise(BLOCK, 3)
    np.testing.assert_array_equal(mixer.run(x), x[:, [1, 0, 2]])
