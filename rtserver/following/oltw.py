"""On-line time warping: the forward path through the cost matrix of input against reference, one input hop a call.

S. Dixon, "Live tracking of musical performances using on-line time warping", Proc. DAFx-05, 2005. Kept from the paper: rows and columns are
computed over a window of `c` elements only; `GetInc` decides whether the input, the reference or both advance by looking for the cheapest
end of a path, its cost divided by its length, along the newest row and column; a sequence that has advanced `max_run` times in
succession makes way for the other. Path costs are ``D(t, j) = min(D(t-1, j) + d, D(t, j-1) + d, D(t-1, j-1) + diagonal d)``.

What differs, and why:

- The diagonal weighs 1 by default, in the paper 2: see `OnlineTimeWarping`. With 2 the costs are the paper's.
- One call is one input hop, and the reference advances within it; the paper reads both sequences at will. Where both advance, `GetInc` is
  not asked again before the next input, and a run counts decisions instead of rounds of the paper's loop, which are the same but for that.
- What is reported is the cheapest end of a path to the newest input. The paper's position is the newest of both sequences, which overshoots
  by as much as the reference was read ahead.
- Both sequences advance in lockstep for `n_start` hops, in the paper until `c` elements are seen: five seconds in lockstep with a reference
  at another tempo are a bad start.
- The window is 5 s of 10 ms hops, in the paper 10 s of 20 ms; and the features are those of `rtserver.following.reference`.
- The reference may be read faster or slower than it was written (`rate`), so that the path stays near the diagonal when the player's tempo
  is another than the score's; cf. A. Arzt and G. Widmer, "Simple tempo models for real-time music tracking", SMC 2010. At rate 1 every
  frame is read, as in the paper.

Only the newest row and column are kept, as rings of `c` path costs, with the last `c` inputs and the last `c` places in the reference.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.errors import SpecError
from rtserver.kernels import jit

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

# Slots of the integer state: the newest input and reference element, the run of `GetInc`, its last choice, the best reference element.
T, J, RUN, PREVIOUS, BEST = 0, 1, 2, 3, 4
N_STATE = 5
NONE, ROW, COLUMN, BOTH = 0, 1, 2, 3  # ROW: the reference advances; COLUMN: the input advances
HALF_SQUARE, EUCLIDEAN = 0, 1  # local distances: half the squared Euclidean one, and itself


@jit("float32(float32[::1], float32[::1])")
def half_square(a: Floats32, b: Floats32) -> float:
    """Half the squared Euclidean distance: 1 - cosine for unit vectors."""
    total = np.float32(0.0)
    for i in range(a.shape[0]):
        difference = a[i] - b[i]
        total += difference * difference
    return float(np.float32(0.5) * total)


@jit("float32(float32[::1], float32[::1], int64)")
def local_distance(a: Floats32, b: Floats32, distance: int) -> float:
    """`HALF_SQUARE` or `EUCLIDEAN`."""
    d = half_square(a, b)
    return float(np.sqrt(np.float32(2.0) * d)) if distance == EUCLIDEAN else d


@jit("int64(float64[::1], float64[::1], int64[::1], int64, int64)")
def get_inc(row: Floats, column: Floats, state: Ints, n_start: int, max_run: int) -> int:
    """Which sequence advances next (the paper's GetInc). Leaves the best reference index of the newest input in ``state[BEST]``."""
    c = row.shape[0]
    t, j = state[T], state[J]
    best, x, y = np.inf, t, j
    for k in range(max(0, j - c + 1), j + 1):
        cost = row[k % c] / (t + k + 2)
        if cost <= best:
            best, y = cost, k
    state[BEST] = y
    if t < n_start:
        return BOTH
    if state[RUN] > max_run:
        return COLUMN if state[PREVIOUS] == ROW else ROW
    for i in range(max(0, t - c + 1), t):
        cost = column[i % c] / (i + j + 2)
        if cost < best:
            best, x, y = cost, i, j
    if x < t:
        return ROW
    if y < j:
        return COLUMN
    return BOTH


@jit(
    "void(float32[::1], float64, float32[:,::1], int32[::1], float32[:,::1], float64[::1], float64[::1], float64[::1], int64[::1],"
    " float64, int64, int64, int64)"
)
def advance(  # noqa: PLR0917
    x: Floats32,
    rate: float,
    reference: Floats32,
    order: Int32s,
    inputs: Floats32,
    places: Floats,
    row: Floats,
    column: Floats,
    state: Ints,
    diagonal_weight: float,
    n_start: int,
    max_run: int,
    distance: int,
) -> None:
    """Take one input hop: a new row, then as many columns as `get_inc` asks for. Element k of the reference is at ``places[k % c]``."""
    c = row.shape[0]
    end = order.shape[0] - 1
    state[T] += 1
    t, j = state[T], state[J]
    inputs[t % c, :] = x
    if t == 0:
        state[J] = j = 0
        row[0] = local_distance(x, reference[order[int(places[0] + 0.5)]], distance)
    else:
        first = max(0, j - c + 1)
        left, diagonal = np.inf, np.inf
        for k in range(first, j + 1):
            up = row[k % c]
            d = local_distance(x, reference[order[int(places[k % c] + 0.5)]], distance)
            left = min(up + d, left + d, diagonal + diagonal_weight * d)
            row[k % c] = left
            diagonal = up
    column[t % c] = row[j % c]
    while True:
        choice = get_inc(row, column, state, n_start, max_run)
        if choice != COLUMN:
            place = places[j % c]
            if place >= end:
                return
            j += 1
            place = min(place + rate, float(end))
            places[j % c] = place
            element = reference[order[int(place + 0.5)]]
            below, diagonal = np.inf, np.inf
            for i in range(max(0, t - c + 1), t + 1):
                before = column[i % c]
                d = local_distance(inputs[i % c], element, distance)
                below = min(before + d, below + d, diagonal + diagonal_weight * d)
                column[i % c] = below
                diagonal = before
            row[j % c] = column[t % c]
            state[J] = j
        state[RUN] = state[RUN] + 1 if choice == state[PREVIOUS] else 1
        if choice != BOTH:
            state[PREVIOUS] = choice
        if choice != ROW:
            if choice == BOTH and row[j % c] / (t + j + 2) <= row[state[BEST] % c] / (t + state[BEST] + 2):
                state[BEST] = j
            return


class OnlineTimeWarping:
    """Dixon's on-line time warping over scaled feature vectors.

    The local distance is half the squared Euclidean distance unless `distance` says otherwise, so that a unit vector scaled by
    ``sqrt(w)`` counts ``w (1 - cosine)``.

    Parameters
    ----------
    window : int
        `c`, hops of input and of reference that are kept in view. 500 hops of 10 ms are 5 s: an error of the path beyond that is lost.
    max_run : int
        How often one sequence may advance in succession; 3 as in the paper.
    n_start : int
        Hops in lockstep at the beginning.
    diagonal : float
        What a local distance counts on a diagonal step. With 2 every path between two places weighs the same, and paths wander; with 1
        a steady path is cheaper, which is what is wanted where the reference is read at the player's tempo. (Over four human piano
        performances 86 % of all onsets were within 50 ms with 1, and 62 % with 2; 0.7 gave 87 %.)
    distance : int
        `HALF_SQUARE` or `EUCLIDEAN`.

    Notes
    -----
    Cost: `window` distances for the row and for each of at most ``max_run + 2`` columns a hop. Scratch: `window` x (n_features x 4 + 24)
    bytes. Nothing grows with time.
    """

    def __init__(self, window: int = 500, max_run: int = 3, n_start: int = 10, diagonal: float = 1.0, distance: int = HALF_SQUARE) -> None:
        if window < 2 or max_run < 1 or n_start < 1:
            raise SpecError(f"OnlineTimeWarping: window >= 2, max_run >= 1, n_start >= 1 expected, got {window}, {max_run}, {n_start}")
        self.window = window
        self.max_run = max_run
        self.n_start = n_start
        self.diagonal = diagonal
        self.distance = distance

    def prepare(self, reference: Floats32, order: Int32s | None = None) -> None:
        """Take the reference and allocate everything.

        Parameters
        ----------
        reference : float32 (n_frames, n_features), C-contiguous
            Shared, never written.
        order : int32 (n_order,), optional
            The frames of `reference` in the order in which they are expected (an unfolding of repeats); all of them if omitted.
        """
        if reference.ndim != 2 or reference.dtype != np.float32 or not reference.flags.c_contiguous or len(reference) < 1:
            raise SpecError(f"OnlineTimeWarping: reference must be float32 (n_frames, n_features), got {reference.shape} {reference.dtype}")
        self._reference = reference
        self.order: Int32s = np.arange(len(reference), dtype=np.int32) if order is None else np.ascontiguousarray(order, np.int32)
        self._inputs = np.zeros((self.window, reference.shape[1]), np.float32)
        self._places = np.zeros(self.window)
        self._row = np.zeros(self.window)
        self._column = np.zeros(self.window)
        self._state = np.zeros(N_STATE, np.int64)
        self.reset()

    def reset(self, place: float = 0.0) -> None:
        """Forget the past; the next input is taken to be at `place` of the order.

        Old path costs need no clearing: what lies outside the window is never read.
        """
        self._state[:] = (-1, 0, 0, NONE, 0)
        self._places[0] = place

    def process(self, x: Floats32, rate: float = 1.0) -> float:
        """Take one input hop, float32 (n_features,), finite; return the place in the order that it matches best.

        `rate` is how many frames of the order one further element of the reference spans.
        """
        advance(
            x,
            rate,
            self._reference,
            self.order,
            self._inputs,
            self._places,
            self._row,
            self._column,
            self._state,
            self.diagonal,
            self.n_start,
            self.max_run,
            self.distance,
        )
        return float(self._places[self._state[BEST] % self.window])

    @property
    def front(self) -> float:
        """The furthest place of the order that has been compared with the input; -1 before the first hop."""
        return float(self._places[self._state[J] % self.window]) if self._state[T] >= 0 else -1.0

    @property
    def n_inputs(self) -> int:
        """Input hops seen."""
        return int(self._state[T]) + 1

    @property
    def path_cost(self) -> float:
        """Cost of the best path to the newest input, divided by its length."""
        best = int(self._state[BEST])
        return float(self._row[best % self.window]) / (int(self._state[T]) + best + 2)

    def copy_from(self, other: OnlineTimeWarping) -> None:
        """Take over the whole state of `other`, prepared alike, but keep the own `order` (which must agree up to `other.front`)."""
        self._inputs[:] = other._inputs
        self._places[:] = other._places
        self._row[:] = other._row
        self._column[:] = other._column
        self._state[:] = other._state
