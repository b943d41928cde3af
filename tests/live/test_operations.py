"""The commands of a show against a real server on JACK."""

import json
import subprocess
import sys

PERIOD = 1024
SETTINGS = {
    "name": "rtops",
    "audio": {"block_size": PERIOD, "spare_blocks": 2, "device": "system"},
    "generation": {"enabled": False},
}


def rtserver(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtserver", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_monitor_and_panic_of_a_running_server(own_jackd_of, live_server):
    with own_jackd_of(PERIOD):
        server = live_server(SETTINGS)
        control = server.config.wire.control
        panic = rtserver("panic", "--control", control, "--name", "rtops")
        assert server.wait(lambda: server.supervisor.session.counters("midi")["panics"] == 1)
        other = rtserver("panic", "--control", control, "--name", "duo")
        monitor = rtserver("monitor", "--control", control, "--json", "--count", 2)
        plain = rtserver("monitor", "--control", control, "--count", 2)
        server.close()
    assert (panic.returncode, panic.stdout) == (0, "rtops: every note off\n"), panic.stderr
    assert other.returncode == 1
    assert monitor.returncode == 0, monitor.stderr
    picture = json.loads(monitor.stdout.splitlines()[-1])
    assert {"stft", "hpss", "istft", "features", "hop"} <= set(picture["hop_times"])
    assert picture["latencies"] == {o.name: o.latency for o in server.supervisor.plan.outputs}
    assert picture["roles"]["engine"]["memory_bytes"] >= 0
    assert picture["roles"]["audio"]["counters"]["callbacks"] > 0
    assert plain.stdout.startswith("rtops  playing")
