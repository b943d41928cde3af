"""Ports on JACK, and what stands in where there is no MIDI system."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from rtserver.config import Config, Midi
from rtserver.midi import ports
from rtserver.midi.links import Links, jack_client, load, save
from rtserver.midi.patchbay import HANG_S, Orders, Patchbay, Wiring


def wait(condition, timeout_s: float = 10.0) -> bool:
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True


CLIENT = "rtstest-ports-midi"


def config(api: str, **midi) -> Config:
    return Config(name="rtstest-ports", midi=Midi(api=api, **midi))


@pytest.fixture
def no_jack(monkeypatch):
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "rtstest-nobody")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")


@pytest.fixture
def synth(jack_server):
    """A real receiver: (port name, messages heard)."""
    import rtmidi

    heard: list[bytes] = []
    port = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-receiver")
    port.ignore_types(sysex=False, timing=False, active_sense=False)
    port.set_callback(lambda got, _: heard.append(bytes(got[0])))
    port.open_virtual_port("in")
    yield "rtstest-receiver:in", heard
    port.cancel_callback()
    port.close_port()
    port.delete()


@pytest.fixture
def looker(jack_server):
    client = jack_client("rtstest-looker")
    assert client is not None
    yield client
    client.close()


def test_null_backend_counts_and_never_raises():
    assert ports.find_api(config("null")) == ("null", "")
    output = ports.NullOutput()
    assert output.send(b"\x90\x40\x40")
    assert not output.send(b"")
    assert (output.sent, output.errors) == (1, 1)
    output.close()


@pytest.mark.skipif(os.path.exists(ports.ALSA_DEVICE), reason="there is an ALSA sequencer here")
def test_without_any_midi_system_the_null_backend_stands_in_and_says_why(no_jack):
    api, complaint = ports.find_api(config("auto"))
    assert api == "null"
    assert "rtstest-nobody" in complaint and ports.ALSA_DEVICE in complaint and "start jackd" in complaint


@pytest.mark.skipif(os.path.exists(ports.ALSA_DEVICE), reason="there is an ALSA sequencer here")
def test_alsa_without_its_device_says_what_is_missing():
    api, complaint = ports.find_api(config("alsa"))
    assert api == "null"
    assert ports.ALSA_DEVICE in complaint and "JACK" not in complaint


def test_coremidi_elsewhere_says_so():
    if os.uname().sysname == "Darwin":
        pytest.skip("CoreMIDI exists here")
    api, complaint = ports.find_api(config("coremidi"))
    assert api == "null"
    assert "does not exist on this system" in complaint


def test_auto_takes_jack_where_it_answers(jack_server, looker):
    assert ports.find_api(config("auto")) == ("jack", "")
    output = ports.open_output("jack", CLIENT, [])
    try:
        assert output.name == "rtstest-ports-midi:midi_out"
        assert ports.jack_has(output.name)
    finally:
        output.close()
    assert not ports.jack_has("rtstest-ports-midi:midi_out")


def test_a_name_that_is_taken_is_found_out(jack_server):
    first = ports.open_output("jack", CLIENT, [])
    second = ports.open_output("jack", CLIENT, [])
    try:
        assert first.name != second.name
        assert ports.jack_has(second.name)
    finally:
        first.close()
        second.close()


def test_a_name_that_outlives_its_ports_is_waited_for(jack_server):
    """So a client leaves that was killed: first its ports go, and then its name."""
    predecessor = jack_client(CLIENT)
    gone = threading.Timer(0.3, predecessor.close)
    gone.start()
    output = ports.open_output("jack", CLIENT, [])
    try:
        assert output.name == f"{CLIENT}:{ports.OUT_PORT}"
        assert ports.jack_has(output.name)
    finally:
        output.close()
        gone.join()


def test_messages_arrive_and_large_ones_are_refused(synth, looker):
    name, heard = synth
    output = ports.open_output("jack", CLIENT, [])
    try:
        looker.connect(output.name, name)
        assert wait(lambda: output.send(b"\xfe") and heard)
        longest = b"\xf0" + bytes(ports.MAX_MESSAGE_SIZE - 2) + b"\xf7"
        assert output.send(longest)
        assert wait(lambda: longest in heard), "the stated cap does get through"
        assert not output.send(b"\xf0" + bytes(20_000) + b"\xf7")
        assert output.errors == 1
    finally:
        output.close()


def test_what_was_sent_before_close_arrives(synth, looker):
    name, heard = synth
    output = ports.open_output("jack", CLIENT, [])
    looker.connect(output.name, name)
    assert wait(lambda: output.send(b"\xfe") and heard)
    heard.clear()
    messages = [bytes((0x80, pitch, 0)) for pitch in range(128)]
    for message in messages:
        output.send(message)
    output.close()
    assert wait(lambda: [m for m in heard if m != b"\xfe"] == messages)


def test_open_by_name_reaches_matching_destinations(synth):
    """The way of ALSA and CoreMIDI, here on JACK, which rtmidi treats alike."""
    import rtmidi

    _, heard = synth
    output = ports.RtOutput("by name", rtmidi.API_UNIX_JACK, "rtstest-named", ["RECEIVER"])
    try:
        assert wait(lambda: output.send(b"\x90\x30\x40") and b"\x90\x30\x40" in heard)
    finally:
        output.close()


def test_a_destination_by_name_may_come_later_go_and_come_back(jack_server):
    import rtmidi

    output = ports.RtOutput("by name", rtmidi.API_UNIX_JACK, "rtstest-named", ["plugged"])
    try:
        assert output.look() == 0
        for _ in range(2):
            device = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-plugged")
            device.open_virtual_port("in")
            assert output.look() == 1
            assert output.look() == 0, "it is open already"
            assert wait(lambda d=device: output.send(b"\x90\x31\x40") and d.get_message())
            device.close_port()
            device.delete()
            assert output.look() == 0
            assert output.send(b"\x80\x31\x00")
    finally:
        output.close()


def orders_for(output, connect, folder) -> Orders:
    return Orders(CLIENT, {"": Wiring(output.name, connect)}, {"": Wiring(f"{CLIENT}-in", [])}, str(folder))


@pytest.fixture
def patched(jack_server, tmp_path):
    """An output with a patchbay beside it that connects what is called rtstest-receiver."""
    output = ports.open_output("jack", CLIENT, [])
    orders = orders_for(output, ["receiver"], tmp_path)
    patchbay = Patchbay(orders)
    yield output, patchbay, orders
    patchbay.close()
    output.close()


def test_a_port_that_appears_later_is_connected_and_announced(patched, looker):
    import rtmidi

    output, patchbay, _ = patched
    assert not patchbay.made()
    late = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-receiver-late")
    late.open_virtual_port("in")
    try:
        assert wait(lambda: [p.name for p in looker.get_all_connections(output.name)] == ["rtstest-receiver-late:in"])
        assert wait(lambda: patchbay.made() == {""})
        assert not patchbay.made(), "told once"
    finally:
        late.close_port()
        late.delete()


def test_a_port_that_goes_and_comes_back_between_two_looks_is_connected_again(patched, looker):
    import rtmidi

    output, patchbay, _ = patched
    for _ in range(4):
        device = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-receiver-loose")
        device.open_virtual_port("in")
        try:
            assert wait(lambda: [p.name for p in looker.get_all_connections(output.name)] == ["rtstest-receiver-loose:in"])
        finally:
            device.close_port()
            device.delete()
    assert wait(lambda: patchbay.listen() or (patchbay.gone >= 3 and patchbay.back >= 3)), (patchbay.gone, patchbay.back)


def test_our_own_ports_are_never_connected_to_each_other(jack_server, tmp_path, looker):
    output = ports.open_output("jack", CLIENT, [])
    patchbay = Patchbay(orders_for(output, [""], tmp_path))
    try:
        names = [p.name for p in looker.get_all_connections(output.name)]
        assert "rtstest-ports-midi-in:midi_in" not in names
        assert ports.jack_has("rtstest-ports-midi-in:midi_in")
    finally:
        patchbay.close()
        output.close()


def test_a_patchbay_that_fails_says_why(no_jack, tmp_path):
    patchbay = Patchbay(Orders("a", {"": Wiring("a:b", [])}, {}, str(tmp_path)))
    assert wait(lambda: patchbay.listen() or patchbay.ended)
    assert "no JACK server" in patchbay.complaint
    assert not patchbay.lost
    patchbay.close()


def test_taken_off_by_hand_stays_off_until_the_port_comes_anew(synth, looker):
    import rtmidi

    name, _ = synth
    source = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-source")
    source.open_virtual_port("out")
    try:
        links = Links(looker, "rtstest-source:out", True, ["receiver"])
        assert links.poll() == {name}
        looker.disconnect("rtstest-source:out", name)
        assert [links.poll() for _ in range(3)] == [set()] * 3
        assert links.wanted == []
    finally:
        source.close_port()
        source.delete()


def test_what_could_not_be_connected_yet_is_tried_again(synth, looker):
    """Our port may not be there at the first look, or JACK be busy: what was wanted then is wanted still."""
    import rtmidi

    name, _ = synth
    links = Links(looker, "rtstest-slow:out", True)
    links.restore([name])
    assert links.poll(match=False) == set()
    source = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="rtstest-slow")
    source.open_virtual_port("out")
    try:
        assert wait(lambda: links.poll() == {name})
        assert links.back == 1
    finally:
        source.close_port()
        source.delete()


def test_connections_are_kept_whole_or_not_at_all(tmp_path):
    path = tmp_path / "connections.json"
    assert load(path) is None
    save(path, {"midi_out": ["synth:in"]})
    assert load(path) == {"midi_out": ["synth:in"]}
    path.write_text("{half")
    assert load(path) is None


def test_a_patchbay_that_hangs_is_noticed_and_can_be_ended(patched):
    _, patchbay, _ = patched
    assert not patchbay.hangs(time.monotonic_ns(), 0)
    os.kill(patchbay.pid, signal.SIGSTOP)
    now_ns = time.monotonic_ns()
    assert not patchbay.hangs(now_ns + round(0.5e9), 0)
    assert patchbay.hangs(now_ns + round(2.5e9), 0) > HANG_S
    assert not patchbay.hangs(now_ns + round(2.5e9), now_ns + round(2.4e9)), "the whole machine stood still"
    patchbay.kill()
    assert wait(lambda: patchbay.listen() or patchbay.ended)
    assert not patchbay.hangs(now_ns + round(60e9), 0), "it has ended"


def test_a_patchbay_that_is_well_gives_signs_of_life(patched):
    _, patchbay, _ = patched
    heard_ns = patchbay.heard_ns
    assert wait(lambda: patchbay.listen() or patchbay.heard_ns > heard_ns + round(1e9))
