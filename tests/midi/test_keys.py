from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtserver.midi.gate import Gate
from rtserver.midi.keys import KeysDown
from rtserver.midi.messages import well_formed

messages = st.one_of(
    st.tuples(st.sampled_from((0x80, 0x90)), st.integers(0, 15), st.integers(0, 127), st.integers(0, 127)),
    st.tuples(st.just(0xB0), st.integers(0, 15), st.integers(60, 72), st.integers(0, 127)),
).map(lambda m: bytes((m[0] | m[1], m[2], m[3])))


def table() -> KeysDown:
    return KeysDown(np.zeros((16, 128), np.uint8))


def test_what_is_down_is_let_go_of_once():
    keys = table()
    for message in (b"\x90\x3c\x40", b"\x93\x40\x01", b"\xb0\x40\x7f", b"\x90\x3e\x40", b"\x80\x3e\x40", b"\x90\x3c\x00", b"\x90\x3c\x50"):
        keys.take(message)
    assert keys.let_go() == [b"\x80\x3c\x00", b"\xb0\x40\x00", b"\x83\x40\x00"]
    assert keys.let_go() == []


def test_a_key_and_the_pedal_of_its_number_are_two_things():
    keys = table()
    keys.take(b"\x90\x40\x40")
    keys.take(b"\xb0\x40\x7f")
    keys.take(b"\x80\x40\x00")
    assert keys.let_go() == [b"\xb0\x40\x00"]


def test_a_controller_that_is_no_switch_stays_where_it_is():
    keys = table()
    keys.take(b"\xb0\x07\x7f")
    assert keys.let_go() == []


@given(st.lists(messages, max_size=60))
def test_after_what_it_says_nothing_is_down_whatever_came_before(came):
    keys, down = table(), set()
    for message in came:
        keys.take(message)
    said = keys.let_go()
    for message in [*came, *said]:
        assert well_formed(message)
        kind, channel, number, value = message[0] & 0xF0, message[0] & 15, message[1], message[2]
        what = ("pedal" if kind == 0xB0 else "key", channel, number)
        pressed = value > 0 if kind == 0x90 else kind == 0xB0 and number in range(64, 70) and value >= 64
        (down.add if pressed else down.discard)(what)
    assert not down
    assert not keys.cells.any()


@given(st.lists(st.one_of(messages, st.binary(max_size=6)), max_size=30))
def test_any_bytes_that_the_gate_passes_are_taken(came):
    gate, keys = Gate(), table()
    for message in came:
        if gate.passes(0, message):
            keys.take(message)
    keys.let_go()
    assert not keys.cells.any()
