"""The commands of a show against a real server on JACK."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import jack
from faults import Synth
from prometheus_client.parser import text_string_to_metric_families

from rtserver.audio import file as audio_file
from rtserver.wire.client import Client

DEMO = Path(audio_file.__file__).parent.parent / "demo"
RATE = 48000
PERIOD = 1024
LOOP = 2 * PERIOD  # a client's output back into its own input on JACK
SETTINGS = {
    "name": "rtops",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "generation": {"enabled": False},
}


def rtserver(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtserver", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def scraped(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as answer:
        text = answer.read().decode()
    return {
        (s.name, *(s.labels[label] for label in sorted(s.labels))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_a_running_server_is_seen_by_monitor_metrics_and_log_and_obeys_panic(own_jackd_of, live_server, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with own_jackd_of(PERIOD):
        server = live_server(SETTINGS | {"metrics": {"port": port}, "log": {"file": str(tmp_path / "log.jsonl")}})
        control = server.config.wire.control
        panic = rtserver("panic", "--name", "rtops")
        assert server.wait(lambda: server.supervisor.session.counters("midi")["panics"] == 1)
        other = rtserver("panic", "--control", control, "--name", "duo")
        monitor = rtserver("monitor", "--control", control, "--json", "--count", 2)
        server.kill("midi")
        assert server.wait(lambda: server.restarted("midi"))
        metrics = scraped(port)
        server.close()
    assert (panic.returncode, panic.stdout) == (0, "rtops: every note off\n"), panic.stderr
    assert other.returncode == 1

    picture = json.loads(monitor.stdout.splitlines()[-1])
    assert {"stft", "hpss", "istft", "features", "hop"} <= set(picture["hop_times"])
    assert picture["latencies"] == {o.name: o.latency for o in server.supervisor.plan.outputs}
    assert picture["roles"]["audio"]["counters"]["callbacks"] > 0
    assert [(meter["name"], meter["channel"]) for meter in picture["meters"]["outputs"]] == [("harmonic", 1), ("percussive", 2)]

    assert metrics["rt_restarts_total", "midi"] == 1
    assert metrics["rt_callbacks_total",] > 0
    assert metrics["rt_hop_seconds_count", "0", "hop"] > 0
    assert metrics["rt_device_rate_hz",] > 0

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    midi = [(line["level"], line["fields"]["state"]) for line in lines if line["event"] == "role" and line["role"] == "midi"]
    assert midi[-2:] == [("error", "down"), ("warning", "restarted")]


def test_metrics_tell_what_goes_on(own_jackd_of, live_server):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with own_jackd_of(PERIOD):
        server = live_server(SETTINGS | {"metrics": {"port": port}, "score": {"file": str(DEMO / "score.musicxml")}})
        before = scraped(port)
        tape = server.play(audio_file.read(DEMO / "performance.flac")[0][:1, : 12 * RATE], 1)
        client = Client(server.config.wire.control, "test")
        assert server.wait(lambda: client.ask("ping") and scraped(port)["rt_clients",] >= 1)
        client.close()
        assert server.wait(lambda: scraped(port).get(("rt_position_quarters",), 0.0) > 1.0, 20.0)
        found = scraped(port)
        tape.stop()
        server.close()
    assert before.get(("rt_position_quarters",), 0.0) <= 0.0, "nothing had been played"
    assert found["rt_tempo_bpm",] > 0
    assert 0 <= found["rt_confidence",] <= 1
    assert found["rt_callback_seconds_count",] >= before["rt_callbacks_total",] - 1
    assert found["rt_callback_seconds_sum",] > 0
    assert {found["rt_restarts_total", role] for role in ("audio", "engine", "follower", "midi", "metrics")} == {0}


def test_check_plays_a_tone_and_a_note_on_every_port_and_counts(own_jackd_of, tmp_path):
    show = f'name = "rtcheck"\n[audio]\nblock_size = {PERIOD}\nspare_blocks = 2\ndevice = "system"\n[outputs.both]\nsource = "dry"\n'
    show += 'channels = [1, 3]\nalign = false\n[generation]\nenabled = false\n[midi.ports.lead]\nconnect = ["rtops-synth"]\n'
    show += '[midi.ports.drums]\nparts = ["performer"]\nchannels = { 10 = 2 }\n'
    (tmp_path / "show.toml").write_text(show)
    with own_jackd_of(PERIOD):
        synth = Synth("rtops-synth")
        done = rtserver("check", tmp_path / "show.toml", "--seconds", 1, "--json")
        synth.close()
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    # How punctual a busy machine is says nothing about the command; what it did and how it counts does.
    assert checks["preflight"]["state"] == checks["start"]["state"] == "ok"
    assert checks["tone on channel 1 (both), channel 3 (both)"]["found"].startswith("38400 frames taken")
    for where in ("MIDI port lead, channel 1", "MIDI port drums, channel 10"):
        assert checks[f"note on {where}"]["found"].startswith("note-on and note-off sent")
    assert "rtops-synth" in checks["MIDI port lead"]["found"]
    assert "nothing is connected" in checks["MIDI port drums"]["found"]
    assert [m[0] & 0xF0 for _, m in synth.heard if m[0] & 0xF0 == 0x90] == [0x90], "one note, and not the other port's"
    assert checks["time of a hop"]["found"].startswith("p99 ")
    assert {"callbacks", "xruns", "late callbacks", "misses", "JACK", "disk"} <= set(checks)
    assert done.returncode == int(any(check["state"] == "fail" for check in checks.values()))


def test_check_without_a_device_says_so_and_starts_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "rtserver-no-such-server")
    (tmp_path / "show.toml").write_text('[audio]\ndevice = "rtserver no such device"\n')
    done = rtserver("check", tmp_path / "show.toml", "--json")
    assert done.returncode == 1
    assert "start" not in {check["name"] for check in json.loads(done.stdout)}
    assert "to be mended" in done.stderr


def wire_up(name: str, stop: threading.Event) -> None:
    """Join output 2 of the client `name` to its input 1, a cable in software, as soon as it is there."""
    client = jack.Client("rtops-cable", no_start_server=True)
    while not stop.is_set():
        outputs = client.get_ports(f"^{name}:", is_audio=True, is_output=True)
        inputs = client.get_ports(f"^{name}:", is_audio=True, is_input=True)
        if len(outputs) > 1 and inputs and not client.get_all_connections(outputs[1]).count(inputs[0]):
            with contextlib.suppress(jack.JackError):  # a port is listed before it can be connected
                client.connect(outputs[1], inputs[0])
        time.sleep(0.02)
    client.close()


def test_calibrate_finds_a_cable_to_the_frame_and_no_other(own_jackd_of, tmp_path):
    show = f'name = "rtcalib"\n[audio]\nblock_size = {PERIOD}\ndevice = "system"\n'
    (tmp_path / "show.toml").write_text(show)
    with own_jackd_of(PERIOD):
        stop = threading.Event()
        cable = threading.Thread(target=wire_up, args=("rtcalib", stop))
        cable.start()
        done = rtserver("calibrate", tmp_path / "show.toml", "--output", 2, "--json")
        stop.set()
        cable.join()
        without = rtserver("calibrate", tmp_path / "show.toml", "--output", 1, "--input", 1)
    trips = {(trip["output"], trip["input"]): trip for trip in json.loads(done.stdout)["round_trips"]}
    assert done.returncode == 0, done.stderr
    assert trips[2, 1]["bursts"] == [LOOP, LOOP, LOOP]
    assert trips[2, 1]["confidence"] > 0.9
    assert without.returncode == 1
    assert "is the cable between this output and this input" in without.stdout
