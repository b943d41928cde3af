"""The audio server changes its period, stands still, dies, comes back at another rate. (Each server here has a jackd of its own.)"""

from __future__ import annotations

import signal
import subprocess
import time

import numpy as np
import pytest
from faults import PERIOD, RATE, Stage, Trial, settings, sine

from rtserver.audio import table as t


class Jackd:
    """A jackd that can be killed and started again, under the same name."""

    def __init__(self, name: str, first: subprocess.Popen[bytes]) -> None:
        self.name, self._command, self.process = name, list(first.args), first
        self._again: list[subprocess.Popen[bytes]] = []

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self, rate: int = RATE) -> None:
        command = [*self._command]
        command[command.index("-r") + 1] = str(rate)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._again.append(self.process)

    def close(self) -> None:
        for process in self._again:
            process.terminate()
            process.wait(10.0)


@pytest.fixture(scope="module")
def jackd(own_jackd):
    with pytest.MonkeyPatch.context() as patch, own_jackd(PERIOD) as (name, process):
        patch.setenv("JACK_DEFAULT_SERVER", name)
        patch.setenv("JACK_NO_START_SERVER", "1")
        jackd = Jackd(name, process)
        yield jackd
        jackd.close()


@pytest.fixture(scope="module")
def stage(jackd, tmp_path_factory):
    """A server that must outlive every test of this module. No synth: it would die with its JACK server, and us with it."""
    stage = Stage(tmp_path_factory.mktemp("s"), settings("rtdevice", midi={"api": "jack"}), synth=False)
    yield stage
    stage.close()


def connections(port: str) -> set[str]:
    lines = subprocess.run(["jack_lsp", "-c", port], capture_output=True, text=True, check=False).stdout.splitlines()
    return {line.strip() for line in lines if line.startswith(" ")}


def sounds(stage: Stage, since: int) -> bool:
    """Whether sound has flowed for half a second beyond the session frame `since`."""
    return stage.wait(lambda: stage.session.frame > since + RATE // 2, 20.0)


def plays(stage: Stage) -> np.ndarray:
    """What comes back of a sine of three seconds."""
    return stage.server.play(sine(2.0), channels=2).result()


def level(record: np.ndarray) -> float:
    return float(np.sqrt((record.sum(axis=0)[RATE // 2 :] ** 2).mean()))


def misses_of(trial: Trial, seconds: float) -> int:
    """How many misses come within so many seconds from now."""
    before = len(trial.events("miss"))
    time.sleep(seconds)
    return len(trial.events("miss")) - before


@pytest.mark.parametrize("period", [PERIOD // 4, PERIOD * 2])
def test_period_changed(stage, row, period):
    row.fault = f"`jack_bufsize`: the period becomes {period} instead of {PERIOD}"
    try:
        with Trial(stage, 4.0) as trial:
            trial.strike(lambda: subprocess.run(["jack_bufsize", str(period)], check=True, capture_output=True))
            assert stage.wait(lambda: trial.events("device"), 5.0), "subscribers are told"
            assert stage.wait(lambda: misses_of(trial, 0.8) < 20, 20.0), "and the engine keeps up in bursts"
        row.take(trial)
        (device,) = trial.events("device")
        added = max(0, period - PERIOD)
        row.audio = "yes" + (f", {added} frames later than planned" if added else "")
        row.learned = f"`device`: period {period}, added_latency {added}"
        row.hang_s = None
        assert (device["sample_rate"], device["block_size"], device["added_latency"]) == (RATE, period, added)
        assert stage.session.block["audio.table"][t.EXTRA_DELAY] == added
        assert trial.went_on(0.5)
        assert trial.told() == [], "no role is replaced"
    finally:
        subprocess.run(["jack_bufsize", str(PERIOD)], check=True, capture_output=True)
    assert stage.wait(lambda: stage.session.block["audio.table"][t.EXTRA_DELAY] == 0, 20.0), "and back"


def test_the_device_stands_still(stage, jackd, row):
    row.fault = "the device delivers no more: jackd SIGSTOP for 1 s"
    frame = stage.session.frame
    with Trial(stage, 0) as trial:
        before = stage.restarts("audio")
        trial.strike(lambda: jackd.process.send_signal(signal.SIGSTOP))
        time.sleep(1.0)
        jackd.process.send_signal(signal.SIGCONT)
        trial.await_restart("audio", before)
        assert sounds(stage, stage.session.frame)
    row.take(trial)
    row.audio = "stops; a new stream is opened as soon as that can be done"
    row.hang_s = None
    row.lost = f"{trial.lost_s:.1f} s of input"
    assert any("no callback" in e["detail"] for e in trial.events("role") if e["role"] == "audio")
    assert stage.session.frame > frame, "the session frame goes on"
    assert level(plays(stage)) > 0.2


def test_jackd_killed_and_started_again(stage, jackd, row):
    row.fault = "jackd: `kill -9`, started again after 1 s"
    (port,) = connections("rtdevice:out_1")
    subprocess.run(["jack_disconnect", "rtdevice:out_1", port], check=True, capture_output=True)
    subprocess.run(["jack_connect", "rtdevice:out_1", "system:playback_7"], check=True, capture_output=True)
    time.sleep(0.8)  # two looks of the cables
    with Trial(stage, 0) as trial:
        before = stage.restarts("audio")
        trial.strike(jackd.kill)
        time.sleep(1.0)
        jackd.start()
        trial.await_restart("audio", before)
        frame = stage.session.frame
        assert sounds(stage, frame)
        assert stage.wait(lambda: connections("rtdevice:out_1") == {"system:playback_7"}, 20.0), (
            "connected as by hand, and not as by default"
        )
    row.take(trial)
    row.audio = "stops; comes back with its client name and its connections, as they were"
    row.hang_s = None
    row.lost = f"{trial.lost_s:.1f} s of input; MIDI ports come back within 2 s"
    row.learned = "audio, midi, standby, cables down and restarted; `gap`; `device`"
    assert stage.wait(lambda: {"audio down", "audio restarted", "cables down", "cables restarted"} <= set(trial.told()))
    assert trial.lost_s > 0.9
    assert stage.wait(lambda: connections("rtdevice:out_0") == {"system:playback_1"}, 20.0)
    assert level(plays(stage)) > 0.2
    assert stage.wait(lambda: "rtdevice-midi:midi_out" in _ports(), 40.0), f"MIDI too: {_ports()}"


def _ports() -> list[str]:
    return subprocess.run(["jack_lsp"], capture_output=True, text=True, check=False).stdout.split()


def test_jackd_comes_back_at_another_rate(stage, jackd, row):
    row.fault = "jackd comes back at 44.1 kHz, later at 48 kHz"
    with Trial(stage, 0) as trial:
        before = stage.restarts("audio")
        trial.strike(jackd.kill)
        jackd.start(44100)
        assert stage.wait(lambda: [e for e in trial.events("device") if e["sample_rate"] == 44100], 20.0)
        frame = stage.session.frame
        time.sleep(2.0)
        assert stage.session.frame == frame, "nothing plays at the wrong pitch"
        assert stage.wait(lambda: [e for e in trial.events("role") if "44100" in e["detail"] and "48000" in e["detail"]], 10.0)
        jackd.kill()
        jackd.start(RATE)
        assert stage.wait(lambda: stage.server.supervisor.ready and sounds(stage, stage.session.frame), 30.0)
        trial.await_restart("audio", before)
    row.take(trial)
    row.audio = "stops until the rate is the session's again: never at a wrong pitch"
    row.hang_s = None
    row.lost = f"{trial.lost_s:.1f} s of input"
    row.learned = "`device` with the rate; audio down, and why"
    assert level(plays(stage)) > 0.2
