"""The mixer kernel: one block in, one block out. The same code runs in the native callback and offline.

For every output it adds the track's samples of `delay` frames ago to the device channels. Where they have not come, it goes on with
the last ones played backwards and fades them out over `FADE` frames (continuous in value, so no click, and no buffer has to be kept
in reserve for a fade) while the fallback, dry or silence, fades in; when they come again it fades back. Everything is decided frame by
frame, so the cut into blocks changes nothing. Nothing here allocates, raises or waits.
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


@jit(_types.void(_I64, _I64, _F32, _IO))
def take_input(table: Any, i64: Any, f32: Any, indata: Any) -> None:
    """Copy one device block (frames, channels) into the input ring, scrubbing what is not finite."""
    n = indata.shape[0]
    frame, mask, base = table[t.FRAME], table[t.IN_MASK], table[t.IN_SAMPLES]
    for c in range(table[t.N_CHANNELS]):
        device = table[t.IN_MAP + c]
        row = base + c * (mask + 1)
        for i in range(n):
            x = indata[i, device]
            if not _finite(x):
                x = numba.float32(0.0)
                table[t.NONFINITE_IN] += 1
            f32[row + ((frame + i) & mask)] = x
    i64[table[t.IN_SPAN] + 1] = frame + n


@jit(_types.void(_I64, _I64, _types.int64, _types.int64))
def _log_miss(table: Any, i64: Any, output: int, until: int) -> None:
    """Write the miss that has just ended into the ring of misses."""
    row = t.OUTPUTS + output * t.OUTPUT_WIDTH
    k = table[t.MISSES] + (table[t.MISSES_WRITTEN] % t.MISS_RING) * 3
    i64[k], i64[k + 1], i64[k + 2] = output, table[row + t.MISS_FROM], until - table[row + t.MISS_FROM]
    table[t.MISSES_WRITTEN] += 1
    table[row + t.MISS_FROM] = -1


@jit(_types.void(_I64, _I64, _F32, _IO))
def mix_output(table: Any, i64: Any, f32: Any, outdata: Any) -> None:
    """Fill one device block (frames, channels) from the tracks, and advance the session frame."""
    n = outdata.shape[0]
    frame = table[t.FRAME]
    outdata[:, :] = 0.0
    in_base, in_mask = table[t.IN_SAMPLES], table[t.IN_MASK]
    for o in range(table[t.N_OUTPUTS]):
        row = t.OUTPUTS + o * t.OUTPUT_WIDTH
        track, delay, dry_delay = table[row + t.TRACK], table[row + t.DELAY], table[row + t.DRY_DELAY]
        fallback_dry = table[row + t.FALLBACK_DRY] != 0
        base, mask = table[row + t.SAMPLES], table[row + t.MASK]
        valid_from, written_to = numba.int64(0), numba.int64(0)
        if track >= 0:
            valid_from, written_to = i64[table[row + t.SPAN]], i64[table[row + t.SPAN] + 1]
        concealing, last = table[row + t.CONCEALING], table[row + t.LAST_FRAME]
        mix = table[t.MIX] + o * 4
        target, gain, wet, step = f32[mix], f32[mix + 1], f32[mix + 2], f32[mix + 3]
        effective = i64[table[t.PENDING] + o]
        late = 0
        for i in range(n):
            m = frame + i
            if m >= effective:
                if gain < target:
                    gain = min(gain + step, target)
                elif gain > target:
                    gain = max(gain - step, target)
            index = m - delay
            there = track < 0 or index < 0 or (valid_from <= index < written_to)
            source = index
            if there and concealing == 0:
                last = index
                wet = min(wet + numba.float32(INVERSE_FADE), numba.float32(1.0))
            else:
                concealing = 1
                source = 2 * last - index + 1
                wet = max(wet - numba.float32(INVERSE_FADE), numba.float32(0.0))
                if wet == 0.0 and there:
                    concealing = 0
                    last = index
                    source = index
            if wet < 1.0:
                late += 1
                if table[row + t.MISS_FROM] < 0:
                    table[row + t.MISS_FROM] = m
            elif table[row + t.MISS_FROM] >= 0:
                _log_miss(table, i64, o, m)
            for r in range(table[t.N_ROUTES]):
                route = t.ROUTES + r * t.ROUTE_WIDTH
                if table[route] == o:
                    c = table[route + 1]
                    dry = f32[in_base + c * (in_mask + 1) + ((m - dry_delay) & in_mask)]
                    if track < 0:
                        y = dry
                    else:
                        y = wet * f32[base + c * (mask + 1) + (source & mask)]
                        if fallback_dry and wet < 1.0:
                            y += (numba.float32(1.0) - wet) * dry
                    outdata[i, table[route + 2]] += gain * y
        table[row + t.LATE_FRAMES] += late
        table[row + t.CONCEALING], table[row + t.LAST_FRAME] = concealing, last
        f32[mix + 1], f32[mix + 2] = gain, wet
    for i in range(n):
        for c in range(outdata.shape[1]):
            y = outdata[i, c]
            if not _finite(y):
                outdata[i, c] = 0.0
                table[t.NONFINITE_OUT] += 1
            elif abs(y) > 1.0:
                table[t.CLIPPED] += 1
    table[t.FRAME] = frame + n
