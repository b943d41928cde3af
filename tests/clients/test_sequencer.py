"""Raw MIDI on a client's own clock: when each message is sent, and that nothing hangs. Time is of the test's making."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "clients"))

from rtclient import LEASE_S, Player, Port, Sequencer
from rtclient.sequencer import ECHOES_NS, MAX_NOTES, SILENCE_S, Arrival

MS = 1_000_000
LEASE = round(SILENCE_S * 1e9)
TOPIC = "midi.performer"


class Bench:
    """A sequencer, a server that numbers what it says, and what sounds on a synth."""

    def __init__(self, **settings: Any) -> None:
        self.sequencer = Sequencer((TOPIC,), **settings)
        self.sequence = 0
        self.sounding: dict[tuple[int, int], int] = {}
        self.sent: list[tuple[int, bytes]] = []

    def beat(self, now: int, sent: int | None = None, epoch: int = 1, last: int | None = None) -> None:
        last = self.sequence if last is None else last
        payload = {"sequences": {TOPIC: last} if last else {}, "notes": []}
        self.sequencer.take("heartbeat", [1, "b", epoch, 1, 0, 0, 0, None], payload, Arrival(now, 0, now if sent is None else sent))

    def say(
        self, now: int, what: str, note_id: int, due: int, *, pitch: int = 60, duration: int = 0, lost: bool = False, offset: float = 0.0
    ) -> None:
        self.sequence += 1
        data = bytes((0x90 if what == "on" else 0x80, pitch, 72 if what == "on" else 0))
        header = [1, "b", 1, self.sequence, 0, 0, 0, due, note_id, duration, what]
        if not lost:
            self.sequencer.take(TOPIC, header, data, Arrival(now, offset, now))

    def note(self, now: int, note_id: int, due: int, duration: int, pitch: int = 60) -> None:
        self.say(now, "on", note_id, due, pitch=pitch, duration=duration)
        self.say(now, "off", note_id, due + duration, pitch=pitch, duration=duration)

    def run(self, now: int) -> list[bytes]:
        messages = self.sequencer.due(now)
        for message in messages:
            key = (message[0] & 15, message[1])
            if message[0] & 0xF0 == 0x90:
                assert key not in self.sounding, "a pitch is let go before it is struck anew"
                self.sounding[key] = now
            else:
                self.sounding.pop(key, None)
            self.sent.append((now, message))
        return messages


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.beat(0)
    return bench


ON, OFF = bytes((0x90, 60, 72)), bytes((0x80, 60, 0))


def test_bytes_are_sent_when_they_are_due(bench: Bench) -> None:
    bench.note(0, 1, 50 * MS, 100 * MS)
    assert bench.sequencer.next_ns == 50 * MS
    assert bench.run(50 * MS - 1) == []
    assert bench.run(50 * MS) == [ON]
    assert bench.sequencer.next_ns == 150 * MS
    assert bench.run(150 * MS) == [OFF]


def test_due_times_are_the_servers_and_become_ours() -> None:
    bench = Bench(offset_s=0.002)
    bench.beat(0)
    bench.say(0, "on", 1, 10**12 + 50 * MS, duration=100 * MS, offset=10**12)
    assert bench.sequencer.next_ns == 52 * MS


def test_a_note_off_is_sent_again_unless_its_pitch_has_been_struck_anew(bench: Bench) -> None:
    bench.note(0, 1, 0, 10 * MS)
    bench.note(0, 2, 80 * MS, 200 * MS)
    sent = [bench.run(at * MS) for at in (0, 10, 60, 80, 160)]
    assert sent == [[ON], [OFF], [OFF], [ON], []]
    assert ECHOES_NS == (50 * MS, 150 * MS)


def test_a_note_whose_turn_comes_too_late_is_left_out_with_its_release(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 100 * MS)
    assert bench.run(41 * MS) == []
    assert bench.run(200 * MS) == []
    assert bench.sequencer.counts.dropped == 1


def test_a_note_that_is_a_little_late_is_played_and_counted(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 100 * MS)
    assert bench.run(30 * MS) == [ON]
    assert bench.run(110 * MS) == [OFF], "and ends in its time"
    assert (bench.sequencer.counts.late, bench.sequencer.counts.late_ns_max) == (1, 20 * MS)


def test_a_release_is_never_left_out(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 20 * MS)
    bench.run(10 * MS)
    assert bench.run(290 * MS) == [OFF]


def test_a_note_ends_by_its_duration_should_its_release_be_lost(bench: Bench) -> None:
    bench.say(0, "on", 1, 10 * MS, duration=20 * MS)
    assert [bench.run(at * MS) for at in (10, 30)] == [[ON], [OFF]]


def test_what_is_cut_ends_then_and_the_earlier_told_end_does_nothing(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 200 * MS)
    bench.run(10 * MS)
    bench.say(50 * MS, "cut", 1, 50 * MS)
    assert bench.run(50 * MS) == [OFF]
    bench.note(60 * MS, 2, 150 * MS, 100 * MS)
    bench.run(150 * MS)
    bench.run(210 * MS)
    assert bench.sounding == {(0, 60): 150 * MS}


def test_what_is_cut_before_it_began_does_not_begin(bench: Bench) -> None:
    bench.note(0, 1, 100 * MS, 200 * MS)
    bench.say(50 * MS, "cut", 1, 50 * MS)
    assert bench.run(100 * MS) == []


def test_a_cut_in_the_future_waits(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 200 * MS)
    bench.run(10 * MS)
    bench.say(20 * MS, "cut", 1, 80 * MS)
    assert [bench.run(at * MS) for at in (79, 80)] == [[], [OFF]]


def test_a_cut_of_a_note_that_has_not_begun_shortens_it(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 200 * MS)
    bench.say(0, "cut", 1, 80 * MS)
    assert [bench.run(at * MS) for at in (10, 80)] == [[ON], [OFF]]


def test_a_pitch_that_sounds_is_let_go_first(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 200 * MS)
    bench.note(0, 2, 50 * MS, 20 * MS)
    assert [bench.run(at * MS) for at in (10, 50, 70)] == [[ON], [OFF, ON], [OFF]]
    bench.run(210 * MS)
    assert bench.sounding == {}


def test_all_ends_when_the_server_falls_silent_and_nothing_begins(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 10**10)
    bench.note(0, 2, 260 * MS, 10**10, pitch=61)
    bench.run(10 * MS)
    assert bench.sequencer.next_ns == LEASE
    assert bench.run(LEASE - 1) == []
    assert bench.run(LEASE) == [OFF]
    assert bench.run(260 * MS) == []
    assert bench.sequencer.counts.expired == 1
    bench.note(265 * MS, 3, 270 * MS, MS)
    assert bench.run(270 * MS) == []
    assert bench.sequencer.counts.dropped == 1


def test_what_is_heard_ends_within_the_lease() -> None:
    assert 0.2 < SILENCE_S <= LEASE_S - 0.05, "two heartbeats may be lost, and a port needs a moment"


def test_the_lease_counts_from_when_the_heartbeat_was_sent(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 10**10)
    bench.run(10 * MS)
    bench.beat(250 * MS, sent=100 * MS)
    assert bench.run(100 * MS + LEASE) == [OFF]


def test_nothing_is_played_before_the_first_heartbeat() -> None:
    bench = Bench()
    bench.note(0, 1, 10 * MS, MS)
    assert bench.run(10 * MS) == []
    bench.beat(11 * MS)
    assert bench.sequencer.counts.lost == 0, "what came before it joined is nobody's loss"
    bench.note(11 * MS, 2, 12 * MS, MS)
    assert bench.run(12 * MS) == [ON]


def test_another_gateway_begins_with_silence(bench: Bench) -> None:
    bench.note(0, 1, 10 * MS, 10**10)
    bench.run(10 * MS)
    bench.beat(20 * MS, epoch=2, last=0)
    assert bench.run(20 * MS) == [OFF]


@pytest.mark.parametrize("told_by", ["the next message", "the heartbeat"])
def test_after_a_loss_nothing_goes_on(bench: Bench, told_by: str) -> None:
    """What was lost may have been a note taken back."""
    bench.note(0, 1, 10 * MS, 10**10)
    bench.run(10 * MS)
    bench.say(20 * MS, "cut", 1, 20 * MS, lost=True)
    if told_by == "the heartbeat":
        bench.beat(30 * MS)
    else:
        bench.say(30 * MS, "on", 2, 200 * MS, pitch=61, duration=MS)
    assert bench.run(30 * MS) == [OFF]
    assert bench.sequencer.counts.lost == 1


def test_channels_are_mapped() -> None:
    bench = Bench(channels={0: 9})
    bench.beat(0)
    bench.note(0, 1, 10 * MS, 10 * MS)
    assert [bench.run(at * MS) for at in (10, 20)] == [[bytes((0x99, 60, 72))], [bytes((0x89, 60, 0))]]


def test_other_topics_are_left_alone(bench: Bench) -> None:
    bench.sequencer.take("midi.click", [1, "b", 1, 1, 0, 0, 0, MS, 1, MS, "on"], ON, Arrival(0, 0, 0))
    assert bench.run(MS) == []


def test_no_more_than_so_many_notes_wait(bench: Bench) -> None:
    for i in range(MAX_NOTES + 1):
        bench.say(0, "on", i, 100 * MS, pitch=i % 128, duration=MS)
    assert bench.sequencer.counts.dropped == 1


says = st.lists(
    st.tuples(
        st.sampled_from(["note", "note", "cut", "beat", "run", "other gateway"]),
        st.integers(60, 62),  # a pitch, or which note
        st.integers(-40, 200),  # due in so many ms
        st.integers(0, 400),  # for so many
        st.booleans(),  # whether it arrives
        st.integers(0, 120),  # ms until then
    ),
    max_size=40,
)


@given(says)
def test_no_note_outlives_its_end_or_the_lease_whatever_is_lost(does: list[tuple[str, int, int, int, bool, int]]) -> None:
    """`does` is what the server says and whether it arrives; the sequencer is asked whenever it asks to be."""
    bench, now, heard, epoch = Bench(), 0, -(10**12), 1
    ends: dict[tuple[int, int], int] = {}  # of each pitch, the latest end that was told

    def pass_time(until: int) -> None:
        nonlocal now
        while (at := bench.sequencer.next_ns) is not None and at <= until:
            now = max(now, at)
            bench.run(now)
        now = until
        for key in bench.sounding:
            assert now < ends[key], "it has outlived its end"
            assert now < heard + LEASE, "it has outlived the server"

    for i, (what, which, due, length, arrives, wait) in enumerate(does):
        pass_time(now + wait * MS)
        if what == "note":
            end = now + (due + max(length, 1)) * MS
            ends[0, which] = max(ends.get((0, which), 0), end)
            bench.say(now, "on", i, now + due * MS, pitch=which, duration=max(length, 1) * MS, lost=not arrives)
            bench.say(now, "off", i, end, pitch=which, lost=not arrives)
        elif what == "cut":
            bench.say(now, "cut", which - 60, now, lost=not arrives)
        elif what == "beat" and arrives:
            heard = now
            bench.beat(now, epoch=epoch)
        elif what == "other gateway" and arrives:
            bench.beat(now, epoch=7, last=0)
            bench.beat(now, epoch=epoch)
            heard = now
        pass_time(now)
    pass_time(now + 10**10)
    assert bench.sounding == {}


@pytest.mark.parametrize(("parts", "topics"), [(None, ["midi.performer"]), (["click"], ["midi.click"])])
def test_the_click_is_played_where_it_is_asked_for_alone(jack_server: str, parts: list[str] | None, topics: list[str]) -> None:
    port = Port("jack", "rtstest-click")
    port.open()
    player = Player(port, parts)
    try:
        assert player.topics(["midi.performer", "midi.click"]) == topics
    finally:
        player.close()
