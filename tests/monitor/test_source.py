"""The monitor's picture of a real gateway."""

from __future__ import annotations

from gateway_process import Gateway, position, until

from rtserver.monitor.source import Source
from rtserver.shared.histogram import HopTimes
from rtserver.wire.client import Client


def test_the_picture_has_what_the_server_says(gateway: Gateway) -> None:
    HopTimes(gateway.session.block).claim("stft").add(250_000)
    source = Source(Client(gateway.config.wire.control, "monitor"))
    try:
        # A subscription takes a moment to hold: say it until it is heard.
        def told() -> bool:
            gateway.say("follower", position(4800))
            return source.look(0.05).position is not None

        until(told, "a position")
        picture = source.picture.to_json()
    finally:
        source.close()
    assert picture["server"] == gateway.config.name
    assert picture["position"]["quarter"] == 48.0
    assert picture["hop_times"]["stft"]["count"] == 1
    assert picture["roles"]["gateway"]["state"] == "up"
    assert "monitor" in picture["clients"]


def test_a_server_that_dies_becomes_silent_and_nothing_else(gateway: Gateway) -> None:
    source = Source(Client(gateway.config.wire.control, "monitor"))
    source.client.timeout_s = 0.1
    try:
        until(lambda: source.look(0.05).notes == [] and source.picture.silent_s < 0.2, "a heartbeat")
        gateway.kill()
        until(lambda: source.look(0.1).silent_s > 0.5, "silence")
    finally:
        source.close()
