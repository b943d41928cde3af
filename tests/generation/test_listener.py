"""What is heard of the player: keys or sound, and the notes of a phrase."""

import math

import numpy as np
import pytest

from rtserver.errors import ConfigError
from rtserver.generation.listener import MOST_HEARD, Listener, Phrase
from rtserver.generation.vocabulary import NoteEvent

C = np.eye(12)[0]
D = np.eye(12)[2]


def test_until_a_key_is_struck_the_sound_counts_and_then_the_keys() -> None:
    listener = Listener()
    listener.chroma(C)
    listener.advance(24.0)
    assert listener.condition()[:12].argmax() == 0
    listener.key(62, True)
    listener.chroma(C)
    listener.advance(1000.0)
    assert listener.condition()[:12].argmax() == D.argmax()


def test_of_a_sound_what_stands_above_its_mean_counts() -> None:
    listener = Listener("sound")
    listener.chroma(np.full(12, 0.3) + 0.6 * C)
    listener.advance(24.0)
    np.testing.assert_allclose(listener.condition()[:12], C, atol=1e-6)


def test_keys_alone_can_be_listened_to() -> None:
    listener = Listener("keys")
    listener.chroma(C)
    listener.advance(24.0)
    assert not listener.anything


def test_the_sound_alone_can_be_listened_to() -> None:
    listener = Listener("sound")
    assert not listener.key(62, True)
    assert not listener.sounding


def test_silence_is_counted_from_when_the_last_key_came_up() -> None:
    listener = Listener()
    assert listener.quiet_since == -math.inf
    listener.key(60, True)
    listener.key(64, True)
    listener.advance(10.0)
    listener.key(60, False)
    assert listener.sounding
    listener.advance(20.0)
    listener.key(64, False)
    assert not listener.sounding
    listener.advance(30.0)
    assert listener.quiet_since == 20.0


def test_a_sound_that_is_not_loud_is_silence() -> None:
    listener = Listener()
    listener.chroma(C, loud=True)
    listener.advance(10.0)
    listener.chroma(C * 0.0, loud=False)
    assert (listener.sounding, listener.quiet_since) == (False, 10.0)


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="listen"):
        Listener("eyes")


def test_a_phrase_is_told_as_events_and_forgotten() -> None:
    phrase = Phrase()
    phrase.key(10, 60, True)
    phrase.key(34, 60, False)
    phrase.key(34, 64, True)
    assert phrase.take(40) == (10, [NoteEvent(0, 60, 24), NoteEvent(24, 64, 6)])
    assert phrase.take(50) == (50, [])


def test_a_phrase_goes_with_the_clock() -> None:
    phrase = Phrase()
    phrase.key(10, 60, True)
    phrase.shift(100)
    assert phrase.take(120) == (110, [NoteEvent(0, 60, 10)])


def test_a_key_struck_twice_is_two_notes() -> None:
    phrase = Phrase()
    phrase.key(0, 60, True)
    phrase.key(12, 60, True)
    assert phrase.take(24)[1] == [NoteEvent(0, 60, 12), NoteEvent(12, 60, 12)]


def test_a_phrase_without_end_is_remembered_by_its_end() -> None:
    """A flood of keys neither grows nor slows it."""
    phrase = Phrase()
    for n in range(5000):
        phrase.key(6 * n, n % 128, True)
        phrase.key(6 * n + 3, n % 128, False)
    assert len(phrase.notes) == MOST_HEARD
    first, notes = phrase.take(30000)
    assert first == 6 * (5000 - MOST_HEARD)
    assert notes[-1] == NoteEvent(6, 4999 % 128, 3)
    assert not phrase
