"""The native audio callback: PortAudio calls it, no Python runs in it, nobody is waited for.

The contract (PortAudio, ``PaStreamCallback``): it is called from a real-time thread with `frames` frames of interleaved float32 input
and room for as many of output; it must fill the output, must not allocate, lock, block or raise, and returns 0 to go on. Its user data
is the address of the shared block, in which it finds its table (`audio/table.py`) at a fixed place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtserver.kernels import cfunc, jit, numba

from rtserver.audio import table as t  # isort: skip
from rtserver.audio.mixer import mix_output, take_input
from rtserver.shared.histogram import LOWEST, MAX_NS, N_BUCKETS, SUM_NS
from rtserver.shared.memory import Block

_types: Any = numba.types
_carray: Any = numba.carray
# ExternalFunction, not ctypes: a callback that calls a ctypes function cannot be cached (a second at every restart of the stream).
_sem_post = _types.ExternalFunction("sem_post", _types.int32(_types.uintp))
_clock_gettime = _types.ExternalFunction("clock_gettime", _types.int32(_types.int32, _types.uintp))

CLOCK_MONOTONIC = 1
PA_INPUT_OVERFLOW, PA_OUTPUT_UNDERFLOW = 2, 4  # PaStreamCallbackFlags
TABLE_INDEX = t.TABLE_OFFSET // 8

_SIGNATURE = _types.int32(_types.voidptr, _types.voidptr, _types.uint64, _types.voidptr, _types.uint64, _types.voidptr)


@jit(_types.int64(_types.int64))
def bucket(ns: int) -> int:
    """`rtserver.shared.histogram.bucket`, natively."""
    octave, rest = -1, ns >> LOWEST
    while rest:
        rest >>= 1
        octave += 1
    if octave < 0:
        return 0
    return min((octave << 3) + ((ns >> (octave + LOWEST - 3)) & 7), N_BUCKETS - 1)


@cfunc(_SIGNATURE)
def stream_callback(indata: Any, outdata: Any, frames: Any, _time: Any, flags: Any, user: Any) -> Any:
    """Copy in, mix out, count, wake the engines."""
    table = _carray(user, (TABLE_INDEX + t.TABLE_SIZE,), numba.int64)[TABLE_INDEX:]
    n = numba.int64(frames)
    i64 = _carray(user, (table[t.I64_SIZE],), numba.int64)
    f32 = _carray(user, (table[t.I64_SIZE] * 2,), numba.float32)

    _clock_gettime(CLOCK_MONOTONIC, table[t.TIMESPEC_ADDRESS])
    stamp = table[t.TIMESPEC]
    now = i64[stamp] * 1_000_000_000 + i64[stamp + 1]
    last = table[t.LAST_NS]
    table[t.LAST_NS] = now
    if last > 0:
        interval = now - last
        i64[table[t.INTERVALS] + table[t.CALLBACKS] % t.INTERVAL_RING] = interval
        table[t.MAX_INTERVAL_NS] = max(table[t.MAX_INTERVAL_NS], interval)
        # 1.5 periods: a block was missed, whoever is to blame
        if interval * 2 * table[t.SAMPLE_RATE] > 3 * n * 1_000_000_000:
            table[t.LONG_INTERVALS] += 1
    table[t.CALLBACKS] += 1
    if flags & PA_INPUT_OVERFLOW:
        table[t.OVERFLOWS] += 1
    if flags & PA_OUTPUT_UNDERFLOW:
        table[t.UNDERFLOWS] += 1
    if n != table[t.BLOCK_SIZE]:
        table[t.BLOCK_CHANGES] += 1

    table[t.CLOCK_SEQUENCE] += 1
    table[t.CLOCK_FRAME] = table[t.FRAME] + n
    table[t.CLOCK_NS] = now
    table[t.CLOCK_SEQUENCE] += 1
    take_input(table, i64, f32, _carray(indata, (n, table[t.DEVICE_IN]), numba.float32))
    mix_output(table, i64, f32, _carray(outdata, (n, table[t.DEVICE_OUT]), numba.float32))
    for deck in range(t.N_DECKS):
        row = t.DECKS + deck * t.DECK_WIDTH
        if table[row + t.START] < t.FOREVER and table[row + t.END] > table[t.FRAME] - table[t.SAMPLE_RATE]:
            _sem_post(table[t.SEMAPHORES + deck])
    _clock_gettime(CLOCK_MONOTONIC, table[t.TIMESPEC_ADDRESS])
    took = i64[stamp] * 1_000_000_000 + i64[stamp + 1] - now
    times = table[t.TIMES]
    i64[times + bucket(took)] += 1
    i64[times + SUM_NS] += took
    i64[times + MAX_NS] = max(i64[times + MAX_NS], took)
    return 0


def bind(block: Block, semaphore_offsets: Sequence[int]) -> None:
    """Write this process's addresses into the table: they differ from process to process, and only the callback uses them.

    The semaphores are those of the engines, deck by deck.
    """
    table = block["audio.table"]
    table[t.I64_SIZE] = len(block.bytes) // 8
    table[t.SEMAPHORES : t.SEMAPHORES + t.N_DECKS] = [block.address + offset for offset in semaphore_offsets]
    table[t.TIMESPEC_ADDRESS] = block.address + block.offset("audio.timespec")
