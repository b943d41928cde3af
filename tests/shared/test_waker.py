"""Waking another process."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from rtserver.shared.memory import Block, Layout
from rtserver.shared.waker import Waker


def a_waker() -> tuple[Block, Waker]:
    layout = Layout()
    Waker.declare(layout, "waker")
    block = Block.create(layout)
    waker = Waker(block, "waker")
    waker.init()
    return block, waker


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process-shared semaphores: elsewhere the waiter polls")


def test_a_post_before_the_wait_is_not_lost() -> None:
    _, waker = a_waker()
    waker.post()
    assert waker.wait(0.0)


def test_without_a_post_the_wait_ends_at_its_time() -> None:
    _, waker = a_waker()
    start = time.monotonic()
    assert not waker.wait(0.05)
    assert time.monotonic() - start >= 0.05


def test_several_posts_are_one_waking() -> None:
    _, waker = a_waker()
    for _ in range(5):
        waker.post()
    assert waker.wait(0.0)
    assert not waker.wait(0.0)


def test_a_post_wakes_another_process() -> None:
    block, waker = a_waker()
    code = (
        "import sys; from rtserver.shared.memory import Block; from rtserver.shared.waker import Waker;"
        "w = Waker(Block.attach(int(sys.argv[1])), 'waker'); print('ready', flush=True); print(w.wait(20.0), flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(block.fd)], pass_fds=[block.fd], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    start = time.monotonic()
    waker.post()
    assert child.stdout.readline() == "True\n"
    assert time.monotonic() - start < 10.0  # far below the time-out: it was the post
    assert child.wait(10.0) == 0
    child.stdout.close()


def test_a_process_that_knows_only_where_it_is_wakes_us_without_numpy() -> None:
    block, waker = a_waker()
    code = (
        "import sys; from rtserver.shared.waker import Waker; Waker.inherited(*map(int, sys.argv[1:])).post();print('numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(waker.fd), str(waker.offset)]
    said = subprocess.run(command, pass_fds=[block.fd], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == "False\n"
    assert waker.wait(0.0)
