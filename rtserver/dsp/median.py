"""Medians across rows or bins, as code without branches that runs on whole vectors of bins at once.

Up to `MAX_NETWORK` values the median is read off a sorting network written out as minima and maxima: no loop, no memory, so LLVM
vectorises the loop over bins around it and drops every comparison that the middle value does not depend on. Longer medians over time keep
each bin's values sorted and exchange one a hop, one pass of minima and maxima over the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.kernels import inlined, jit, numba

F32 = npt.NDArray[np.float32]

# Beyond this the values of a network no longer fit the vector registers, and the sorted rows win.
MAX_NETWORK = 21


def sorting_network(n: int) -> list[tuple[int, int]]:
    """Comparators (i, j), i < j, that sort n values: Batcher's odd-even merge exchange for any n.

    References
    ----------
    D. E. Knuth, "The Art of Computer Programming", vol. 3, algorithm 5.2.2M (K. E. Batcher, 1968).
    """
    pairs: list[tuple[int, int]] = []
    p = top = 1 << max(0, (n - 1).bit_length() - 1)
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return pairs


def _median_of(typing: Any, values: Any, first: Any, stride: Any, n: Any) -> Any:
    """The median of ``values[first], values[first + stride], …`` (n of them, n odd and a constant), as straight-line code."""
    count: int = n.literal_value

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(values)(context, builder, args[0]).data
        x = [
            builder.load(builder.gep(data, [builder.add(args[1], builder.mul(args[2], context.get_constant(numba.int64, i)))]))
            for i in range(count)
        ]
        for i, j in sorting_network(count):
            less = builder.fcmp_ordered("<", x[i], x[j])
            x[i], x[j] = builder.select(less, x[i], x[j]), builder.select(less, x[j], x[i])
        return x[count // 2]

    return numba.float32(values, numba.int64, numba.int64, n), emit


median_of: Any = numba.extending.intrinsic(prefer_literal=True)(_median_of)


@jit("void(float32[::1], int64, int64, int64, float32[::1], int64, float32[::1], int64)", forceinline=True)
def exchange_sorted(rows: F32, at: int, n: int, n_bins: int, old: F32, old_at: int, carry: F32, carry_at: int) -> None:  # noqa: PLR0917
    """Per bin, take one value out of n ascending ones and put another in.

    ``rows[at + i * n_bins + k]`` is the i-th smallest value of bin k, ``old[old_at + k]`` the value to take out (it must be among them),
    ``carry[carry_at + k]`` the one to put in; carry is used up. From the old value on the column moves down by one, while the new value
    rises: at each row the smaller one stays and the larger one goes on. No branch, so vectors run along the bins.
    """
    for i in range(n - 1):
        row = at + i * n_bins
        for k in range(n_bins):
            value = rows[row + k] if rows[row + k] < old[old_at + k] else rows[row + n_bins + k]
            new = carry[carry_at + k]
            rows[row + k] = value if value < new else new
            carry[carry_at + k] = new if value < new else value
    for k in range(n_bins):
        rows[at + (n - 1) * n_bins + k] = carry[carry_at + k]


@inlined
def median_of_past(  # noqa: PLR0917
    state: F32,
    scratch: F32,
    value_at: int,
    around_at: int,
    out_at: int,
    n_hops: int,
    n_bins: int,
    n_past: int,
    past_step: int,
    n_fill: int,
    sorted_rows: bool,
    stands_out: bool,
) -> None:
    """Per bin, the median of the newest value and of those kept of every `past_step`-th hop before it, `n_past` in all; the newest is kept.

    Until the first window is full (`n_fill` hops) nothing is known of the past. Then the newest value is taken for what there was or, where
    only what `stands_out` has sounded before, as much of it as is above the median along frequency; and the history begins with that.

    state : ``[phase][slot][bin]``, where rows are kept sorted the same again, and what the past is taken to have been
    scratch : at `value_at` the newest values, at `around_at` their medians along frequency; the result goes to `out_at`
    n_hops : since reset
    """
    history = past_step * n_past * n_bins
    before = history * (2 if sorted_rows else 1)
    if n_hops < n_fill:
        for k in range(n_bins):
            ridge = scratch[value_at + k] - (scratch[around_at + k] if stands_out else np.float32(0.0))
            state[before + k] = ridge if ridge > np.float32(0.0) else np.float32(0.0)
            scratch[out_at + k] = state[before + k]
    else:
        n = n_hops - n_fill
        rows = n % past_step * n_past * n_bins
        if n < past_step:
            for i in range(n_past):
                for k in range(n_bins):
                    state[rows + i * n_bins + k] = state[before + k]
                    if sorted_rows:
                        state[history + rows + i * n_bins + k] = state[before + k]
        newest = rows + n // past_step % n_past * n_bins
        if sorted_rows:
            for k in range(n_bins):
                scratch[out_at + k] = scratch[value_at + k]
            exchange_sorted(state, history + rows, n_past, n_bins, state, newest, scratch, out_at)
        for k in range(n_bins):
            state[newest + k] = scratch[value_at + k]
        if sorted_rows:
            for k in range(n_bins):
                scratch[out_at + k] = state[history + rows + n_past // 2 * n_bins + k]
        else:
            for k in range(n_bins):
                scratch[out_at + k] = median_of(state, rows + k, n_bins, n_past)
