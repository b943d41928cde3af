from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.midi.messages import unglue, well_formed

data = st.integers(0, 127)
channel_messages = st.one_of(
    st.tuples(st.sampled_from((0x80, 0x90, 0xA0, 0xB0, 0xE0)), st.integers(0, 15), data, data).map(lambda m: bytes((m[0] | m[1], *m[2:]))),
    st.tuples(st.sampled_from((0xC0, 0xD0)), st.integers(0, 15), data).map(lambda m: bytes((m[0] | m[1], m[2]))),
)


@given(channel_messages)
def test_a_whole_channel_message_is_one(message):
    assert well_formed(message)


@given(channel_messages, st.data())
def test_one_cut_short_or_with_a_byte_too_many_is_none(message, draw):
    n = draw.draw(st.integers(0, len(message) - 1))
    assert not well_formed(message[:n])
    assert not well_formed(message + b"\x00")
    assert not well_formed(message[1:]), "running status"


@pytest.mark.parametrize(
    ("message", "is_one"),
    [
        (b"\xf0\x7e\x7f\x06\x01\xf7", True),
        (b"\xf0\xf7", True),
        (b"\xf0\x7e\x7f", False),
        (b"\xf0\x90\x40\x40\xf7", False),
        (b"\xf0", False),
        (b"\xf7", False),
        (b"\xf1\x10", True),
        (b"\xf2\x10\x20", True),
        (b"\xf2\x10", False),
        (b"\xf8", True),
        (b"\xf8\xf8", False),
        (b"\xfe", True),
        (b"\xf4", False),
        (b"\xf9", False),
        (b"\x90\x80\x40", False),
        (b"\x90\x40\xff", False),
        (b"", False),
    ],
)
def test_what_is_a_message_and_what_is_none(message, is_one):
    assert well_formed(message) == is_one


@given(st.binary(max_size=6))
def test_any_bytes_get_an_answer(message):
    assert well_formed(message) in (True, False)


@pytest.mark.parametrize(
    ("glued", "pieces"),
    [
        (b"\xf0\x01\x02\xf7", [b"\xf0\x01\x02\xf7"]),
        (b"\x90\x3c\x40", [b"\x90\x3c\x40"]),
        (b"\xf0\x01\x90\x3c\x40\x80\x3c\x00\xf7", [b"\xf0\x01", b"\x90\x3c\x40", b"\x80\x3c\x00"]),
        (b"\xf0\xf7", [b"\xf0\xf7"]),
        (b"\xf0\xf8\xf7", [b"\xf0", b"\xf8"]),
    ],
)
def test_what_was_taken_for_more_of_an_exclusive_message_is_taken_apart(glued, pieces):
    assert unglue(glued) == pieces


@given(st.binary(max_size=12))
def test_nothing_is_lost_or_made_up_when_it_is_taken_apart(message):
    joined = b"".join(unglue(message))
    assert joined in (message, message.removesuffix(b"\xf7"))
