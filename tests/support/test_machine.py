"""Who looks on sees a standstill, and where it was."""

import ctypes
import os
import signal
import time

import machine
import pytest


def test_this_process_standing_still_is_seen() -> None:
    watch = machine.watch()
    since_s = time.monotonic()
    ctypes.PyDLL(None).usleep(60_000)  # without letting go of the interpreter
    assert watch.longest_s(since_s) > 0.05
    assert watch.total_s(since_s) >= watch.longest_s(since_s)


def test_a_processor_standing_still_is_seen() -> None:
    watch = machine.watch()
    if not watch.processes:
        pytest.skip("this system ties no process to a processor")
    since_s = time.monotonic()
    looker = watch.processes[0].pid
    os.kill(looker, signal.SIGSTOP)
    time.sleep(0.08)
    os.kill(looker, signal.SIGCONT)
    time.sleep(0.02)
    assert watch.longest_s(since_s, ours=False) > 0.05


def test_what_was_before_and_after_does_not_count() -> None:
    watch = machine.watch()
    since_s = time.monotonic()
    ctypes.PyDLL(None).usleep(60_000)
    until_s = time.monotonic()
    assert watch.total_s(since_s, since_s + 0.03) <= 0.031
    assert watch.total_s(until_s - 0.02, until_s) <= 0.021
