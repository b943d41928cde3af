"""Raw MIDI from a real gateway; the test plays the performer, the midi role and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway_process import PATIENCE_S, Gateway, Subscriber, until

from rtserver import events
from rtserver.config import MidiPort
from rtserver.config.midi import Midi
from rtserver.shared.session import STARTING, STATE, UP
from rtserver.wire import protocol as p

RATE = 48000
MS = 1_000_000
Make = Callable[..., Gateway]


class Raw(Subscriber):
    """Whoever subscribes to raw MIDI."""

    def __init__(self, gateway: Gateway, *topics: str) -> None:
        super().__init__(gateway, topics, gateway.config.wire.events)

    def message(self) -> tuple[str, p.RawHeader, bytes]:
        """The next raw message; heartbeats and others are skipped."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            assert self.socket.poll(int(PATIENCE_S * 1000)), "nothing came"
            frames = self.socket.recv_multipart()
            if frames[0].startswith(b"midi."):
                return p.decode_raw(frames)
        raise AssertionError("no raw MIDI came")

    def told(self, n: int) -> list[tuple[str, int]]:
        """The next `n` messages: (what, note id)."""
        return [(header.what, header.note_id) for _, header, _ in (self.message() for _ in range(n))]

    def nothing_until_the_second_heartbeat(self) -> bool:
        """Whether nothing raw comes before the gateway has turned twice."""
        beats = 0
        while beats < 2:
            topic = self.socket.recv_multipart()[0]
            if topic.startswith(b"midi."):
                return False
            beats += topic == b"heartbeat"
        return True


@pytest.fixture
def gateway(make: Make) -> Iterator[Gateway]:
    gateway = make().started()
    gateway.session.clock.publish(0.0, time.monotonic(), RATE, 0.0)
    yield gateway


def frame_in(gateway: Gateway, in_s: float) -> int:
    return round(gateway.session.clock.frame_at(time.monotonic() + in_s))


def note(gateway: Gateway, note_id: int, in_s: float = 0.5, **fields: Any) -> events.Note:
    """A note of the performer's that is due in `in_s` and lasts a second."""
    given = {"available_frame": 0, "note_id": note_id, "pitch": 60, "velocity": 72, "duration": RATE, "channel": 2} | fields
    return events.Note(frame_in(gateway, in_s), **given)


def test_a_committed_note_is_told_with_its_release_and_their_times(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.performer", "note")
    told = note(gateway, 7, available_frame=5)
    gateway.say("performer", told)
    planned = subscriber.next("note")[0]
    topic, on, data = subscriber.message()
    _, off, end = subscriber.message()
    assert (topic, data, end) == ("midi.performer", bytes((0x92, 60, 72)), bytes((0x82, 60, 0)))
    assert (on.what, off.what, on.note_id, off.note_id) == ("on", "off", 7, 7)
    assert on.due_ns == planned.due_ns
    assert on.duration_ns == off.duration_ns == off.due_ns - on.due_ns
    assert abs(on.duration_ns - 1000 * MS) < MS
    assert (on.frame, off.frame) == (told.frame, told.frame + RATE)
    assert (on.sequence, off.sequence) == (1, 2)
    assert on.sent_ns <= time.monotonic_ns()


def test_each_part_has_a_topic_known_or_not(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1, part="click"))
    gateway.say("performer", note(gateway, 2, part="ghost", pitch=61))
    assert [subscriber.message()[0] for _ in range(4)] == ["midi.click"] * 2 + ["midi.ghost"] * 2


def test_hello_lists_the_parts_apart_from_the_topics(gateway: Gateway) -> None:
    hello = gateway.result("hello")
    assert {"midi.performer", "midi.client", "midi.cue", "midi.command"} <= set(hello["midi_topics"])
    assert not [topic for topic in hello["topics"] if topic.startswith("midi.")]


def test_hello_tells_the_look_ahead(gateway: Gateway) -> None:
    assert gateway.result("hello")["lookahead_s"] == gateway.config.wire.lookahead_s


def test_while_nobody_asks_for_it_nothing_is_told_or_counted(gateway: Gateway) -> None:
    everything = Raw(gateway, "")
    gateway.say("performer", note(gateway, 1))
    everything.next("note")
    assert everything.nothing_until_the_second_heartbeat(), "whoever subscribes to everything knows of no raw MIDI"
    assert "midi.performer" not in gateway.result("snapshot")["sequences"]
    later = Raw(gateway, "midi.performer")
    gateway.say("performer", note(gateway, 2, pitch=61))
    assert later.message()[1].sequence == 1


def test_nothing_is_lost_after_the_first_heartbeat(gateway: Gateway) -> None:
    """Often, for it is a matter of a moment."""
    for i in range(20):
        subscriber = Raw(gateway, "midi.performer")
        gateway.say("performer", note(gateway, i, pitch=40 + i))
        assert subscriber.told(2) == [("on", i), ("off", i)]
        subscriber.socket.close(0)


def test_a_panic_takes_back_what_sounds_and_what_waits(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1))
    gateway.say("performer", note(gateway, 2, in_s=5.0, pitch=64))
    subscriber.told(4)
    before_ns = time.monotonic_ns()
    gateway.result("panic")
    cuts = [subscriber.message() for _ in range(2)]
    assert [(header.what, header.note_id, data) for _, header, data in cuts] == [
        ("cut", 1, bytes((0x82, 60, 0))),
        ("cut", 2, bytes((0x82, 64, 0))),
    ]
    assert all(before_ns <= header.due_ns <= header.sent_ns for _, header, _ in cuts)


def test_what_was_decided_before_a_panic_and_comes_after_it_is_not_told(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.session.input_ring.span[1] = 4800
    panicked = gateway.result("panic")["frame"]
    assert panicked == 4800
    gateway.say("performer", note(gateway, 1, available_frame=panicked - 1))
    gateway.say("performer", note(gateway, 2, available_frame=panicked, pitch=61))
    assert subscriber.told(2) == [("on", 2), ("off", 2)]


def test_a_note_that_the_midi_role_ends_before_its_time_is_cut(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1))
    subscriber.told(2)
    gateway.say("midi", events.NoteOff(0, 0, 1, 60, 2, time.monotonic_ns(), time.monotonic_ns()))
    assert subscriber.told(1) == [("cut", 1)]


def test_a_note_that_ends_in_its_time_or_at_a_port_that_is_ahead_is_not(make: Make) -> None:
    gateway = make(midi=Midi(ports={"piano": MidiPort(offset_s=-0.3)})).started()
    gateway.session.clock.publish(0.0, time.monotonic(), RATE, 0.0)
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1))
    (_, on, _), _ = subscriber.message(), subscriber.message()
    off_ns = on.due_ns + on.duration_ns - 300 * MS
    gateway.say("midi", events.NoteOff(0, 0, 1, 60, 2, off_ns, off_ns))
    gateway.say("performer", note(gateway, 2, pitch=61))
    assert subscriber.told(2) == [("on", 2), ("off", 2)]


def test_the_death_of_the_midi_role_takes_back_everything(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1))
    subscriber.told(2)
    gateway.session.role("midi")[STATE] = STARTING  # as the supervisor writes when it finds it dead
    assert subscriber.told(1) == [("cut", 1)]
    gateway.say("performer", note(gateway, 2, pitch=61))  # nobody plays it here
    assert subscriber.nothing_until_the_second_heartbeat()
    gateway.session.role("midi")[STATE] = UP
    gateway.say("performer", note(gateway, 3, pitch=62))
    assert subscriber.told(2) == [("on", 3), ("off", 3)]


def test_the_end_of_the_gateway_takes_back_everything(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1, duration=60 * RATE))
    subscriber.told(2)
    gateway.stop()
    assert subscriber.told(1) == [("cut", 1)]


def test_notes_wait_for_the_clock_but_for_those_by_hand(make: Make) -> None:
    gateway = make().started()
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", events.Note(4800, 0, 1, 60, 72, 4800, 0))
    gateway.say("midi", events.Note(0, 0, -1, 61, 72, 4800, 0, "command"))
    _, on, _ = subscriber.message()
    assert (on.note_id, on.duration_ns) == (-1, 100 * MS)
    assert abs(time.monotonic_ns() - on.due_ns) < PATIENCE_S * 1e9
    subscriber.message()
    gateway.session.clock.publish(0.0, time.monotonic(), RATE, 0.0)
    assert subscriber.told(2) == [("on", 1), ("off", 1)]


def test_who_comes_later_hears_nothing_of_notes_told_before(gateway: Gateway) -> None:
    first = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1))
    first.told(2)
    second = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 2, pitch=61))
    assert second.message()[1].sequence == 3
    assert gateway.result("snapshot")["sequences"]["midi.performer"] == 4


def test_when_the_last_has_gone_nothing_is_kept(gateway: Gateway) -> None:
    subscriber = Raw(gateway, "midi.")
    gateway.say("performer", note(gateway, 1))
    subscriber.told(2)
    subscriber.socket.close(0)
    watcher = gateway.subscribe("note")

    def unheard() -> bool:
        """A note that nobody was told of as raw MIDI."""
        before = gateway.result("snapshot")["sequences"]["midi.performer"]
        gateway.say("performer", note(gateway, 2, pitch=61))
        watcher.next("note")
        return gateway.result("snapshot")["sequences"]["midi.performer"] == before

    until(unheard, "the gateway to find out")
    again = Raw(gateway, "midi.")
    gateway.result("panic")
    gateway.say("performer", note(gateway, 3, available_frame=10**6, pitch=62))
    assert again.told(2) == [("on", 3), ("off", 3)]


def test_a_peer_cannot_fill_the_memory_with_topics_that_are_none(gateway: Gateway) -> None:
    many = gateway.subscribe(*(f"midi.{i}" for i in range(600)), "note")
    one = Raw(gateway, "midi.performer")
    gateway.say("performer", note(gateway, 1))
    many.next("note")
    assert one.told(2) == [("on", 1), ("off", 1)]


def test_raw_midi_that_is_none_is_refused() -> None:
    header = p.Header(1, "b", 1, 1, 0, 0, 0, 5)
    from rtserver.wire.rawmidi import RawNotes

    raw = RawNotes().take(events.Note(0, 0, 1, 60, 72, 10, 0), 5, 10, 0)[0]
    frames = p.encode_raw(raw, header)
    assert p.decode_raw(frames)[1:] == (p.RawHeader(1, "b", 1, 1, 0, 0, 0, 5, 1, 5, "on"), bytes((0x90, 60, 72)))
    for wrong in ([b"note", *frames[1:]], [frames[0], b"\xc0", frames[2]], [*frames[:2], b""], [*frames[:2], b"\x10\x10"], frames[:2]):
        with pytest.raises(p.ProtocolError):
            p.decode_raw(wrong)
