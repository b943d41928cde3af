"""The player as its users start it: what it says when it cannot play. What it plays, and what may die, is tried in tests/faults."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_process import PATIENCE_S, Gateway

CLIENTS = Path(__file__).parent.parent.parent / "clients"
PLAY = CLIENTS / "play_midi.py"
NOBODY = {"JACK_DEFAULT_SERVER": "rtstest-nobody", "JACK_NO_START_SERVER": "1"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PLAY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ | NOBODY, check=False)


def test_without_a_midi_system_it_says_so_and_what_to_do() -> None:
    ended = run("--api", "jack")
    assert ended.returncode == 1
    assert ended.stderr == (
        "play_midi: no MIDI system: no JACK server answers as 'rtstest-nobody'; start jackd, or choose another with --api\n"
    )


@pytest.mark.skipif(os.path.exists("/dev/snd/seq"), reason="this machine has ALSA's sequencer")
def test_with_neither_jack_nor_alsa_it_names_both() -> None:
    ended = run()
    assert ended.returncode == 1
    assert "no JACK server answers" in ended.stderr
    assert "/dev/snd/seq is missing (modprobe snd-seq)" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--channel", "0=3"], "expected CHANNEL=CHANNEL, each 1 to 16, as in 1=3; got '0=3'"),
        (["--channel", "3"], "expected CHANNEL=CHANNEL"),
        (["--offset", "2"], "expected -1 to 1 seconds, got '2'"),
        (["--offset", "soon"], "expected -1 to 1 seconds, got 'soon'"),
        (["--late", "-1"], "expected 0 to 10 seconds"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(arguments: list[str], says: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert says in ended.stderr


def test_a_key_that_is_not_there_ends_it(jack_server: str) -> None:
    command = [sys.executable, str(PLAY), "--key", "/nowhere/key_secret"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1
    assert "play_midi: keys:" in ended.stderr


def test_it_waits_for_a_server_and_ends_on_interrupt(jack_server: str, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, str(PLAY), "--control", f"ipc://{tmp_path}/none"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "waiting for a server at ipc://" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_a_part_that_the_server_does_not_know_is_told(jack_server: str, gateway: Gateway) -> None:
    command = [sys.executable, str(PLAY), "--control", gateway.config.wire.control, "--parts", "performer", "ghost"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "knows no part ghost (it has performer, " in process.stderr.readline()
    finally:
        process.kill()
        process.wait()


def test_clients_import_nothing_of_the_server() -> None:
    files = [*CLIENTS.glob("*.py"), *CLIENTS.glob("rtclient/*.py")]
    assert PLAY in files
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name for name in names if name.startswith("rtserver")}, file


def test_the_guardian_needs_nothing_but_rtmidi() -> None:
    """It starts before anything else is known to be there, and in a moment."""
    nodes = list(ast.walk(ast.parse((CLIENTS / "rtclient" / "guardian.py").read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"rtmidi"}
