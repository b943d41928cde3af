"""Each role is killed with SIGKILL, or stopped with SIGSTOP, while it plays. (A killed midi role on its own: test_midi_death.py.)"""

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np
from faults import PERIOD, RATE, Trial, settings

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.clock import MOST_OFF
from rtserver.separation.network import FADE_S

DEMO = Path(t.__file__).parent.parent / "demo"


def test_engine_killed(stage, row):
    row.fault = "engine: `kill -9`"
    with Trial(stage, 4.5, note_s=0.8) as trial:
        trial.kill("engine")
    row.take(trial)
    row.audio = "yes: concealed, then dry at the same latency"
    assert trial.went_on()
    assert trial.held
    assert trial.let_go(), "the notes end when they are due"
    assert trial.tells("engine down", "engine restarted")
    assert trial.events("miss"), "what was heard instead is told"
    assert [e["reason"] for e in trial.events("resume")] == ["engine started"], "its state is rebuilt from past input"


def test_audio_killed(stage, row):
    row.fault = "audio: `kill -9`"
    before = stage.session.frame
    with Trial(stage, 12.0, note_s=0.8, tail_s=2.0) as trial:
        trial.kill("audio")
    row.take(trial)
    row.audio = "stops until the role is back, with its JACK connections"
    assert trial.went_on(4.0)
    assert np.abs(trial.record.sum(axis=0)[-RATE // 4 :]).max() > 0.1, "sound comes back through connections that a client made"
    assert trial.let_go()
    assert trial.tells("audio down", "audio restarted")
    (gap,) = trial.events("gap")
    assert gap["n_frames"] > 0
    assert gap["frame"] > before, "the session frame goes on"


def test_midi_killed(stage, row):
    row.fault = "midi: `kill -9`"
    with Trial(stage, 3.0, note_s=10.0) as trial:
        trial.kill("midi")
    row.take(trial, from_fault=True)
    row.audio = "yes"
    row.lost = "notes until the role is back"
    assert trial.went_on()
    assert trial.held.keys() >= {(3, pitch) for pitch in (40, 47, 52, 59)}
    assert trial.let_go(1.0, from_fault=True), "released by the standby, not when due in ten seconds"
    assert trial.tells("midi down", "midi restarted")
    back = len(stage.synth.heard)
    assert stage.wait(lambda: any(m[0] & 0xF0 == 0x90 for _, m in stage.synth.heard[back:])), "new notes sound"


def test_a_sender_killed(stage, row):
    row.fault = "the process of a MIDI port (sender): `kill -9`"
    (sender,) = (int(pid) for pid in stage.session.block["midi.senders"] if pid)
    with Trial(stage, 3.0, note_s=10.0) as trial:
        trial.strike(lambda: os.kill(sender, signal.SIGKILL))
        assert stage.wait(lambda: int(stage.session.block["midi.senders"][0]) not in (0, sender), 10.0), "it is replaced"
        trial.back_s = time.monotonic() - trial.fault_s
    row.take(trial, from_fault=True)
    row.audio = "yes"
    row.lost = "notes of that port until it is back"
    assert trial.went_on()
    assert trial.let_go(1.0, from_fault=True), "released by the standby, not when due in ten seconds"
    back = len(stage.synth.heard)
    assert stage.wait(lambda: any(m[0] & 0xF0 == 0x90 for _, m in stage.synth.heard[back:])), "new notes sound"


def test_a_sender_hangs(stage, row):
    row.fault = "the process of a MIDI port (sender): SIGSTOP, for ever"
    (sender,) = (int(pid) for pid in stage.session.block["midi.senders"] if pid)
    with Trial(stage, 4.5, note_s=10.0) as trial:
        before = stage.restarts("midi")
        trial.strike(lambda: os.kill(sender, signal.SIGSTOP))
        trial.await_restart("midi", before)
    row.take(trial, from_fault=True)
    row.audio = "yes"
    row.lost = "what it would have played until it was replaced"
    assert trial.went_on()
    assert trial.let_go(3.0, from_fault=True), "killed for its silence, then released by the standby"
    assert trial.tells("midi down", "midi restarted")
    detail = trial.events("role")[0]["detail"]
    assert "hung" in detail or "no heartbeat" in detail, "the role says so, or on a busy machine its supervisor before it"
    back = len(stage.synth.heard)
    assert stage.wait(lambda: any(m[0] & 0xF0 == 0x90 for _, m in stage.synth.heard[back:])), "new notes sound"


def test_workers_killed_one_after_the_other(stage, row):
    lost = {"performer": "what it would have played meanwhile", "recorder": "silence in the recording, told as such"}
    rows = []
    with Trial(stage, 7.0, note_s=0.8) as trial:
        for role in ("performer", "standby", "cables", "recorder"):
            trial.kill(role)
            stage.wait(lambda: trial.hang_s() < float("inf"))  # the notes that sounded have ended
            assert trial.let_go()
            assert trial.tells(f"{role} down", f"{role} restarted")
            one = dataclasses.replace(row, fault=f"{role}: `kill -9`", audio="yes", lost=lost.get(role, "nothing"))
            one.hang_s, one.back_s, one.learned = trial.hang_s(), trial.back_s, ", ".join(trial.told())
            rows.append(one)
    assert trial.went_on()
    for one in rows:
        one.gap_s = trial.gap_s
    for one in rows[:-1]:
        one.write()
    vars(row).update(vars(rows[-1]))


def test_gateway_killed(stage, row):
    row.fault = "gateway: `kill -9`"
    with Trial(stage, 2.8, note_s=0.8) as trial:
        epochs = len(stage.subscriber.epochs)
        trial.kill("gateway")
        assert stage.wait(lambda: stage.ask("ping").get("ok"), 20.0), "the same endpoint answers again"
        assert stage.wait(lambda: len(stage.subscriber.epochs) > epochs, 20.0), "subscribers hear the new one without doing anything"
    row.take(trial)
    row.audio = "yes"
    row.lost = "events, for subscribers, until they are connected again; the recording goes on"
    row.learned = "another epoch: they ask for the snapshot, which counts the restart"
    assert trial.went_on()
    assert trial.let_go()
    assert stage.ask("snapshot")["result"]["roles"]["gateway"]["restarts"] == stage.restarts("gateway") > 0


def test_follower_killed(jack_server, make_stage, row):
    row.fault = "follower: `kill -9`"
    stage = make_stage(settings("rtfollow", score={"file": str(DEMO / "score.musicxml")}))
    performance = audio_file.read(DEMO / "performance.flac")[0][:1, : 7 * RATE]
    with Trial(stage, signal=performance, note_s=0.8) as trial:
        assert stage.wait(lambda: stage.subscriber.since(0.0, "position"), 5.0), "the player is followed"
        trial.kill("follower")
        back = len(trial.events("position"))
        assert stage.wait(lambda: len(trial.events("position")) > back, 20.0), "positions come again"
    row.take(trial)
    row.audio, row.gap_s = "yes", None  # music has silences of its own
    row.lost = "positions until it is back and has found its place"
    assert trial.let_go()
    assert trial.tells("follower down", "follower restarted")


def test_separator_killed(jack_server, make_stage, row):
    """That its stems are the medians' own within a crossfade, sample for sample, is in tests/live/test_separator_worker.py."""
    row.fault = "separator (a network in a process of its own): `kill -9`"
    outputs = {"drums": {"source": "drums", "channels": [1]}} | {k: {"source": k, "channels": [2]} for k in ("bass", "other")}
    network = {"model": "stems3-int8", "where": "worker", "worker_hops": 8}
    stage = make_stage(settings("rtseparator", outputs=outputs, separation=network))
    fade = round(FADE_S * RATE)
    with Trial(stage, 8.0, note_s=0.8, tail_s=2.5) as trial:
        before = stage.session.counters("engine")["late_masks"]
        trial.kill("separator")
        assert stage.wait(lambda: stage.session.counters("separator")["hops"] > 100, 5.0), "the network works again"
    row.take(trial)
    stood_in = [e for e in trial.events("stand_in") if e["reason"] == "late"]
    hop = int(stage.session.block["audio.table"][t.HOP_SIZE])
    late_s = sum(e["n_hops"] for e in stood_in) * hop / RATE
    row.audio = f"yes: within {1e3 * FADE_S:.0f} ms as the medians separate, later as the network does again"
    row.lost = "the network's say until it is back"
    row.learned += f"; `stand_in` of {late_s:.2f} s"
    assert trial.went_on()
    assert trial.let_go()
    assert trial.tells("separator down", "separator restarted")
    assert stood_in, "what is heard instead is told"
    assert abs(stood_in[0]["frame"] - trial.frame) < 8 * hop + 2 * PERIOD + fade, "from the first hop on whose masks did not come"
    assert stage.session.counters("engine")["late_masks"] - before >= 0.5 * trial.back_s * RATE / hop, "each is counted"


def test_engine_stopped_for_300_ms(stage, row):
    row.fault = "engine: SIGSTOP for 300 ms"
    hops = stage.session.counters("engine")["hops"]
    with Trial(stage, 2.8, note_s=0.6) as trial:
        engine = stage.server.process("engine")
        trial.strike(lambda: engine.send_signal(signal.SIGSTOP))
        time.sleep(0.3)
        engine.send_signal(signal.SIGCONT)
        trial.back_s = 0.3
    row.take(trial)
    row.audio = "yes: concealed, then dry, then wet again"
    assert trial.went_on()
    assert trial.let_go()
    assert trial.told() == [], "it is not replaced for that"
    assert trial.events("miss")
    assert stage.session.counters("engine")["hops"] > hops, "it caught up"
    assert stage.wait(lambda: stage.session.frame - int(stage.session.block["deck0.spans"][0, 1]) < RATE, 5.0), "and no queue has grown"


def test_midi_hangs(stage, row):
    row.fault = "midi: SIGSTOP, for ever"
    with Trial(stage, 4.5, note_s=0.8) as trial:
        before = stage.restarts("midi")
        trial.strike(lambda: stage.server.process("midi").send_signal(signal.SIGSTOP))
        trial.await_restart("midi", before)
    row.take(trial)
    row.audio = "yes"
    row.lost = "what it would have played until it was replaced"
    assert trial.went_on()
    assert trial.let_go(3.0), "killed for its silence, then released by the standby, unless that saw before that it was overdue"
    assert trial.tells("midi down", "midi restarted")
    assert "heartbeat" in trial.events("role")[0]["detail"]


def test_the_whole_server_stopped(stage, row):
    """As on a suspended laptop: the supervisor stands still with its roles. Here it is a thread of this process: it is held by a lock."""
    row.fault = "all roles and the supervisor: SIGSTOP for 1.5 s"
    server = stage.server
    with Trial(stage, 5.0, note_s=0.5) as trial:
        pids = {name: server.process(name).pid for name in server.supervisor.children if name != "audio"}
        trial.strike(lambda: None)
        with server.held():
            for pid in pids.values():
                os.kill(pid, signal.SIGSTOP)
            time.sleep(1.5)
            for pid in pids.values():
                os.kill(pid, signal.SIGCONT)
        trial.back_s = 1.5
        assert stage.wait(lambda: len(trial.events("miss")) > 0, 5.0)
    row.take(trial)
    row.audio = "yes: dry until the engine runs again"
    assert trial.went_on()
    assert trial.told() == [], "nobody is killed for a stall of the machine"
    assert trial.let_go(5.0), "let go when midi runs again"


def test_the_callback_kept_its_blocks(stage):
    """After all that: the stream plays in JACK's period, and the session frame is where the clock says."""
    assert stage.wait(stage.on_time)
    _, _, rate, _ = stage.session.clock.line()
    assert abs(rate / RATE - 1.0) <= MOST_OFF + 1e-9
    assert int(stage.session.block["audio.table"][t.BLOCK_SIZE]) == PERIOD
