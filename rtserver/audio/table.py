"""The audio callback's table: one array of int64 at a fixed place in the shared block, where kernel and roles meet.

No numba here: the gateway and the supervisor read the counters. Two decks of outputs are there, so that the next song can be laid out
while this one plays; an output's row is ``deck * MAX_OUTPUTS + its index``. Arrays behind the table, with their writers:

- ``audio.mix`` float32 (N_ROWS, 6): target and present level, target and present bypass, share of wet (0..1), step of a ramp a frame
- ``audio.pending`` int64 (N_ROWS, 2): session frame from which ``audio.values`` is the target of LEVEL or BYPASS; NOTHING when none waits.
  The engine arms it, the kernel clears it.
- ``audio.values`` float32 (N_ROWS, 2): those targets (engine)
- ``audio.log`` int64 (LOG_RING, 4): what the kernel did: kind, output's row, session frame, frames or the bits of a float32
- ``audio.meter``, ``audio.meters`` float32 (2 MAX_CHANNELS, 3): peak, sum of squares (mean square in the second), clipped samples: the
  window being measured, and the last whole one; device inputs first, then device outputs
- ``audio.intervals`` int64 (INTERVAL_RING,): nanoseconds between callbacks
- ``audio.times`` int64 (N_CELLS,): a histogram of the time that a callback takes (`rtserver.shared.histogram`)
- ``audio.clicks`` int64 (N_DECKS, CLICK_RING, 2), ``audio.clicks.count`` int64 (N_DECKS,): due frame and stroke of what is to be clicked,
  in the order of their frames; how many have been told (the deck's performer, see `rtserver.audio.clicks`)
- ``audio.voices`` int64 (N_DECKS, N_VOICES, 2): those that have begun (kernel)
- ``audio.bursts`` float32 (2, BURST_ROOM): what a click sounds like, a beat's and a bar line's
- ``audio.epochs`` int64 (EPOCH_RING, 2): first session frame of every stream, CLOCK_MONOTONIC ns of its start (audio role)
"""

from __future__ import annotations

from rtserver.shared.histogram import N_CELLS
from rtserver.shared.memory import ALIGNMENT, HEADER_SIZE, SETUP_SIZE, Block, Layout

TABLE_SIZE = 1280
TABLE_OFFSET = -(-(HEADER_SIZE + SETUP_SIZE) // ALIGNMENT) * ALIGNMENT  # bytes: the table is the first field of the block
LOG_RING = 2048
INTERVAL_RING = 8192
EPOCH_RING = 256

# What the kernel is told (written before the stream starts)
DEVICE_IN, DEVICE_OUT, BLOCK_SIZE, SAMPLE_RATE, HOP_SIZE, METER_SIZE = range(6)
IN_SAMPLES, IN_SPAN, IN_MASK, PLAYED, PLAYED_SPAN, PLAYED_MASK = range(8, 14)  # offsets, see `plan.fill`
MIX, PENDING, VALUES, LOG, INTERVALS, TIMESPEC, METER, METERS = range(14, 22)
I64_SIZE, TIMESPEC_ADDRESS, SEMAPHORES = range(22, 25)  # SEMAPHORES: one a deck; of the audio process, see `callback.bind`

# What the kernel keeps and counts
FRAME, CALLBACKS, LONG_INTERVALS, LAST_NS, MAX_INTERVAL_NS = range(28, 33)
CLOCK_SEQUENCE, CLOCK_FRAME, CLOCK_NS = range(33, 36)
OVERFLOWS, UNDERFLOWS, NONFINITE_IN, NONFINITE_OUT, CLIPPED, MISSES, BLOCK_CHANGES, LOG_WRITTEN = range(36, 44)
METER_SEQUENCE, METER_FRAME = range(44, 46)

EPOCHS = 46  # streams started so far (audio role)
PLAYING = 47  # the deck that is heard, or about to be (supervisor)
TIMES = 48  # offset of `audio.times`; what the kernel is told, like those above
BURSTS, CLICKS, CLICK_COUNTS, VOICES = range(49, 53)  # offsets
BURST_SIZE, LATE_CLICKS = 53, 54  # frames; clicks that came when their frame was past
EXTRA_DELAY = 60  # frames by which outputs of the engine lag more than planned: JACK's period is longer than the block (cables)
EXTRA_TAKEN = 61  # the same as the kernel has taken it, at the start of a block

COUNTERS = {
    "callbacks": CALLBACKS,
    "long_intervals": LONG_INTERVALS,
    "max_interval_ns": MAX_INTERVAL_NS,
    "input_overflows": OVERFLOWS,
    "output_underflows": UNDERFLOWS,
    "nonfinite_in": NONFINITE_IN,
    "nonfinite_out": NONFINITE_OUT,
    "clipped": CLIPPED,
    "misses": MISSES,
    "late_clicks": LATE_CLICKS,
    "block_changes": BLOCK_CHANGES,
}

MAX_CHANNELS = 32  # of the device, each way

# One row of DECK_WIDTH a deck: it is heard from START to END, with a crossfade of RAMP_S at either side
DECKS, DECK_WIDTH, N_DECKS = 64, 16, 2
N_OUTPUTS, N_ROUTES, START, END, LOG_READ, CLICKS_READ, CLICKS_BEGUN, CLICK_OUTPUT = range(8)  # CLICK_OUTPUT: the first one's row; or -1
SCRIPTED = 8  # whether clicks come from a log: replay only

# One row of OUTPUT_WIDTH an output, one row of ROUTE_WIDTH a route: output's row, channel of the track, input channel, output channel
OUTPUTS, OUTPUT_WIDTH, MAX_OUTPUTS = 128, 16, 16
TRACK, DELAY, DRY_DELAY, FALLBACK_DRY, SAMPLES, SPAN, MASK, CONCEALING, LAST_FRAME, MISS_FROM, LATE_FRAMES = range(11)
ABSENT_FROM, FORCE_FROM, FORCE_UNTIL = range(11, 14)  # a track is taken as absent in [FORCE_FROM, FORCE_UNTIL): replay only
ROUTES, ROUTE_WIDTH, MAX_ROUTES = 640, 4, 64
N_ROWS = N_DECKS * MAX_OUTPUTS

TARGET_LEVEL, LEVEL, TARGET_BYPASS, BYPASS, WET, STEP = range(6)  # columns of audio.mix
KEYS = ("level", "bypass")  # columns of audio.pending
NOTHING = FOREVER = 1 << 62

LOG_MISS, LOG_ABSENT, LOG_LEVEL, LOG_BYPASS, LOG_LAG, LOG_CLICK = range(6)  # kinds of rows in audio.log

FADE = 64  # frames of a concealing fade: 1.3 ms at 48 kHz, long enough not to click, short enough to use a spent buffer
RAMP_S = 0.02  # seconds of a gain change from 0 to 1, and of the crossfade of two decks
DRY, CLICK = -1, -2  # what stands for the track of an output that has none
CLICK_RING, N_VOICES = 256, 16
BURST_ROOM, ACCENT = 8192, 128  # frames; added to the velocity of a bar line's stroke
METER_S = 0.05  # seconds a meter looks at


def declare(layout: Layout) -> None:
    """Reserve the table and its arrays. Must be the first fields of the layout: the callback knows the table's place by heart."""
    layout.add("audio.table", "<i8", (TABLE_SIZE,))
    assert layout.fields["audio.table"].offset == TABLE_OFFSET
    layout.add("audio.mix", "<f4", (N_ROWS, 6))
    layout.add("audio.pending", "<i8", (N_ROWS, 2))
    layout.add("audio.values", "<f4", (N_ROWS, 2))
    layout.add("audio.log", "<i8", (LOG_RING, 4))
    layout.add("audio.meter", "<f4", (2 * MAX_CHANNELS, 3))
    layout.add("audio.meters", "<f4", (2 * MAX_CHANNELS, 3))
    layout.add("audio.intervals", "<i8", (INTERVAL_RING,))
    layout.add("audio.times", "<i8", (N_CELLS,))
    layout.add("audio.epochs", "<i8", (EPOCH_RING, 2))
    layout.add("audio.clicks", "<i8", (N_DECKS, CLICK_RING, 2))
    layout.add("audio.clicks.count", "<i8", (N_DECKS,))
    layout.add("audio.voices", "<i8", (N_DECKS, N_VOICES, 2))
    layout.add("audio.bursts", "<f4", (2, BURST_ROOM))
    layout.add("audio.timespec", "<i8", (2,))


def epochs(block: Block) -> list[tuple[int, int, int]]:
    """The latest starts of the stream: (epoch, first session frame, CLOCK_MONOTONIC ns), oldest first."""
    if "audio.table" not in block:
        return []
    n, rows = int(block["audio.table"][EPOCHS]), block["audio.epochs"]
    latest = ((k, rows[k % EPOCH_RING]) for k in range(max(0, n - EPOCH_RING), n))
    return [(k, int(row[0]), int(row[1])) for k, row in latest]


def playing(block: Block) -> int:
    """The deck that is heard, or about to be."""
    return int(block["audio.table"][PLAYING]) if "audio.table" in block else 0


def heard(block: Block) -> int:
    """The deck that is heard now: one that is about to be heard leaves that to the other until its first frame."""
    deck = playing(block)
    if "audio.table" in block:
        table = block["audio.table"]
        starts = [int(table[DECKS + k * DECK_WIDTH + START]) for k in (deck, 1 - deck)]
        if int(table[FRAME]) < starts[0] < FOREVER and starts[1] < FOREVER:
            return 1 - deck
    return deck


def begins(block: Block, deck: int) -> int:
    """The session frame from which the song on a deck is heard; 0 for the first one."""
    return max(int(block["audio.table"][DECKS + deck * DECK_WIDTH + START]), 0) if "audio.table" in block else 0


def counters(block: Block) -> dict[str, int]:
    """The audio role's counters, since the session began."""
    table = block["audio.table"]
    return {name: int(table[index]) for name, index in COUNTERS.items()}
