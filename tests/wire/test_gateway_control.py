"""Requests to the real gateway process over its control socket, and what they do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from gateway_process import PATIENCE_S, Gateway, until

from rtserver import events
from rtserver.config import Click, Cue, Cues, Generation
from rtserver.demo import SCORE
from rtserver.following.score import load_score
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire.parameters import EFFECT_S

Make = Callable[..., Gateway]


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    return shared_gateway


def taken_by(gateway: Gateway, role: str) -> list[Any]:
    """What `role` finds in its ring."""
    return until(lambda: gateway.session.receive(role), f"something for {role}")


def test_a_set_reaches_its_role_and_all_subscribers(gateway: Gateway) -> None:
    subscriber = gateway.subscribe("param")
    result = gateway.result("set", name="outputs.harmonic.gain_db", value=-6)
    (event,) = taken_by(gateway, "engine")
    assert isinstance(event, events.Param)
    assert (event.name, event.value, event.frame) == ("outputs.harmonic.gain_db", -6.0, result["frame"])
    assert subscriber.next("param")[1] == event
    assert gateway.result("get", name="outputs.harmonic.gain_db") == {"values": {"outputs.harmonic.gain_db": -6.0}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generation.temperature", 1.5),
        ("generation.top_p", 0.5),
        ("generation.mode", "continue"),
        ("generation.scale", "C major"),
        ("generation.enabled", False),
        ("click.enabled", True),
        ("click.subdivision", 3.0),
    ],
)
def test_the_performer_is_told_its_parameters(gateway: Gateway, name: str, value: object) -> None:
    gateway.result("set", name=name, value=value)
    assert [(event.name, event.value) for event in taken_by(gateway, "performer")] == [(name, value)]


@pytest.mark.parametrize(
    ("name", "value", "code", "words"),
    [
        ("outputs.harmonic.gain_bd", 0, "unknown_name", "did you mean 'outputs.harmonic.gain_db'?"),
        ("outputs.harmonic.gain_db", 25, "out_of_range", "-120 to 24, got 25"),
        ("outputs.harmonic.gain_db", True, "bad_argument", "expected a number"),
        ("outputs.harmonic.mute", 1, "bad_argument", "expected true or false"),
        ("generation.mode", "dance", "out_of_range", "accompany, continue"),
        ("generation.scale", "H major", "out_of_range", "tonic"),
        ("generation.scale", 3, "bad_argument", "expected a word"),
    ],
)
def test_a_wrong_set_is_refused_with_the_remedy(gateway: Gateway, name: str, value: object, code: str, words: str) -> None:
    error = gateway.refused("set", name=name, value=value)
    assert error.code == code
    assert words in error.message


def test_a_refused_set_reaches_nobody(gateway: Gateway) -> None:
    gateway.refused("set", name="outputs.harmonic.gain_db", value=99)
    assert gateway.session.receive("engine") == []


@pytest.mark.parametrize(
    ("op", "arguments", "roles", "value"),
    [
        ("panic", {}, ["midi", "performer"], None),
        ("reset", {}, ["engine", "follower", "performer"], None),
        ("seek", {"quarter": 12.5}, ["follower"], 12.5),
        ("start_at", {"quarter": 4}, ["follower"], 4.0),
        ("tap", {}, ["follower"], "bar"),
        ("tap", {"nearest": "beat"}, ["follower"], "beat"),
        ("untap", {}, ["follower"], None),
        ("loop", {"bars": "off"}, ["follower"], "off"),
        ("cue", {"action": "go"}, ["follower"], "go"),
        ("cue", {"action": "disarm", "name": ""}, ["follower"], "disarm"),
        ("count_in", {}, ["performer"], None),
        ("count_in", {"bars": 2}, ["performer"], 2.0),
        ("quit", {}, ["supervisor"], None),
    ],
)
def test_a_command_reaches_its_roles_alone(gateway: Gateway, op: str, arguments: dict[str, Any], roles: list[str], value: object) -> None:
    assert gateway.result(op, **arguments)["roles"] == roles
    for role in ("supervisor", "engine", "follower", "performer", "midi"):
        found = [(event.name, event.value) for event in gateway.session.receive(role)]
        assert found == ([(op, value)] if role in roles else [])


def test_where_only_the_click_is_on_the_network_is_unavailable(make: Make) -> None:
    gateway = make(generation=Generation(enabled=False), click=Click(enabled=True)).started()
    gateway.result("set", name="click.enabled", value=False)
    assert gateway.refused("set", name="generation.enabled", value=True).code == "unavailable"


def test_where_nobody_keeps_time_nobody_counts_in(make: Make) -> None:
    gateway = make(generation=Generation(enabled=False)).started()
    error = gateway.refused("count_in")
    assert (error.code, "click.enabled" in error.message) == ("unavailable", True)


def test_a_tap_says_when_it_came_and_takes_effect_later(gateway: Gateway) -> None:
    frame = gateway.result("tap")["frame"]
    (command,) = taken_by(gateway, "follower")
    assert (command.frame, command.available_frame) == (frame, frame - round(EFFECT_S * 48000))


@pytest.mark.parametrize(
    ("op", "arguments", "code", "words"),
    [
        ("seek", {}, "bad_argument", "either a quarter or a place"),
        ("seek", {"quarter": 1, "at": "bar 1"}, "bad_argument", "either a quarter or a place"),
        ("seek", {"at": "soon"}, "bad_argument", "expected for example 'bar 12'"),
        ("loop", {"bars": "bar 1"}, "bad_argument", "bar 5 to bar 8"),
        ("cue", {"action": "arm", "name": "x"}, "unknown_name", "no cue 'x'"),
        ("cue", {"action": "go", "name": "x"}, "bad_argument", "go takes no name"),
    ],
)
def test_what_the_follower_cannot_obey_is_refused(gateway: Gateway, op: str, arguments: dict[str, Any], code: str, words: str) -> None:
    error = gateway.refused(op, **arguments)
    assert (error.code, words in error.message) == (code, True)
    assert gateway.session.receive("follower") == []


def test_places_and_cues_are_looked_up_before_the_follower_is_told(make: Make, folder: Path) -> None:
    load_score(SCORE).to_npz(folder / "score")
    gateway = make(cues=Cues(cue=[Cue("lights", "bar 2")])).started()
    for op, arguments in (
        ("seek", {"at": "bar 2 beat 2"}),
        ("loop", {"bars": "bar 2 to bar 3"}),
        ("cue", {"action": "arm", "name": "lights"}),
    ):
        gateway.result(op, **arguments)
    assert [e.value for e in taken_by(gateway, "follower")] == ["bar 2 beat 2", "bar 2 to bar 3", "arm lights"]
    assert "no bar '999'" in gateway.refused("start_at", at="bar 999").message
    assert "did you mean 'lights'?" in gateway.refused("cue", action="disarm", name="light").message
    assert gateway.session.receive("follower") == []


def test_a_note_goes_to_midi_with_its_release(gateway: Gateway) -> None:
    result = gateway.result("note", pitch=60, velocity=99, duration_s=0.25, delay_s=0.5, channel=2)
    (note,) = taken_by(gateway, "midi")
    assert (note.pitch, note.velocity, note.channel, note.part) == (60, 99, 2, "client")
    assert note.duration == 12000
    assert note.frame == result["frame"] == note.available_frame + 24000
    assert note in taken_by(gateway, "follower"), "it is not the player's"


def test_a_note_for_a_port_that_is_not_there_is_refused(gateway: Gateway) -> None:
    error = gateway.refused("note", pitch=60, port="piano")
    assert (error.code, error.field) == ("unknown_name", "port")
    assert gateway.session.receive("midi") == []


def test_an_id_that_comes_twice_acts_once(gateway: Gateway) -> None:
    request = {"id": str(uuid.uuid4()), "op": "note", "pitch": 61}
    assert gateway.ask_raw(request) == gateway.ask_raw(request)
    assert len(taken_by(gateway, "midi")) == 1


def test_an_id_that_comes_with_another_request_is_refused(gateway: Gateway) -> None:
    request = {"id": str(uuid.uuid4()), "op": "note", "pitch": 61}
    gateway.ask_raw(request)
    reply = gateway.ask_raw(request | {"pitch": 62})
    assert reply.error is not None
    assert reply.error.code == "id_reused"
    assert [note.pitch for note in taken_by(gateway, "midi")] == [61]


def test_a_sync_waits_until_the_roles_have_taken_what_was_sent(gateway: Gateway) -> None:
    gateway.session.receive("follower")  # notes of clients, which it is told of
    gateway.result("set", name="outputs.percussive.gain_db", value=-1)
    gateway.control.send_multipart(p.encode_request(r.SyncRequest("sync-1")))
    assert not gateway.control.poll(200)
    taken_by(gateway, "engine")
    assert gateway.control.poll(int(PATIENCE_S * 1000))
    assert p.decode_reply(gateway.control.recv_multipart()).ok


def test_a_sync_names_the_role_that_does_not_listen(gateway: Gateway) -> None:
    gateway.result("set", name="outputs.percussive.gain_db", value=-2)
    error = gateway.refused("sync")
    gateway.session.receive("engine")
    assert error.code == "timeout"
    assert "engine" in error.message


def test_hello_names_the_server_and_what_it_offers(gateway: Gateway) -> None:
    hello = gateway.result("hello", versions=[1, 2], client="test")
    assert hello["version"] == 1
    assert hello["endpoints"]["events"] == gateway.config.wire.events
    assert hello["bulk_topics"] == ["audio.harmonic", "audio.percussive", "features"]
    assert hello["parameters"]["outputs.harmonic.gain_db"] == {"type": "float", "low": -120.0, "high": 24.0}


def test_hello_of_another_version_is_refused(gateway: Gateway) -> None:
    error = gateway.refused("hello", versions=[2, 3])
    assert error.code == "version"
    assert "2, 3" in error.message


def test_a_request_of_another_version_is_refused(gateway: Gateway) -> None:
    reply = gateway.ask_raw({"id": "a", "op": "ping"}, mark=b"RT2")
    assert reply.error is not None
    assert reply.error.code == "version"


def test_ping_answers_with_the_servers_clock(gateway: Gateway) -> None:
    before_ns = time.monotonic_ns()
    result = gateway.result("ping", sent_ns=before_ns)
    assert result["sent_ns"] == before_ns <= result["server_ns"] <= time.monotonic_ns()


def test_status_tells_of_roles_and_losses(gateway: Gateway) -> None:
    gateway.result("hello", client="stage left")
    status = gateway.result("status")
    assert 0 <= status["clients"]["stage left"] < PATIENCE_S
    assert status["roles"]["gateway"]["state"] == "up"
    assert status["roles"]["gateway"]["counters"]["events"] > 0
    assert status["lost_events"]["midi"] == 0


def test_a_req_socket_is_served_too(gateway: Gateway) -> None:
    request = gateway.context.socket(zmq.REQ)
    request.connect(gateway.config.wire.control)
    request.send_multipart(p.encode_request(r.PingRequest("req-1")))
    assert request.poll(int(PATIENCE_S * 1000))
    assert p.decode_reply(request.recv_multipart()).id == "req-1"


def test_garbage_is_refused_and_service_goes_on(gateway: Gateway) -> None:
    random = np.random.default_rng(1)
    before = gateway.result("status")["roles"]["gateway"]["counters"]["bad_messages"]
    garbage = gateway.dealer()
    for i in range(300):
        frames = [random.bytes(int(random.integers(0, 200))) for _ in range(1 + i % 4)]
        garbage.send_multipart([p.MARK, *frames] if i % 2 else frames)
    gateway.result("ping")
    counters = until(
        lambda: (c := gateway.result("status")["roles"]["gateway"]["counters"]) and c["bad_messages"] >= before + 300 and c,
        "the garbage to be counted",
    )
    assert counters["bad_messages"] == before + 300


def test_a_message_that_is_too_long_costs_its_sender_the_connection_only(gateway: Gateway) -> None:
    huge = gateway.dealer()
    huge.send_multipart([p.MARK, bytes(p.MAX_REQUEST_SIZE + 1)])
    assert gateway.result("ping")


def test_a_set_for_a_later_frame_says_from_when_it_holds(gateway: Gateway) -> None:
    at_frame = gateway.session.frame + 4800
    result = gateway.result("set", name="outputs.harmonic.gain_db", value=-3, at_frame=at_frame)
    (event,) = taken_by(gateway, "engine")
    assert (event.frame, result["frame"], result["late_frames"]) == (at_frame, at_frame, 0)
    assert event.available_frame == gateway.session.frame


def test_a_set_for_a_frame_that_is_past_holds_at_once_and_says_how_late_it_is(make: Make) -> None:
    gateway = make().started()
    gateway.session.input_ring.restart(96000)
    result = gateway.result("set", name="outputs.harmonic.gain_db", value=-3, at_frame=95000)
    (event,) = taken_by(gateway, "engine")
    assert (event.frame, result["frame"], result["late_frames"]) == (96000, 96000, 1000)


def test_a_set_for_a_frame_too_far_ahead_is_refused(gateway: Gateway) -> None:
    error = gateway.refused("set", name="outputs.harmonic.gain_db", value=-3, at_frame=1 << 40)
    assert (error.code, error.field) == ("out_of_range", "at_frame")


def test_who_asks_too_much_is_refused_and_told_when_to_come_back(gateway: Gateway) -> None:
    before = gateway.counters()["rate_limited"]
    greedy = gateway.dealer()
    refused: list[p.Failure] = []
    end_s = time.monotonic() + PATIENCE_S
    while not refused and time.monotonic() < end_s:  # how fast a machine sends is its own affair
        sent = {str(uuid.uuid4()) for _ in range(1000)}
        for request_id in sent:
            greedy.send_multipart(p.encode_request(r.PingRequest(request_id)))
        for _ in range(1000):
            assert greedy.poll(int(PATIENCE_S * 1000))
            reply = p.decode_reply(greedy.recv_multipart())
            sent.remove(reply.id)
            refused += [reply.error] if reply.error is not None else []
        assert not sent
    assert {error.code for error in refused} == {"rate_limited"}
    assert all(0 < error.retry_after_s <= 1 / 500 for error in refused)
    until(lambda: gateway.counters()["rate_limited"] - before == len(refused), "the refusals to be counted")
    assert gateway.result("ping")  # another client's allowance is its own
    assert len(refused) in {account["rate_limited"] for account in gateway.result("status")["accounts"].values()}


def test_a_refused_flood_does_not_make_another_clients_ids_forgotten(make: Make) -> None:
    gateway = make().started()
    request = {"id": "kept", "op": "note", "pitch": 61}
    first = gateway.ask_raw(request)
    flood = gateway.dealer()
    for i in range(700):
        flood.send_multipart(p.encode_request(r.NoteRequest(f"flood-{i}", 60)))
    for _ in range(700):
        assert flood.poll(int(PATIENCE_S * 1000))
        flood.recv_multipart()
    assert gateway.ask_raw(request) == first


def test_clients_report_what_they_lost(gateway: Gateway) -> None:
    gateway.result("ping", lost_events=5, lost_bulk=2)
    gateway.result("ping", lost_events=7, lost_bulk=2)
    accounts = gateway.result("status")["accounts"].values()
    assert (7, 2) in {(account["lost_events"], account["lost_bulk"]) for account in accounts}
    until(lambda: gateway.counters()["lost_events"] == 7, "the report to be counted")


def test_a_reply_that_nobody_takes_is_counted(make: Make) -> None:
    gateway = make().started()
    gone = gateway.dealer()
    gone.setsockopt(zmq.LINGER, 1000)
    for i in range(200):
        gone.send_multipart(p.encode_request(r.SyncRequest(f"gone-{i}")))
    gateway.session.emit("gateway", events.Command(0, 0, "panic"), "engine")  # nobody takes it: the syncs wait for a second
    gone.send_multipart(p.encode_request(r.SyncRequest("last")))
    until(lambda: gateway.counters()["commands"] == 201, "the requests to be read")
    gone.close()
    until(lambda: gateway.counters()["dropped_replies"] > 0, "the reply to be dropped")
