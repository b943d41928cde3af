"""The mixer kernel: one block in, one block out. The same code runs in the native callback and offline.

For every output it adds the track's samples of `delay` frames ago to the device channels. Where they have not come, it goes on with
the last ones played backwards and fades them out over `FADE` frames (continuous in value, so no click, and no buffer has to be kept
in reserve for a fade) while the fallback, dry or silence, fades in; when they come again it fades back. Everything is decided frame by
frame, so the cut into blocks changes nothing, and everything decided is logged, so that it can be done again. Nothing here allocates,
raises or waits.
"""

from __future__ import annotations

from typing import Any

from rtserver.kernels import jit, numba

from rtserver.audio import table as t  # isort: skip

_types: Any = numba.types
_I64 = _types.Array(_types.int64, 1, "C")
_F32 = _types.Array(_types.float32, 1, "C")
_IO = _types.Array(_types.float32, 2, "C")

INVERSE_FADE = 1.0 / t.FADE


@jit(_types.boolean(_types.float32))
def _finite(x: float) -> bool:
    return abs(x) <= 3.4e38  # false for NaN and infinities; every finite sample of a sane signal passes


@jit(_types.void(_I64, _F32, _types.int64, _types.float32))
def _measure(table: Any, f32: Any, meter: int, x: float) -> None:
    """Take a sample into a meter's present window."""
    k = table[t.METER] + meter * 3
    f32[k] = max(f32[k], abs(x))
    f32[k + 1] += x * x
    if abs(x) >= numba.float32(1.0):
        f32[k + 2] += numba.float32(1.0)


@jit(_types.void(_I64, _F32, _types.int64))
def _close_window(table: Any, f32: Any, frame: int) -> None:
    """Publish every meter's window. An odd sequence number says that it is being written."""
    table[t.METER_SEQUENCE] += 1
    for k in range(6 * t.MAX_CHANNELS):
        x = f32[table[t.METER] + k]
        f32[table[t.METERS] + k] = x / numba.float32(table[t.METER_SIZE]) if k % 3 == 1 else x
        f32[table[t.METER] + k] = numba.float32(0.0)
    table[t.METER_FRAME] = frame
    table[t.METER_SEQUENCE] += 1


@jit(_types.void(_I64, _I64, _F32, _IO))
def take_input(table: Any, i64: Any, f32: Any, indata: Any) -> None:
    """Copy one device block (frames, channels) into the input ring, scrubbing what is not finite."""
    n = indata.shape[0]
    frame, mask, base = table[t.FRAME], table[t.IN_MASK], table[t.IN_SAMPLES]
    for c in range(table[t.DEVICE_IN]):
        row = base + c * (mask + 1)
        for i in range(n):
            x = indata[i, c]
            if not _finite(x):
                x = numba.float32(0.0)
                table[t.NONFINITE_IN] += 1
            f32[row + ((frame + i) & mask)] = x
    i64[table[t.IN_SPAN] + 1] = frame + n


@jit(_types.int64(_I64, _I64, _types.int64, _types.int64, _types.int64, _types.int64))
def _log(table: Any, i64: Any, kind: int, output: int, frame: int, value: int) -> int:  # noqa: PLR0917
    """Append a row to the log; returns the place of its last column."""
    k = table[t.LOG] + (table[t.LOG_WRITTEN] % t.LOG_RING) * 4
    i64[k], i64[k + 1], i64[k + 2], i64[k + 3] = kind, output, frame, value
    table[t.LOG_WRITTEN] += 1
    return k + 3  # type: ignore[no-any-return]


@jit(_types.void(_I64, _I64, _F32, _types.int64, _types.int64, _types.int64))
def _apply(table: Any, i64: Any, f32: Any, output: int, key: int, frame: int) -> None:  # noqa: PLR0917
    """Make a waiting value the target of its ramp, and log it."""
    value = f32[table[t.VALUES] + output * 2 + key]
    f32[table[t.MIX] + output * 6 + 2 * key] = value
    i64[table[t.PENDING] + output * 2 + key] = t.NOTHING
    place = _log(table, i64, t.LOG_LEVEL + key, output, frame, 0)
    f32[2 * place] = value


@jit(_types.float32(_types.float32, _types.float32, _types.float32))
def _toward(present: float, target: float, step: float) -> float:
    if present < target:
        return min(present + step, target)
    return max(present - step, target)


@jit(_types.float32(_I64, _types.int64, _types.int64, _types.float32))
def _deck_gain(table: Any, deck: int, m: int, step: float) -> float:
    """The crossfade of decks: a function of the frame alone; exactly 1 while a deck plays."""
    row = t.DECKS + deck * t.DECK_WIDTH
    since, left = m - table[row + t.START], table[row + t.END] - m
    gain = numba.float32(1.0)
    if since < 65536:
        gain = min(gain, numba.float32(since + 1) * step)
    if left < 0:
        gain = min(gain, max(numba.float32(0.0), numba.float32(1.0) + numba.float32(left) * step))
    return gain  # type: ignore[no-any-return]


@jit(_types.void(_I64, _I64, _types.int64, _types.int64))
def _begin_clicks(table: Any, i64: Any, deck: int, n: int) -> None:
    """Let the clicks of a deck begin that are due in this block of `n` frames. One whose frame is past is left out, not cut into.

    So is one within 20 ms of the one before: an heir of the performer tells anew of what its predecessor had told.
    """
    row = t.DECKS + deck * t.DECK_WIDTH
    frame, apart = table[t.FRAME], table[t.SAMPLE_RATE] // 50
    while table[row + t.CLICKS_READ] < i64[table[t.CLICK_COUNTS] + deck]:
        k = table[t.CLICKS] + (deck * t.CLICK_RING + table[row + t.CLICKS_READ] % t.CLICK_RING) * 2
        due, stroke = i64[k], i64[k + 1]
        if due >= frame + n:
            return
        table[row + t.CLICKS_READ] += 1
        if table[row + t.CLICK_OUTPUT] < 0:
            continue
        if due < frame:
            table[t.LATE_CLICKS] += 1
            continue
        begun, voices = table[row + t.CLICKS_BEGUN], table[t.VOICES] + deck * t.N_VOICES * 2
        if begun > 0 and due - i64[voices + (begun - 1) % t.N_VOICES * 2] < apart:
            continue
        v = voices + begun % t.N_VOICES * 2
        i64[v], i64[v + 1] = due, stroke
        table[row + t.CLICKS_BEGUN] += 1
        _log(table, i64, t.LOG_CLICK, table[row + t.CLICK_OUTPUT], due, stroke)


@jit(_types.float32(_I64, _I64, _F32, _types.int64, _types.int64))
def _click(table: Any, i64: Any, f32: Any, deck: int, m: int) -> float:
    """What the clicks of a deck that have begun sound like at frame `m`."""
    size = table[t.BURST_SIZE]
    y = numba.float32(0.0)
    for k in range(t.N_VOICES):  # all of them, in their places: the order of a sum, and so its last bit, must not depend on the block
        v = table[t.VOICES] + (deck * t.N_VOICES + k) * 2
        since, stroke = m - i64[v], i64[v + 1]
        if 0 <= since < size:
            burst = table[t.BURSTS] + (t.BURST_ROOM if stroke >= t.ACCENT else 0) + since
            y += f32[burst] * numba.float32(stroke % t.ACCENT) * numba.float32(1.0 / 127.0)
    return y  # type: ignore[no-any-return]


@jit(_types.void(_I64, _I64, _F32, _IO, _types.int64, _types.int64, _types.int64, _types.int64))
def _mix_one(table: Any, i64: Any, f32: Any, outdata: Any, deck: int, o: int, first: int, last_route: int) -> None:  # noqa: PLR0917
    """Add the output of row `o`, whose routes lie in [first, last_route), to the block."""
    n = outdata.shape[0]
    frame = table[t.FRAME]
    start = table[t.DECKS + deck * t.DECK_WIDTH + t.START]
    in_base, in_mask = table[t.IN_SAMPLES], table[t.IN_MASK]
    row = t.OUTPUTS + o * t.OUTPUT_WIDTH
    track, delay, dry_delay = table[row + t.TRACK], table[row + t.DELAY], table[row + t.DRY_DELAY]
    if delay > 0:  # the engine's, or aligned with the engine's
        delay, dry_delay = delay + table[t.EXTRA_TAKEN], dry_delay + table[t.EXTRA_TAKEN]
    fallback_dry = table[row + t.FALLBACK_DRY] != 0
    base, mask = table[row + t.SAMPLES], table[row + t.MASK]
    force_from, force_until = table[row + t.FORCE_FROM], table[row + t.FORCE_UNTIL]
    valid_from, written_to = numba.int64(0), numba.int64(0)
    if track >= 0:
        valid_from, written_to = i64[table[row + t.SPAN]], i64[table[row + t.SPAN] + 1]
    concealing, last = table[row + t.CONCEALING], table[row + t.LAST_FRAME]
    mix = table[t.MIX] + o * 6
    level, bypass, wet, step = f32[mix + t.LEVEL], f32[mix + t.BYPASS], f32[mix + t.WET], f32[mix + t.STEP]
    one, nothing = numba.float32(1.0), numba.float32(0.0)
    for i in range(n):
        m = frame + i
        if m < start:
            continue
        for key in range(2):
            if m >= i64[table[t.PENDING] + o * 2 + key]:
                _apply(table, i64, f32, o, key, m)
        level = _toward(level, f32[mix + t.TARGET_LEVEL], step)
        bypass = _toward(bypass, f32[mix + t.TARGET_BYPASS], step)
        index = m - delay
        there = track < 0 or index < 0 or (valid_from <= index < written_to)
        if force_from <= m < force_until:
            there = False
        if there != (table[row + t.ABSENT_FROM] < 0):
            if there:
                _log(table, i64, t.LOG_ABSENT, o, table[row + t.ABSENT_FROM], m - table[row + t.ABSENT_FROM])
                table[row + t.ABSENT_FROM] = -1
            else:
                table[row + t.ABSENT_FROM] = m
        source = index
        if there and concealing == 0:
            last = index
            wet = min(wet + numba.float32(INVERSE_FADE), one)
        else:
            concealing = 1
            source = 2 * last - index + 1
            wet = max(wet - numba.float32(INVERSE_FADE), nothing)
            if wet == nothing and there:
                concealing = 0
                last = index
                source = index
        if wet < one:
            table[row + t.LATE_FRAMES] += 1
            if table[row + t.MISS_FROM] < 0:
                table[row + t.MISS_FROM] = m
        elif table[row + t.MISS_FROM] >= 0:
            _log(table, i64, t.LOG_MISS, o, table[row + t.MISS_FROM], m - table[row + t.MISS_FROM])
            table[row + t.MISS_FROM] = -1
            table[t.MISSES] += 1
        gain = level * _deck_gain(table, deck, m, step)
        click = _click(table, i64, f32, deck, m) if track == t.CLICK else nothing
        for r in range(first, last_route):
            route = t.ROUTES + r * t.ROUTE_WIDTH
            if table[route] == o:
                if track == t.CLICK:
                    outdata[i, table[route + 3]] += gain * click
                    continue
                dry = f32[in_base + table[route + 2] * (in_mask + 1) + ((m - dry_delay) & in_mask)]
                if track < 0:
                    y = dry
                else:
                    y = wet * f32[base + table[route + 1] * (mask + 1) + (source & mask)]
                    if fallback_dry and wet < one:
                        y += (one - wet) * dry
                    if bypass == one:
                        y = dry
                    elif bypass > nothing:
                        y = (one - bypass) * y + bypass * dry
                outdata[i, table[route + 3]] += gain * y
    table[row + t.CONCEALING], table[row + t.LAST_FRAME] = concealing, last
    f32[mix + t.LEVEL], f32[mix + t.BYPASS], f32[mix + t.WET] = level, bypass, wet


@jit(_types.void(_I64, _I64, _F32, _IO))
def mix_output(table: Any, i64: Any, f32: Any, outdata: Any) -> None:
    """Fill one device block (frames, channels) from the tracks, measure it, keep it, and advance the session frame."""
    n = outdata.shape[0]
    frame = table[t.FRAME]
    outdata[:, :] = 0.0
    extra = table[t.EXTRA_DELAY]
    if extra != table[t.EXTRA_TAKEN]:  # for all outputs at the same frame
        table[t.EXTRA_TAKEN] = extra
        _log(table, i64, t.LOG_LAG, table[t.PLAYING] * t.MAX_OUTPUTS, frame, extra)
    ramp = numba.int64(t.RAMP_S * table[t.SAMPLE_RATE]) + 2
    for deck in range(t.N_DECKS):
        row = t.DECKS + deck * t.DECK_WIDTH
        if frame + n <= table[row + t.START] or frame >= table[row + t.END] + ramp:
            continue
        _begin_clicks(table, i64, deck, n)
        first = deck * t.MAX_ROUTES
        for k in range(table[row + t.N_OUTPUTS]):
            _mix_one(table, i64, f32, outdata, deck, deck * t.MAX_OUTPUTS + k, first, first + table[row + t.N_ROUTES])
    in_base, in_mask = table[t.IN_SAMPLES], table[t.IN_MASK]
    base, mask = table[t.PLAYED], table[t.PLAYED_MASK]
    for i in range(n):
        for c in range(outdata.shape[1]):
            y = outdata[i, c]
            if not _finite(y):
                y = numba.float32(0.0)
                outdata[i, c] = y
                table[t.NONFINITE_OUT] += 1
            elif abs(y) > 1.0:
                table[t.CLIPPED] += 1
            f32[base + c * (mask + 1) + ((frame + i) & mask)] = y
            _measure(table, f32, t.MAX_CHANNELS + c, y)
        for c in range(table[t.DEVICE_IN]):
            _measure(table, f32, c, f32[in_base + c * (in_mask + 1) + ((frame + i) & in_mask)])
        if (frame + i + 1) % table[t.METER_SIZE] == 0:
            _close_window(table, f32, frame + i + 1)
    i64[table[t.PLAYED_SPAN] + 1] = frame + n
    table[t.FRAME] = frame + n
