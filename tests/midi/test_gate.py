from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtserver.midi.gate import MAX_SIZE, Bucket, Gate

CC, NOTE_ON, NOTE_OFF, NOTE_ON_0, TICK = b"\xb0\x07\x40", b"\x90\x3c\x40", b"\x80\x3c\x00", b"\x90\x3c\x00", b"\xf8"


@given(st.lists(st.integers(0, 20_000_000), min_size=1, max_size=300), st.integers(10, 1000), st.integers(1, 50))
def test_a_bucket_lets_no_more_pass_than_its_rate_and_its_burst(gaps_ns, rate, burst):
    bucket, now_ns = Bucket(rate, burst), 0
    passed = 0
    for gap in gaps_ns:
        now_ns += gap
        passed += bucket.take(now_ns)
    assert passed <= burst + rate * now_ns * 1e-9 + 1e-6


def test_what_is_slower_than_the_rate_always_passes():
    gate = Gate(rate=1000.0, burst=10.0)
    assert all(gate.passes(i * 2_000_000, CC) for i in range(1000))
    assert gate.refused == 0


def test_a_flood_is_cut_and_counted():
    gate = Gate(rate=1000.0, burst=100.0)
    passed = sum(gate.passes(i * 100_000, CC) for i in range(10_000))  # 10 000 in a second
    assert 1000 <= passed <= 1100
    assert gate.refused == 10_000 - passed


def test_a_flood_of_controllers_leaves_no_key_down_and_no_hole_in_the_clock():
    gate = Gate(rate=100.0, burst=10.0)
    while gate.passes(0, CC):
        pass
    assert not gate.passes(0, NOTE_ON)
    assert gate.passes(0, NOTE_OFF)
    assert gate.passes(0, NOTE_ON_0)
    assert gate.passes(0, TICK)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=400))
def test_no_flood_leaves_a_key_down_that_was_let_go(played):
    """A burst of 20 at most, all at one moment: what passes of it is a keyboard on which every release was heard."""
    gate, down, wanted = Gate(rate=1.0, burst=20.0), set(), set()
    for pitch, press in played:
        if gate.passes(0, bytes((0x90, 60 + pitch, 64 * press))):
            (down.add if press else down.discard)(pitch)
        (wanted.add if press else wanted.discard)(pitch)
        assert down <= wanted


def test_what_is_no_message_is_refused_and_counted():
    gate = Gate()
    odd = [b"\x3c\x40", b"\x90\x3c", b"\x90\xc0\x40", b"\xf0\x01", b"\xf9", b""]
    assert not any(gate.passes(0, message) for message in odd)
    assert gate.refused == len(odd)


@given(st.lists(st.binary(max_size=200), max_size=50))
def test_any_bytes_pass_or_are_counted(messages):
    gate = Gate()
    assert sum(gate.passes(0, message) for message in messages) + gate.refused == len(messages)


def test_what_does_not_fit_into_an_event_is_refused():
    gate = Gate()
    assert gate.passes(0, b"\xf0" + bytes(MAX_SIZE - 2) + b"\xf7")
    assert not gate.passes(0, b"\xf0" + bytes(MAX_SIZE - 1) + b"\xf7")
    assert not gate.passes(0, b"")
    assert gate.refused == 2
