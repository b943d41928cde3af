from __future__ import annotations

import pytest

from rtserver.config import Config, Midi, parse
from rtserver.config.midi import MidiPort, ports_of
from rtserver.errors import ConfigError


def test_without_names_there_is_one_port_for_everything():
    config = parse({"midi": {"connect": ["synth"], "program": 5}, "generation": {"channel": 2}})
    assert ports_of(config) == {"": MidiPort(connect=["synth"], programs={"2": 5}, input=True)}


def test_named_ports_stand_for_themselves():
    ports = {"lead": MidiPort(connect=["synth"]), "keys": MidiPort(output=False, input=True)}
    assert ports_of(Config(midi=Midi(ports=ports))) == ports


@pytest.mark.parametrize(
    ("midi", "says"),
    [
        ({"ports": {"lead": {"chanels": {}}}}, "midi.ports.lead.chanels: unknown key; did you mean 'channels'"),
        ({"ports": {"lead": {"offset_s": "x"}}}, "midi.ports.lead.offset_s: Expected `float`"),
        ({"ports": {"lead": {"offset_s": 2.0}}}, "midi.ports.lead.offset_s: expected -0.5 to 0.5, got 2"),
        ({"ports": {"a b": {}}}, "midi.ports.a b: expected a name"),
        ({"ports": {"standby": {}}}, "midi.ports.standby: this name belongs"),
        ({"ports": {"a": {"output": False}}}, "midi.ports.a: neither output nor input"),
        ({"ports": {"a": {"programs": {"17": 1}}}}, "midi.ports.a.programs: expected channels 1 to 16"),
        ({"ports": {"a": {"channels": {"1": 0}}}}, "midi.ports.a.channels.1: expected 1 to 16, got 0"),
        ({"ports": {str(i): {} for i in range(9)}}, "midi.ports: expected at most 8"),
        ({"program": 3, "ports": {"a": {}}}, r"midi.program: where ports have names, write it into \[midi.ports.a\] as programs"),
        ({"connect": ["x"], "ports": {"a": {}}}, "midi.connect: where ports have names"),
        ({"program": 128}, "midi.program: expected 0 to 127"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(midi, says):
    with pytest.raises(ConfigError, match=says):
        parse({"midi": midi})
