"""On-line time warping that reconsiders: a forward path, and every few hops a backward path and a new forward path from its end.

A. Arzt, G. Widmer and S. Dixon, "Automatic page turning for musicians via real-time machine listening", Proc. ECAI 2008. From the paper:
the forward path of on-line time warping (S. Dixon, "Live tracking of musical performances using on-line time warping", DAFx-05, 2005) with
a weight for diagonal steps and another for straight ones; every two input frames the way back is traced from the current position, over 10
frames of the score, each fifth time over 50, and from where it ends the forward path is built anew until it meets the newest row or column:
the position is where the new path ends (backward-forward, strategy 1).

What differs. A frame here is 10 ms and not 20, so all counts of frames are doubled but for the search width: c is 5 s and not 10. An input
frame is taken when it comes; the paper asks for one when the path wants it, which with one call an input is the same. Strategy 2, which
weighs alternatives at note onsets, is not there: the paper does not give all of it.

The square of the newest c inputs by the newest c elements of the reference is kept whole: path costs divided by their length, and the step
that led into each cell. Cell (t, k) lies at ``[t % c, k % c]``; as rows and columns are computed over c cells, none in the square is stale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.following.oltw import BOTH, COLUMN, NONE, ROW, half_square
from rtserver.kernels import jit

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

# Slots of the integer state: the newest row (input) and column (element of the reference); the position of the path; the run of `get_inc`
# and its last choice; inputs since the last backward path, and how many of those there were.
T, J, X, Y, RUN, PREVIOUS, SINCE, TIMES = 0, 1, 2, 3, 4, 5, 6, 7
N_STATE = 8
DIAGONAL, UP, LEFT, START = 0, 1, 2, 3  # came from (t - 1, k - 1), from (t - 1, k), from (t, k - 1), from nowhere
LEAST_STEP = 0.25  # frames of the reference that an element spans at least
OWED = 25.0  # frames by which the reference may be ahead because attacks were not stretched: more than one attack at the slowest rate


@jit("int32(int32[::1], int64, int64)")
def least(ring: Int32s, first: int, stop: int) -> int:
    """The least of elements `first` to `stop` - 1 of a ring, at most as many as it has; the largest number there is if they are none.

    Written out, as `min` takes four times as long.
    """
    c = ring.shape[0]
    a, n = first % c, stop - first
    found = np.int32(2147483647)
    head, tail = ring[a : min(a + n, c)], ring[: max(a + n - c, 0)]
    for i in range(head.shape[0]):
        found = head[i] if head[i] < found else found
    for i in range(tail.shape[0]):
        found = tail[i] if tail[i] < found else found
    return int(found)


@jit("int64(int32[:,::1], int32[:,::1], int64[::1], int64, int64)")
def get_inc(cost: Int32s, turned: Int32s, state: Ints, n_start: int, max_run: int) -> int:
    """Which sequence advances from the position of the path (Dixon's GetInc, at any cell of the square).

    Costs come as the bits of their float32: none is negative, so that bits have the order of costs, and the least of whole numbers is found
    eight at a time, which for floats it is not while one of them might be NaN.
    """
    c = cost.shape[0]
    x, y = state[X], state[Y]
    if x < n_start:
        return BOTH
    if state[RUN] > max_run:
        return COLUMN if state[PREVIOUS] == ROW else ROW
    here = cost[x % c, y % c]
    row = min(least(cost[x % c], max(0, state[J] - c + 1), y), here)
    column = min(least(turned[y % c], max(0, state[T] - c + 1), x), here)
    if column < here and column <= row:
        return ROW
    return COLUMN if row < here else BOTH


@jit("void(int64[::1], int64)")
def count_run(state: Ints, choice: int) -> None:
    """Remember what was chosen."""
    state[RUN] = state[RUN] + 1 if choice == state[PREVIOUS] else 1
    if choice != BOTH:
        state[PREVIOUS] = choice


@jit(
    "void(float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], uint8[:,::1], float64[::1], float64[::1], int64[::1],"
    " float64, float64)"
)
def new_row(  # noqa: PLR0917
    inputs: Floats32,
    elements: Floats32,
    cost: Floats32,
    turned: Floats32,
    came: Bytes,
    row: Floats,
    column: Floats,
    state: Ints,
    straight: float,
    diagonal: float,
) -> None:
    """Path costs of the newest input, ``inputs[t % c]``, against the last c elements."""
    c = cost.shape[0]
    t, j = state[T], state[J]
    x = inputs[t % c]
    left, corner = np.inf, np.inf
    for k in range(max(0, j - c + 1), j + 1):
        d = half_square(x, elements[k % c])
        up = row[k % c]
        best, step = corner + diagonal * d, DIAGONAL
        if up + straight * d < best:
            best, step = up + straight * d, UP
        if left + straight * d < best:
            best, step = left + straight * d, LEFT
        if t == 0 and k == 0:
            best, step = float(d), START
        row[k % c] = best
        cost[t % c, k % c] = best / (t + k + 2)
        turned[k % c, t % c] = cost[t % c, k % c]
        came[t % c, k % c] = step
        corner, left = up, best
    column[t % c] = row[j % c]


@jit("void(float32[:,::1], int32[::1], float64, float64, float32[::1])")
def write_element(reference: Floats32, order: Int32s, place: float, step: float, out: Floats32) -> None:
    """The reference at `place`: between two frames, or, where an element spans more than one, the mean of the `step` frames around it."""
    end = order.shape[0] - 1
    first = max(place - 0.5 * max(step - 1.0, 0.0), 0.0)
    last = min(place + 0.5 * max(step - 1.0, 0.0), float(end))
    out[:] = np.float32(0.0)
    total = np.float32(0.0)
    for frame in range(int(first), min(int(last) + 1, end) + 1):
        # a frame counts by how much of it lies in the span, widened by a frame of falling weight at either end
        weight = np.float32(min(1.0, max(0.0, 1.0 - first + frame), max(0.0, 1.0 + last - frame)))
        values = reference[order[frame]]
        for f in range(out.shape[0]):
            out[f] += weight * values[f]
        total += weight
    scale = np.float32(1.0) / total
    for f in range(out.shape[0]):
        out[f] *= scale


@jit(
    "boolean(float32[:,::1], int32[::1], boolean[::1], float32[:,::1], float32[:,::1], float64[::1], float64[::1], float32[:,::1],"
    " float32[:,::1], uint8[:,::1], float64[::1], float64[::1], int64[::1], float64, float64, float64)"
)
def new_column(  # noqa: PLR0917
    reference: Floats32,
    order: Int32s,
    attack: Flags,
    inputs: Floats32,
    elements: Floats32,
    places: Floats,
    owed: Floats,
    cost: Floats32,
    turned: Floats32,
    came: Bytes,
    row: Floats,
    column: Floats,
    state: Ints,
    rate: float,
    straight: float,
    diagonal: float,
) -> bool:
    """Read one more element of the reference and compare the last c inputs with it. False at the end of the reference.

    An element spans `rate` frames: their mean, or a point between two of them. Attacks are never stretched, as notes begin as fast at any
    tempo; the frames after them make up for it.
    """
    c = cost.shape[0]
    t, j = state[T], state[J]
    place, end = places[j % c], float(order.shape[0] - 1)
    if place >= end:
        return False
    step = rate
    if rate < 1.0:
        if attack[order[int(place + 0.5)]]:
            step = min(1.0, rate + OWED - owed[0])
            owed[0] += step - rate
        elif owed[0] > 0.0:
            step = max(min(LEAST_STEP, rate), rate - owed[0])
            owed[0] -= rate - step
    else:
        owed[0] = 0.0
    place = min(place + step, end)
    j += 1
    places[j % c] = place
    element = elements[j % c]
    write_element(reference, order, place, step, element)
    below, corner = np.inf, np.inf
    for i in range(max(0, t - c + 1), t + 1):
        d = half_square(inputs[i % c], element)
        before = column[i % c]
        best, step = corner + diagonal * d, float(DIAGONAL)
        if below + straight * d < best:
            best, step = below + straight * d, float(UP)
        if before + straight * d < best:
            best, step = before + straight * d, float(LEFT)
        column[i % c] = best
        cost[i % c, j % c] = best / (i + j + 2)
        turned[j % c, i % c] = cost[i % c, j % c]
        came[i % c, j % c] = np.uint8(step)
        corner, below = before, best
    row[j % c] = column[t % c]
    state[J] = j
    return True


@jit("void(uint8[:,::1], int64[::1], int64)")
def go_back(came: Bytes, state: Ints, b: int) -> None:
    """Move the position back along the cheapest path by `b` elements of the reference, or to the border of the square."""
    c = came.shape[0]
    x, y = state[X], state[Y]
    goal = y - b
    oldest, lowest = max(0, state[T] - c + 1), max(0, state[J] - c + 1)
    while y > goal:
        step = came[x % c, y % c]
        if step == START or (step != LEFT and x == oldest) or (step != UP and y == lowest):
            break
        if step != LEFT:
            x -= 1
        if step != UP:
            y -= 1
    state[X], state[Y] = x, y
    state[RUN], state[PREVIOUS] = 0, NONE


@jit("void(uint8[:,::1], float64[::1], int64[::1], float64[::1], int64[::1])")
def remember(came: Bytes, places: Floats, state: Ints, history: Floats, leaves: Ints) -> None:
    """Write the backward path from the position into `history`: of each hop the furthest place of the reference that it had reached.

    It ends where it joins the path that was written before, since from one cell there is one way back. ``leaves[t % n]``: that element.
    """
    c, n = came.shape[0], history.shape[0]
    x, y = state[X], state[Y]
    leaves[x % n] = -1
    oldest, lowest = max(0, state[T] - c + 1), max(0, state[J] - c + 1)
    while leaves[x % n] != y:
        history[x % n] = places[y % c]
        leaves[x % n] = y
        while came[x % c, y % c] == LEFT and y > lowest:
            y -= 1
        step = came[x % c, y % c]
        if step in (START, LEFT) or x == oldest or (step == DIAGONAL and y == lowest):
            return
        x -= 1
        if step == DIAGONAL:
            y -= 1


@jit(
    "void(float32[::1], float64, float32[:,::1], int32[::1], boolean[::1], float32[:,::1], float32[:,::1], float64[::1], float64[::1],"
    " float32[:,::1], float32[:,::1], uint8[:,::1], float64[::1], float64[::1], int64[::1], float64[::1], int64[::1], float64[::1],"
    " int64[::1])"
)
def advance(  # noqa: PLR0917
    x: Floats32,
    rate: float,
    reference: Floats32,
    order: Int32s,
    attack: Flags,
    inputs: Floats32,
    elements: Floats32,
    places: Floats,
    owed: Floats,
    cost: Floats32,
    turned: Floats32,
    came: Bytes,
    row: Floats,
    column: Floats,
    state: Ints,
    history: Floats,
    leaves: Ints,
    weights: Floats,
    counts: Ints,
) -> None:
    """Take one input hop: a row, the forward path, and when it is time the backward path and the forward path from its end.

    `weights`: of straight and diagonal steps. `counts`: n_start, max_run, hops between backward paths, elements that one goes back,
    elements that each fifth goes back.
    """
    n_start, max_run = counts[0], counts[1]
    bits, turned_bits = cost.view(np.int32), turned.view(np.int32)
    state[T] += 1
    inputs[state[T] % inputs.shape[0], :] = x
    if state[T] == 0:
        state[J] = state[X] = state[Y] = 0
        write_element(reference, order, places[0], 1.0, elements[0])
    else:
        state[X] += 1
    new_row(inputs, elements, cost, turned, came, row, column, state, weights[0], weights[1])
    if state[T] > 0:
        state[SINCE] += 1
        for again in range(2):
            # Dixon's loop; an input that it asks for beyond the newest one ends it.
            started = again == 0
            while True:
                if not started and get_inc(bits, turned_bits, state, n_start, max_run) != ROW:
                    if state[X] == state[T]:
                        break
                    state[X] += 1
                started = False
                if get_inc(bits, turned_bits, state, n_start, max_run) != COLUMN:
                    if state[Y] == state[J] and not new_column(
                        reference, order, attack, inputs, elements, places, owed, cost, turned, came, row, column, state, rate,
                        weights[0], weights[1],
                    ):  # fmt: skip
                        state[X] = state[T]  # at the end of the reference there is nothing to choose
                        break
                    state[Y] += 1
                count_run(state, get_inc(bits, turned_bits, state, n_start, max_run))
            if again == 1 or state[SINCE] < counts[2]:
                break
            state[SINCE] = 0
            state[TIMES] += 1
            go_back(came, state, counts[4] if state[TIMES] % 5 == 0 else counts[3])
    remember(came, places, state, history, leaves)
