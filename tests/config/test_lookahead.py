"""How early notes must be known for every sink to have them in time."""

from __future__ import annotations

import pytest

from rtserver.config import Config, Wire, parse
from rtserver.config.lookahead import lookahead_s, lookaheads_s
from rtserver.errors import ConfigError


def test_network_clients_need_what_is_set_and_a_local_port_nothing() -> None:
    assert lookaheads_s(parse({"wire": {"lookahead_s": 0.05}})) == {"wire": 0.05, "midi": 0.0}


def test_the_default_is_twenty_milliseconds() -> None:
    assert lookahead_s(Config()) == 0.02


def test_without_a_wire_nobody_needs_it() -> None:
    assert lookahead_s(Config(wire=Wire(enabled=False, lookahead_s=0.5))) == 0.0


def test_a_port_that_is_ahead_needs_as_much() -> None:
    ports = {"ahead": {"offset_s": -0.1}, "behind": {"offset_s": 0.3}}
    config = parse({"midi": {"ports": ports}})
    assert lookaheads_s(config) == {"wire": 0.02, "midi.ahead": 0.1, "midi.behind": 0.0}
    assert lookahead_s(config) == 0.1


def test_a_port_that_only_listens_needs_none() -> None:
    ports = {"keys": {"output": False, "input": True, "offset_s": -0.4}}
    assert lookaheads_s(parse({"midi": {"ports": ports}})) == {"wire": 0.02}


@pytest.mark.parametrize("value", [-0.001, 1.001])
def test_more_than_a_second_or_less_than_nothing_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"wire.lookahead_s: expected 0 to 1, got"):
        parse({"wire": {"lookahead_s": value}})
