"""JACK connections of an audio client: learned, kept, made again. Real clients on a real server."""

import contextlib

import pytest

from rtserver.audio.connections import Connections, Kept, load, save

NAME = "rtscables"


@pytest.fixture
def client(jack_server):
    import jack

    with contextlib.ExitStack() as stack:

        def make(name):
            client = jack.Client(name, no_start_server=True, servername=jack_server)
            stack.callback(client.close)
            return client

        yield make


def stream(client):
    """An audio client as a stream is: one port each way."""
    made = client(NAME)
    made.inports.register("in_0")
    made.outports.register("out_0")
    made.activate()
    return made


def peer(client, name, *ports):
    made = client(name)
    for port in ports:
        made.inports.register(port)
    made.activate()
    return made


def connected(client, port=f"{NAME}:out_0"):
    return {p.name for p in client.get_all_connections(port)}


def test_a_new_stream_gets_the_connections_of_the_last_one_and_no_others(client):
    watcher, other = client("rtscables-watch"), peer(client, "rtscables-peer", "a", "b")
    first = stream(client)
    first.connect(f"{NAME}:out_0", "rtscables-peer:a")
    cables = Connections(watcher, NAME, Kept())
    cables.look()
    first.close()
    second = stream(client)
    second.connect(f"{NAME}:out_0", "rtscables-peer:b")  # as PortAudio does by itself
    assert cables.restore(exactly=False) == 1
    assert connected(watcher) == {"rtscables-peer:a", "rtscables-peer:b"}
    assert cables.restore(exactly=True) == 0
    assert connected(watcher) == {"rtscables-peer:a"}
    other.close()


def test_what_a_hand_takes_off_stays_off(client):
    watcher, _peer = client("rtscables-watch"), peer(client, "rtscables-peer", "a", "b")
    playing = stream(client)
    for port in ("a", "b"):
        playing.connect(f"{NAME}:out_0", f"rtscables-peer:{port}")
    cables = Connections(watcher, NAME, Kept())
    cables.look()
    playing.disconnect(f"{NAME}:out_0", "rtscables-peer:b")
    cables.look()
    assert cables.peers["out_0"] == ["rtscables-peer:a", "rtscables-peer:b"], "once may be a stream that is just going down"
    cables.look()
    assert cables.peers["out_0"] == ["rtscables-peer:a"]


def test_a_peer_that_went_is_connected_when_it_comes_back(client):
    watcher, other = client("rtscables-watch"), peer(client, "rtscables-peer", "a")
    playing = stream(client)
    playing.connect(f"{NAME}:out_0", "rtscables-peer:a")
    cables = Connections(watcher, NAME, Kept())
    cables.look()
    other.close()
    for _ in range(3):
        cables.look()
    assert connected(watcher) == set()
    peer(client, "rtscables-peer", "a")
    cables.look()
    assert connected(watcher) == {"rtscables-peer:a"}


def test_a_stream_that_is_away_is_no_reason_to_forget(client):
    watcher, _peer = client("rtscables-watch"), peer(client, "rtscables-peer", "a")
    playing = stream(client)
    playing.connect(f"{NAME}:out_0", "rtscables-peer:a")
    cables = Connections(watcher, NAME, Kept())
    cables.look()
    playing.close()
    for _ in range(3):
        cables.look()
    assert cables.peers["out_0"] == ["rtscables-peer:a"]


def test_kept_connections_come_back_and_rubbish_does_not(tmp_path):
    path = tmp_path / "kept.json"
    assert load(path) == Kept()
    save(path, Kept(7, {"out_0": ["a:b"]}))
    assert load(path) == Kept(7, {"out_0": ["a:b"]})
    path.write_text("rubbish")
    assert load(path) == Kept()
