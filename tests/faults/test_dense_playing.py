"""The performer plays as densely as it may, and something ends it, or changes what it does: how long each note really sounded.

The rule: a note ends when it was planned to, 300 ms later at most, whoever has died meanwhile; and where nobody is left to play its end
(the midi process is dead) or somebody wants silence (a panic), 300 ms after that at most. Planned is what the recording says: the recorder
gets every note when it is committed, whether or not the gateway lives.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import machine
import pytest
from faults import RATE, Stage, settings

from rtserver.events import Note, NoteOn
from rtserver.generation.modes import MODES

PROMISE_S = 0.3
KILLS = 3
DENSE = {
    "scale": "chromatic",
    "tempo_bpm": 240.0,
    "grid": 3,
    "polyphony": 12,
    "sooner": 3.0,
    "min_duration": 12,
    "pitch_low": 24,
    "pitch_high": 108,
}


@pytest.fixture(scope="module")
def stage(jack_server, tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("s"), settings("rtdense", generation=DENSE))
    yield stage
    stage.close()


def change(stage: Stage, name: str, value: str | bool) -> None:
    assert stage.ask("set", name=f"generation.{name}", value=value)["ok"]


def begin(stage: Stage) -> float:
    """Wait until it plays densely; returns when."""
    assert stage.wait(stage.well, 30.0)
    change(stage, "mode", "accompany")
    change(stage, "enabled", True)
    assert stage.wait(lambda: len(stage.synth.sounding()) >= 4, 20.0), "it plays densely"
    return time.monotonic()


def played(stage: Stage, since_s: float) -> list[tuple[tuple[int, int], float, float]]:
    """Notes that the synth has heard begin since then: (channel, pitch), when each began, and when it ended (infinity: it sounds)."""
    notes: list[tuple[tuple[int, int], float, float]] = []
    begun: dict[tuple[int, int], float] = {}

    def end(key: tuple[int, int], at_s: float) -> None:
        if key in begun:
            notes.append((key, begun.pop(key), at_s))

    for at_s, m in list(stage.synth.heard):
        kind, key = m[0] & 0xF0, (m[0] & 0x0F, m[1] if len(m) > 1 else 0)
        if kind in (0x80, 0x90):
            end(key, at_s)
        if kind == 0x90 and m[2] and at_s >= since_s:
            begun[key] = at_s
        if kind == 0xB0 and m[1] in (120, 123):
            for silenced in [k for k in begun if k[0] == key[0]]:
                end(silenced, at_s)
    return notes + [(key, at_s, float("inf")) for key, at_s in begun.items()]


def planned(stage: Stage) -> dict[tuple[int, int], list[tuple[float, float]]]:
    """When each note that was sent was due to begin, and to end, by channel and pitch."""
    events = stage.server.events()
    durations = {e.note_id: e.duration / RATE for e in events if isinstance(e, Note)}
    plans: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for e in events:
        if isinstance(e, NoteOn):
            plans.setdefault((e.channel, e.pitch), []).append((e.due_ns * 1e-9, e.due_ns * 1e-9 + durations[e.note_id]))
    return plans


def outlived_s(stage: Stage, since_s: float, silent_from_s: float = float("inf")) -> float:
    """By how much the worst note since then outlived its planned end, or `silent_from_s` where that came before."""
    stage.wait(lambda: False, 1.0)  # the recorder writes four times a second
    plans, worst_s, n = planned(stage), 0.0, 0
    for key, began_s, ended_s in played(stage, since_s):
        ends = [end_s for due_s, end_s in plans.get(key, []) if -0.01 < began_s - due_s < 0.1]
        if ends:
            n += 1
            worst_s = max(worst_s, ended_s - min(max(ends), max(silent_from_s, began_s)))
    print(f"{n} notes, the worst outlived its end by {worst_s:.3f} s")
    assert n >= 10, "it played"
    return worst_s


def pause(stage: Stage) -> None:
    """Let it end; what still sounds then hangs."""
    change(stage, "enabled", False)
    stage.wait(lambda: not stage.synth.sounding(), 6.0)


@pytest.mark.parametrize("role", ["performer", "engine", "gateway"])
def test_who_plans_or_tells_is_killed_at_any_moment(stage, row, role):
    row.fault = f"{role}: `kill -9` at {KILLS} random moments while the performer plays densely"
    chance, since_s = random.Random(role), begin(stage)
    child = stage.server.supervisor.children[role]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.3, 0.9))
        child.failures, before = 0, child.restarts
        at_s = time.monotonic()
        os.kill(stage.server.process(role).pid, 9)
        assert stage.wait(lambda n=before: child.restarts > n and child.was_up, 20.0)
        row.back_s = max(row.back_s or 0.0, time.monotonic() - at_s)
    assert stage.wait(lambda: stage.ask("ping").get("ok"), 20.0)
    time.sleep(1.0)
    pause(stage)
    row.hang_s = outlived_s(stage, since_s)
    row.audio, row.lost, row.learned = "yes", "what it would have played meanwhile", f"{role} down, {role} restarted"
    assert row.hang_s < PROMISE_S + machine.watch().total_s(since_s)
    assert not stage.synth.sounding()


def test_midi_is_killed_at_any_moment(stage, row):
    row.fault = f"midi: `kill -9` at {KILLS} random moments while the performer plays densely"
    chance = random.Random("midi")
    child = stage.server.supervisor.children["midi"]
    row.hang_s = row.back_s = 0.0
    for _ in range(KILLS):
        since_s = begin(stage)
        time.sleep(chance.uniform(0.5, 1.1))
        child.failures, before = 0, child.restarts
        at_s = time.monotonic()
        os.kill(stage.server.process("midi").pid, 9)
        stage.wait(lambda: False, PROMISE_S)
        stalled_s = machine.watch().total_s(at_s)
        held = [ended_s - at_s for _, began_s, ended_s in played(stage, since_s) if began_s < at_s < ended_s]
        assert held, "notes sounded"
        row.hang_s = max(row.hang_s, *held)
        assert row.hang_s < PROMISE_S + stalled_s, "who is to end them is dead: they end at once"
        assert stage.wait(lambda n=before: child.restarts > n and child.was_up, 20.0)
        row.back_s = max(row.back_s, time.monotonic() - at_s)
    pause(stage)
    row.audio, row.lost, row.learned = "yes", "notes until the role is back", "midi down, midi restarted"
    assert not stage.synth.sounding()


def test_a_panic_from_the_command_line(stage, row):
    row.fault = "`rtserver panic` while the performer plays densely"
    since_s = begin(stage)
    assert stage.ask("note", pitch=30, duration_s=30.0, channel=5)["ok"]
    assert stage.wait(lambda: (5, 30) in stage.synth.sounding())
    change(stage, "enabled", False)  # else it begins again, as it should
    control = stage.server.config.wire.control
    done = subprocess.run([sys.executable, "-m", "rtserver", "panic", "--control", control], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    at_s = time.monotonic()
    assert stage.wait(lambda: not stage.synth.sounding(), PROMISE_S + 1.0)
    row.hang_s = max([0.0, *(ended_s - at_s for _, _, ended_s in played(stage, since_s))])
    row.audio, row.lost, row.learned = "yes", "nothing", "`command` panic"
    assert row.hang_s < PROMISE_S + machine.watch().total_s(at_s)
    assert not stage.wait(stage.synth.sounding, 0.5), "and stays silent"


def test_the_mode_changes_while_it_plays(stage, row):
    row.fault = "`generation.mode` set to each mode in turn, then `generation.enabled` to false, while the performer plays densely"
    since_s = begin(stage)
    for mode in (*(mode for mode in MODES if mode != "along"), "accompany"):  # along needs a score
        change(stage, "mode", mode)
        time.sleep(1.3)  # a bar of 4/4 is a second
    pause(stage)
    row.hang_s = outlived_s(stage, since_s)
    row.audio, row.lost, row.learned = "yes", "nothing", "`param`"
    assert row.hang_s < PROMISE_S + machine.watch().total_s(since_s)
    assert not stage.synth.sounding()
