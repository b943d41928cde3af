from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.config import parse
from rtserver.errors import ConfigError
from rtserver.midi.mapping import Action, Mapping

PANIC = Action("panic", None, ("midi", "performer"), False)


def mapping(**rules) -> Mapping:
    return Mapping(parse({"midi": {"map": rules}}))


def test_a_pedal_acts_once_when_it_is_pressed():
    m = mapping(panic={"message": "cc", "number": 64, "command": "panic"})
    values = [0, 30, 63, 64, 100, 127, 80, 63, 0, 127]
    assert [bool(m.take("midi_in", bytes((0xB0, 64, v)))) for v in values] == [v == 1 for v in (0, 0, 0, 1, 0, 0, 0, 0, 0, 1)]
    assert m.take("midi_in", bytes((0xB0, 64, 0))) == []
    assert m.take("midi_in", bytes((0xB0, 64, 127))) == [PANIC]
    assert m.take("midi_in", bytes((0xB0, 65, 127))) == []


def test_a_pedal_may_act_when_it_is_released():
    m = mapping(panic={"message": "cc", "number": 64, "command": "panic", "edge": "release", "threshold": 20})
    assert [m.take("midi_in", bytes((0xB0, 64, v))) for v in (0, 25, 19, 0)] == [[], [], [PANIC], []]


def test_keys_and_programs_and_transport():
    m = mapping(
        a={"message": "note", "number": 36, "channel": 10, "command": "seek", "value": 16},
        b={"message": "pc", "number": 3, "command": "reset"},
        c={"message": "start", "command": "seek", "value": 0},
        d={"message": "note", "number": 37, "command": "song", "value": "next"},
    )
    seek = Action("seek", 16.0, ("follower",), False)
    assert m.take("midi_in", bytes((0x99, 36, 1))) == [seek], "at any velocity"
    assert m.take("midi_in", bytes((0x99, 36, 0))) == []
    assert m.take("midi_in", bytes((0x99, 36, 90))) == [seek], "a velocity of 0 was its release"
    assert m.take("midi_in", bytes((0x89, 36, 0))) == []
    assert m.take("midi_in", bytes((0x90, 36, 90))) == [], "another channel"
    assert m.take("midi_in", bytes((0xC5, 3))) == [Action("reset", None, ("engine", "follower", "performer"), False)]
    assert m.take("midi_in", bytes((0x90, 37, 90))) == [Action("song", "next", ("supervisor",), False)]
    assert m.take("midi_in", b"\xfa") == [Action("seek", 0.0, ("follower",), False)]


def test_a_parameter_follows_a_controller_over_its_range():
    m = mapping(
        level={"message": "cc", "number": 7, "parameter": "outputs.harmonic.gain_db", "low": -60, "high": 6},
        warmth={"message": "pitch_bend", "parameter": "generation.temperature"},
        mute={"message": "cc", "number": 8, "parameter": "outputs.harmonic.mute"},
    )
    (action,) = m.take("midi_in", bytes((0xB0, 7, 127)))
    assert action == Action("outputs.harmonic.gain_db", 6.0, ("engine",), True)
    assert m.take("midi_in", bytes((0xB0, 7, 127))) == [], "it is there already"
    assert m.take("midi_in", bytes((0xB0, 7, 0)))[0].value == -60.0
    assert m.take("midi_in", bytes((0xE0, 0, 0)))[0].value == pytest.approx(0.01)
    assert m.take("midi_in", bytes((0xE0, 127, 127)))[0].value == pytest.approx(5.0)
    assert [m.take("midi_in", bytes((0xB0, 8, v)))[0].value for v in (127, 0)] == [True, False]


def test_a_value_is_set_at_a_press():
    m = mapping(go={"message": "note", "number": 60, "parameter": "generation.scale", "value": "C minor"})
    assert m.take("midi_in", bytes((0x90, 60, 1))) == [Action("generation.scale", "C minor", ("performer",), True)]
    assert m.take("midi_in", bytes((0x80, 60, 0))) == []


@pytest.mark.parametrize(("value", "n_bars"), [({}, None), ({"value": 2}, 2.0)])
def test_a_pedal_counts_in(value, n_bars):
    m = mapping(count={"message": "cc", "number": 64, "command": "count_in", **value})
    assert m.take("midi_in", bytes((0xB0, 64, 127))) == [Action("count_in", n_bars, ("performer",), False)]


def test_a_pedal_that_has_gone_is_not_pressed_when_it_is_back():
    m = mapping(panic={"message": "cc", "number": 20, "command": "panic"})
    press = bytes((0xB0, 20, 127))
    assert m.take("midi_in", press) == [PANIC]
    m.forget("other")
    assert m.take("midi_in", press) == [], "it is down already"
    m.forget("midi_in")
    assert m.take("midi_in", press) == [PANIC]


def test_rules_are_bound_to_ports():
    config = parse(
        {
            "midi": {
                "ports": {"keys": {"input": True}, "pedals": {"input": True}},
                "map": {"stop": {"message": "cc", "number": 64, "port": "pedals", "command": "panic"}},
            }
        }
    )
    m = Mapping(config)
    assert m.take("keys", bytes((0xB0, 64, 127))) == []
    assert m.take("pedals", bytes((0xB0, 64, 127))) == [PANIC]


def test_a_rule_moves_the_parameter_of_the_song_that_plays_and_none_where_it_has_none():
    rules = {
        "level": {"message": "cc", "number": 7, "parameter": "outputs.click.gain_db"},
        "off": {"message": "cc", "number": 9, "parameter": "outputs.click.mute", "value": True},
    }
    click = {"click": {"source": "dry", "channels": [1]}}
    with_click = parse({"midi": {"map": rules}, "outputs": click}, with_map=False)
    without = parse({"midi": {"map": rules}}, with_map=False)
    m = Mapping(without)
    full, pedal = bytes((0xB0, 7, 127)), bytes((0xB0, 9, 127))
    assert m.take("midi_in", full) == m.take("midi_in", pedal) == []
    m.take("midi_in", bytes((0xB0, 9, 0)))
    m.take_song(with_click)
    level = Action("outputs.click.gain_db", 24.0, ("engine",), True)
    assert m.take("midi_in", full) == [level]
    assert m.take("midi_in", pedal) == [Action("outputs.click.mute", True, ("engine",), True)]
    m.take_song(without)
    m.take_song(with_click)
    assert m.take("midi_in", full) == [level], "each song has values of its own"


@given(st.lists(st.binary(min_size=1, max_size=6), max_size=50))
def test_no_message_is_too_odd(messages):
    m = mapping(
        a={"message": "cc", "number": 64, "command": "panic"},
        b={"message": "note", "command": "panic"},
        c={"message": "pc", "command": "panic"},
        d={"message": "pitch_bend", "parameter": "generation.temperature"},
        e={"message": "continue", "command": "reset"},
    )
    for message in messages:
        for action in m.take("midi_in", message):
            assert action.name in {"panic", "reset", "generation.temperature"}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"message": "cc", "command": "panic"}, "midi.map.x.number: expected the number"),
        ({"message": "cc", "number": 128, "command": "panic"}, "midi.map.x.number: expected 0 to 127"),
        ({"message": "sysex", "command": "panic"}, "midi.map.x.message: Invalid enum value 'sysex'"),
        ({"message": "start", "command": "panik"}, "midi.map.x.command: unknown command 'panik'; did you mean 'panic'"),
        ({"message": "start", "command": "panic", "value": 3}, "midi.map.x.value: panic takes no value"),
        ({"message": "start", "command": "seek"}, "midi.map.x.value: seek takes a quarter or a place, got None"),
        ({"message": "start", "command": "note", "value": ""}, "midi.map.x.value: note takes a text"),
        ({"message": "start", "command": "count_in", "value": 9}, "midi.map.x.value: count_in takes a number of bars from 1 to 8"),
        ({"message": "start", "command": "count_in", "value": 1.5}, "midi.map.x.value: count_in takes a number of bars from 1 to 8"),
        ({"message": "start", "command": "count_in", "value": "two"}, "midi.map.x.value: count_in takes a number of bars from 1 to 8"),
        ({"message": "start", "command": "panic", "low": 0}, "midi.map.x.low: only a number"),
        ({"message": "start"}, "midi.map.x: expected either command or parameter"),
        ({"message": "start", "command": "panic", "parameter": "x"}, "midi.map.x: expected either"),
        ({"message": "start", "command": "panic", "port": "pedal"}, "midi.map.x.port: no input port 'pedal'"),
        ({"message": "start", "parameter": "generation.mood"}, "midi.map.x.parameter: unknown parameter 'generation.mood'; did you mean"),
        ({"message": "start", "parameter": "generation.mode", "value": "sing"}, "midi.map.x.value: generation.mode: expected one of"),
        ({"message": "start", "parameter": "generation.top_p"}, "midi.map.x.value: a message of the kind 'start' has no value"),
        ({"message": "cc", "number": 1, "parameter": "generation.scale"}, "midi.map.x.value: generation.scale is a word"),
        ({"message": "cc", "number": 1, "parameter": "generation.top_p", "high": 3}, "midi.map.x.high: generation.top_p: expected"),
        ({"message": "cc", "number": 1, "comand": "panic"}, "midi.map.x.comand: unknown key; did you mean 'command'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(rule, says):
    with pytest.raises(ConfigError, match=says):
        parse({"midi": {"map": {"x": rule}}})
