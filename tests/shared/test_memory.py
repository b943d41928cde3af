"""One block of memory, seen alike from two processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from rtserver.errors import SharedMemoryError
from rtserver.shared.memory import ALIGNMENT, HEADER_SIZE, POPULATE, SETUP_SIZE, VERSION, Block, Layout


def a_layout() -> Layout:
    layout = Layout()
    layout.add("numbers", "<i8", (3,))
    layout.add("samples", "<f4", (2, 5))
    return layout


def run_child(code: str, fd: int) -> str:
    """What another Python process that inherits `fd` prints."""
    done = subprocess.run([sys.executable, "-c", code, str(fd)], pass_fds=[fd], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def test_another_process_finds_the_arrays_and_writes_into_them() -> None:
    block = Block.create(a_layout(), b"setup")
    block["numbers"][:] = (1, 2, 3)
    said = run_child(
        "import sys; from rtserver.shared.memory import Block; b = Block.attach(int(sys.argv[1]));"
        "print(b['numbers'].tolist(), b.setup, b.boot_id, b.creator); b['samples'][1, 4] = 0.5",
        block.fd,
    )
    assert said == f"[1, 2, 3] b'setup' {block.boot_id} {os.getpid()}"
    assert block["samples"][1, 4] == 0.5


def test_it_has_no_name_in_the_file_system() -> None:
    block = Block.create(a_layout())
    assert os.fstat(block.fd).st_nlink == 0


@pytest.mark.skipif(not POPULATE, reason="MAP_POPULATE is Linux's")
def test_whoever_attaches_waits_for_no_page_later() -> None:
    """A first lap through rings of 16 MB: without it some hundred page faults, or 4096 where nobody has written before."""
    layout = Layout()
    layout.add("rings", "<i8", (4096, 512))
    block = Block.create(layout)
    code = """if True:
        import sys
        from resource import RUSAGE_SELF, getrusage
        from rtserver.shared.memory import Block
        rings = Block.attach(int(sys.argv[1]))["rings"]
        rings[0] = 1
        before = getrusage(RUSAGE_SELF).ru_minflt
        rings[:] = 1
        print(getrusage(RUSAGE_SELF).ru_minflt - before)
    """
    assert int(run_child(code, block.fd)) < 16


def test_a_new_block_is_zero() -> None:
    block = Block.create(a_layout())
    assert not block["numbers"].any()
    assert not block["samples"].any()


def test_arrays_start_on_cache_lines_and_do_not_overlap() -> None:
    layout = a_layout()
    block = Block.create(layout)
    assert all(f.offset % ALIGNMENT == 0 for f in layout.fields.values())
    block["numbers"][:] = -1
    assert not block["samples"].any()


def test_an_address_is_where_the_view_says() -> None:
    block = Block.create(a_layout())
    assert block["samples"].ctypes.data == block.address + block.offset("samples")


def test_a_name_is_declared_once() -> None:
    layout = a_layout()
    with pytest.raises(SharedMemoryError, match="'numbers' is declared twice"):
        layout.add("numbers", "<i8", (1,))


def test_two_blocks_have_two_boot_ids() -> None:
    assert Block.create(a_layout()).boot_id != Block.create(a_layout()).boot_id


def test_a_setup_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SharedMemoryError, match="at most"):
        Block.create(a_layout(), b"x" * SETUP_SIZE)


def test_a_block_of_another_version_is_refused() -> None:
    block = Block.create(a_layout())
    np.frombuffer(mmap.mmap(block.fd, HEADER_SIZE), np.int64)[1] = VERSION + 1
    with pytest.raises(SharedMemoryError, match=f"version {VERSION + 1}, expected {VERSION}"):
        Block.attach(block.fd)


def test_a_block_that_was_cut_off_is_refused() -> None:
    block = Block.create(a_layout())
    with tempfile.TemporaryFile() as file:
        file.write(block.bytes[: HEADER_SIZE + SETUP_SIZE].tobytes())
        file.flush()
        with pytest.raises(SharedMemoryError):
            Block.attach(file.fileno())


def test_some_other_file_is_refused() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"hello")
        file.flush()
        with pytest.raises(SharedMemoryError, match="not a shared block of rtserver"):
            Block.attach(file.fileno())
