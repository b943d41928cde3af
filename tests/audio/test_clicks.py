"""Clicks as the callback plays them: from their due frames on, sample for sample."""

import numpy as np
import pytest

from rtserver.audio import table as t
from rtserver.audio.clicks import ClickRing, bursts
from rtserver.audio.journal import unread
from rtserver.audio.mixer import mix_output, take_input
from rtserver.config import parse
from rtserver.events import Change, Click
from rtserver.plan import Branch, fill, open_session, plan
from rtserver.shared.session import Setup

RATE, BLOCK = 48000, 64
CLICK = {"click": {"source": "click", "channels": [2]}}
LOW, HIGH = bursts(RATE)


class Mixer:
    """A private session whose clicks the test tells."""

    def __init__(self, outputs=CLICK, **more):
        config = parse({"audio": {"block_size": BLOCK}, "generation": {"enabled": False}, "outputs": outputs, **more})
        self.outputs = list(config.outputs)
        self.plan = plan(config, [Branch("main", 32, {"harmonic": 100, "percussive": 100})], 1)
        self.session = open_session(Setup(config, "", "", self.plan.tracks), self.plan)
        self.block = self.session.block
        self.table = self.block["audio.table"]
        self.i64 = self.block.bytes[: len(self.block.bytes) // 8 * 8].view(np.int64)
        self.f32 = self.i64.view(np.float32)
        self.ring = ClickRing(self.block, 0)

    def run(self, n_frames, cut=BLOCK):
        """What is heard in so many frames, (frames, channels)."""
        out = []
        for start in range(0, n_frames, cut):
            n = min(cut, n_frames - start)
            block = np.zeros((n, self.plan.device_out), np.float32)
            take_input(self.table, self.i64, self.f32, np.zeros((n, self.plan.device_in), np.float32))
            mix_output(self.table, self.i64, self.f32, block)
            out.append(block)
        return np.concatenate(out)

    @property
    def late(self):
        return int(self.table[t.LATE_CLICKS])


def expected(n_frames, *clicks):
    y = np.zeros(n_frames + len(LOW), np.float32)
    for frame, velocity, accent in clicks:
        y[frame : frame + len(LOW)] += (HIGH if accent else LOW) * (np.float32(velocity) * np.float32(1 / 127))
    return y[:n_frames]


def test_a_click_is_heard_from_its_frame_on():
    mixer = Mixer()
    mixer.ring.put(100, 127, False)
    out = mixer.run(4000)[:, 1]
    assert np.flatnonzero(out)[0] == 100
    np.testing.assert_allclose(out, expected(4000, (100, 127, False)), atol=1e-6)


def test_a_bar_line_sounds_higher_and_velocity_is_loudness():
    mixer = Mixer()
    mixer.ring.put(10, 120, True)
    mixer.ring.put(3000, 30, False)
    np.testing.assert_allclose(mixer.run(6000)[:, 1], expected(6000, (10, 120, True), (3000, 30, False)), atol=1e-6)


def test_clicks_that_overlap_add_up():
    mixer = Mixer()
    clicks = [(10 + 1000 * k, 60, k % 2 == 0) for k in range(5)]
    for click in clicks:
        mixer.ring.put(*click)
    np.testing.assert_allclose(mixer.run(6000)[:, 1], expected(6000, *clicks), atol=1e-6)


@pytest.mark.parametrize("cut", [1, 37, 64, 1000, 8192])
def test_how_blocks_are_cut_changes_nothing(cut):
    clicks = [(0, 100, True), (1023, 90, False), (2048, 80, False), (5000, 70, True)]
    heard = []
    for size in (BLOCK, cut):
        mixer = Mixer()
        for click in clicks:
            mixer.ring.put(*click)
        heard.append(mixer.run(8192, size))
    np.testing.assert_array_equal(*heard)


def test_a_late_click_is_dropped_and_counted_not_cut_into():
    mixer = Mixer()
    mixer.run(2 * BLOCK)
    mixer.ring.put(2 * BLOCK - 1, 100, False)
    assert not mixer.run(4000).any()
    assert mixer.late == 1


def test_what_an_heir_tells_anew_is_heard_once():
    mixer = Mixer()
    for frame in (1000, 1400, 900, 2000):
        mixer.ring.put(frame, 127, False)
    np.testing.assert_allclose(mixer.run(6000)[:, 1], expected(6000, (1000, 127, False), (2000, 127, False)), atol=1e-6)


def test_a_click_in_time_for_its_block_is_heard():
    mixer = Mixer()
    mixer.run(2 * BLOCK)
    mixer.ring.put(2 * BLOCK, 100, False)
    assert mixer.run(BLOCK)[0, 1] > 0.7
    assert mixer.late == 0


def test_a_click_whose_frame_was_lost_with_the_stream_is_not_heard():
    mixer = Mixer()
    mixer.ring.put(200, 100, False)
    mixer.run(BLOCK)
    mixer.table[t.FRAME] = 210  # as a new stream begins
    assert not mixer.run(4000).any()
    assert mixer.late == 1


def test_the_click_is_on_its_output_alone_and_as_loud_as_that():
    outputs = CLICK | {
        "monitor": {"source": "dry", "channels": [1], "align": False},
        "soft": {"source": "click", "channels": [3], "gain_db": -20},
    }
    mixer = Mixer(outputs)
    mixer.ring.put(100, 127, False)
    out = mixer.run(2000)
    assert not out[:, 0].any()
    np.testing.assert_allclose(out[:, 2], 0.1 * out[:, 1], atol=1e-6)


def test_a_muted_click_is_silent_and_comes_back():
    mixer = Mixer()
    mixer.block["audio.values"][0, 0] = 0.0
    mixer.block["audio.pending"][0, 0] = 0
    mixer.run(2000)
    mixer.ring.put(2500, 127, False)
    assert not mixer.run(2000).any()
    assert [e.key for e in unread(mixer.block, 0, mixer.outputs) if isinstance(e, Change)] == ["level"]


def test_it_is_aligned_with_nothing_and_delays_nobody():
    outputs = {"harmonic": {"source": "harmonic", "channels": [1]}, "click": {"source": "click", "channels": [1]}}
    with_click, without = Mixer(outputs).plan, Mixer({"harmonic": outputs["harmonic"]}).plan
    assert with_click.outputs[1].latency == 0
    assert with_click.outputs[0].latency == without.outputs[0].latency


def test_what_began_is_told():
    mixer = Mixer()
    mixer.ring.put(100, 90, False)
    mixer.ring.put(2000, 120, True)
    mixer.run(150)
    mixer.run(2000)
    assert list(unread(mixer.block, 0, mixer.outputs)) == [Click(100, 100, 90, False), Click(2000, 2000, 120, True)]


def test_where_there_is_no_such_output_clicks_are_neither_late_nor_told():
    mixer = Mixer({"monitor": {"source": "dry", "channels": [1], "align": False}})
    for k in range(3 * t.CLICK_RING):
        mixer.ring.put(10 * k, 90, False)
        mixer.run(64)
    assert mixer.late == 0
    assert not list(unread(mixer.block, 0, mixer.outputs))


def test_another_song_on_the_deck_has_not_the_clicks_of_the_one_before():
    mixer = Mixer()
    mixer.ring.put(100, 127, False)
    fill(mixer.block, mixer.plan, 0)
    mixer.table[[t.DECKS + t.START, t.DECKS + t.END]] = (-t.FOREVER, t.FOREVER)
    assert not mixer.run(4000).any()


def test_a_session_without_a_callback_takes_no_clicks():
    from rtserver.shared.memory import Layout
    from rtserver.shared.session import Session

    layout = Layout()
    Session.declare(layout, 1, 1, 1)
    ClickRing(Session.create(layout, Setup(parse({}), "")).block, 0).put(0, 100, False)


def test_a_burst_is_loudest_at_its_first_frame_and_ends_in_silence():
    for rate in (22050, 44100, 192000):
        for burst in bursts(rate):
            assert burst[0] == 1.0 == np.abs(burst).max()
            assert abs(burst[-1]) < 1e-4
            assert len(burst) <= t.BURST_ROOM
