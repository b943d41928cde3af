"""Whatever a keyboard sends, the accompanist neither raises nor plays what it may not: simulated time, any bytes, any order."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtserver.events import MidiIn, Note
from rtserver.generation.constraints import Constraints
from rtserver.generation.hands import LONGEST_S, SHORTEST_S
from rtserver.generation.modes import MODES, Accompanist
from rtserver.generation.performer import Performer
from rtserver.midi.gate import Gate
from rtserver.transport import Transport

RATE, BLOCK, HORIZON = 48000, 480, 2400
LIMITS = Constraints("C major", 48, 84, 3, grid=6)

bytes_of_any_kind = st.one_of(
    st.binary(max_size=6),
    st.builds(
        lambda kind, pitch, velocity: bytes((kind, pitch, velocity)),
        st.sampled_from((0x80, 0x90, 0x9F)),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
)


@pytest.fixture(scope="module")
def performer() -> Performer:
    return Performer(seed=3)


def accompanist_of(performer: Performer, mode: str) -> Accompanist:
    accompanist = Accompanist(performer, Transport(RATE, 240.0), mode, constraints=LIMITS)
    accompanist.transport.start(0)
    return accompanist


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(played=st.lists(st.tuples(st.integers(0, 40), bytes_of_any_kind), max_size=25))
def test_any_bytes(performer: Performer, mode: str, played: list[tuple[int, bytes]]) -> None:
    accompanist, notes, frame = accompanist_of(performer, mode), list[Note](), 0
    for blocks, data in [*played, (100, b"")]:
        accompanist.hear_midi(MidiIn(frame, frame, "midi_in", data))
        if not data:  # at the end the player lets go of whatever it was, so that who waits for him has a turn
            for pitch in range(256):
                accompanist.hear_midi(MidiIn(frame, frame, "midi_in", bytes((0x80, pitch, 0))))
        for _ in range(blocks):
            accompanist.advance(frame, HORIZON, lambda e: notes.append(e) if isinstance(e, Note) else None)
            frame += BLOCK
    for note in notes:
        assert 48 <= note.pitch <= 84
        assert 1 <= note.velocity <= 127
        assert SHORTEST_S * RATE - 1 <= note.duration <= LONGEST_S * RATE + 1, "born with its release"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(played=st.lists(st.tuples(st.integers(0, 4), bytes_of_any_kind), max_size=60))
def test_what_the_gate_passes_and_the_keyboard_lets_go_of_leaves_no_key_down(performer: Performer, played: list[tuple[int, bytes]]) -> None:
    accompanist, gate, frame = accompanist_of(performer, "continue"), Gate(rate=100.0, burst=5.0), 0
    for blocks, data in played:
        frame += blocks * BLOCK
        if gate.passes(frame * 20_833, data):
            accompanist.hear_midi(MidiIn(frame, frame, "midi_in", data))
    for pitch in range(128):
        accompanist.hear_midi(MidiIn(frame, frame, "midi_in", bytes((0x80, pitch, 0))))
    assert not accompanist.listener.keys
