"""The audio callback's table: one array of int64 at a fixed place in the shared block, where kernel and roles meet.

No numba here: the gateway and the supervisor read the counters. Rows of the arrays behind the table:

- ``audio.mix`` float32 (n_outputs, 4): target gain, present gain, share of wet (0..1), gain step a frame
- ``audio.pending`` int64 (n_outputs,): session frame from which the target gain holds
- ``audio.misses`` int64 (MISS_RING, 3): output, first frame, frames — one row a finished miss
- ``audio.intervals`` int64 (INTERVAL_RING,): nanoseconds between callbacks
"""

from __future__ import annotations

from rtserver.shared.memory import ALIGNMENT, HEADER_SIZE, SETUP_SIZE, Block, Layout

TABLE_SIZE = 1024
TABLE_OFFSET = -(-(HEADER_SIZE + SETUP_SIZE) // ALIGNMENT) * ALIGNMENT  # bytes: the table is the first field of the block
MISS_RING = 1024
INTERVAL_RING = 8192

# What the kernel is told (written by the audio role before the stream starts)
N_CHANNELS, N_OUTPUTS, N_ROUTES, DEVICE_IN, DEVICE_OUT, BLOCK_SIZE, SAMPLE_RATE, HOP_SIZE = range(8)
IN_SAMPLES, IN_SPAN, IN_MASK, MIX, PENDING, MISSES, INTERVALS, TIMESPEC = range(8, 16)  # offsets, see `plan.fill`
I64_SIZE, SEMAPHORE_ADDRESS, TIMESPEC_ADDRESS = range(16, 19)  # of the audio process, see `callback.bind`

# What the kernel keeps and counts
FRAME, CALLBACKS, LONG_INTERVALS, LAST_NS, MAX_INTERVAL_NS = range(24, 29)
CLOCK_SEQUENCE, CLOCK_FRAME, CLOCK_NS = range(29, 32)
OVERFLOWS, UNDERFLOWS, NONFINITE_IN, NONFINITE_OUT, CLIPPED, MISSES_WRITTEN, BLOCK_CHANGES = range(32, 39)

COUNTERS = {
    "callbacks": CALLBACKS,
    "long_intervals": LONG_INTERVALS,
    "max_interval_ns": MAX_INTERVAL_NS,
    "input_overflows": OVERFLOWS,
    "output_underflows": UNDERFLOWS,
    "nonfinite_in": NONFINITE_IN,
    "nonfinite_out": NONFINITE_OUT,
    "clipped": CLIPPED,
    "misses": MISSES_WRITTEN,
}

IN_MAP = 48  # device channel (from 0) of each input channel
MAX_CHANNELS = 16

# One row of OUTPUT_WIDTH an output, one row of ROUTE_WIDTH a route
OUTPUTS, OUTPUT_WIDTH, MAX_OUTPUTS = 64, 12, 16
TRACK, DELAY, DRY_DELAY, FALLBACK_DRY, SAMPLES, SPAN, MASK, CONCEALING, LAST_FRAME, MISS_FROM, LATE_FRAMES = range(11)
ROUTES, ROUTE_WIDTH, MAX_ROUTES = 256, 3, 64

FADE = 64  # frames of a concealing fade: 1.3 ms at 48 kHz, long enough not to click, short enough to use a spent buffer
RAMP_S = 0.02  # seconds of a gain change from 0 to 1


def declare(layout: Layout, n_outputs: int) -> None:
    """Reserve the table and its arrays. Must be the first fields of the layout: the callback knows the table's place by heart."""
    layout.add("audio.table", "<i8", (TABLE_SIZE,))
    assert layout.fields["audio.table"].offset == TABLE_OFFSET
    layout.add("audio.mix", "<f4", (n_outputs, 4))
    layout.add("audio.pending", "<i8", (n_outputs,))
    layout.add("audio.misses", "<i8", (MISS_RING, 3))
    layout.add("audio.intervals", "<i8", (INTERVAL_RING,))
    layout.add("audio.timespec", "<i8", (2,))


def counters(block: Block) -> dict[str, int]:
    """The audio role's counters, since the session began."""
    table = block["audio.table"]
    return {name: int(table[index]) for name, index in COUNTERS.items()}
