"""On-line time warping against dynamic time warping by the book."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from rtserver.errors import SpecError
from rtserver.following import oltw
from rtserver.following.oltw import EUCLIDEAN, HALF_SQUARE, OnlineTimeWarping

Array = npt.NDArray[np.float32]


def walk(n: int, seed: int = 0, n_features: int = 8) -> Array:
    """A smooth random sequence in which neighbours are alike and distant elements are not."""
    steps = np.random.default_rng(seed).standard_normal((n, n_features)).cumsum(axis=0)
    return np.ascontiguousarray(steps, np.float32)


def path_costs(x: Array, y: Array, diagonal: float, distance: int = HALF_SQUARE) -> npt.NDArray[np.float64]:
    """The whole matrix of path costs, (len(x), len(y)), without any window."""
    d = 0.5 * ((x[:, None].astype(float) - y[None]) ** 2).sum(axis=2)
    d = np.sqrt(2.0 * d) if distance == EUCLIDEAN else d
    cost = np.full(d.shape, np.inf)
    for i in range(len(x)):
        for j in range(len(y)):
            ways = [d[0, 0]] if i == j == 0 else []
            ways += [cost[i - 1, j] + d[i, j]] if i else []
            ways += [cost[i, j - 1] + d[i, j]] if j else []
            ways += [cost[i - 1, j - 1] + diagonal * d[i, j]] if i and j else []
            cost[i, j] = min(ways)
    return cost


@pytest.mark.parametrize("diagonal", [1.0, 2.0])
@pytest.mark.parametrize("distance", [HALF_SQUARE, EUCLIDEAN])
@pytest.mark.parametrize("seed", range(4))
def test_path_costs_are_those_of_the_full_matrix(seed: int, distance: int, diagonal: float) -> None:
    """While nothing has left the window, the best path at each hop costs what it costs in the full matrix up to the same front."""
    reference = walk(40, seed)
    x = reference[np.minimum((np.arange(38) * 1.05).astype(int), 39)] + 0.1 * walk(38, seed + 9)
    full = path_costs(x, reference, diagonal, distance)
    path = OnlineTimeWarping(
        window=64, n_start=64, diagonal=diagonal, distance=distance
    )  # lockstep: every cell within the front is computed
    path.prepare(reference)
    for t in range(len(x)):
        best = path.process(np.ascontiguousarray(x[t]))
        normalised = full[t, : int(path.front) + 1] / (t + np.arange(int(path.front) + 1) + 2)
        assert path.path_cost == pytest.approx(normalised.min(), rel=1e-5)
        assert normalised[int(best)] == pytest.approx(normalised.min(), rel=1e-5)


def test_a_copy_of_the_reference_is_followed_exactly() -> None:
    reference = walk(300)
    path = OnlineTimeWarping(window=50)
    path.prepare(reference)
    assert [path.process(x) for x in reference] == list(range(300))


@pytest.mark.parametrize("stretch", [0.5, 0.7, 1.4, 2.0])
def test_a_stretched_copy_is_followed(stretch: float) -> None:
    reference = walk(600)
    true = np.arange(0, 599, 1 / stretch)
    low = true.astype(int)
    x = (reference[low] + (true - low)[:, None] * (reference[low + 1] - reference[low])).astype(np.float32)
    path = OnlineTimeWarping(window=100)
    path.prepare(reference)
    places = np.array([path.process(row) for row in x])
    assert np.abs(places - true)[20:].max() <= 4  # frames


def test_at_the_right_rate_a_stretched_copy_stays_on_the_diagonal() -> None:
    reference = walk(600)
    path = OnlineTimeWarping(window=100)
    path.prepare(reference)
    places = np.array([path.process(x, 2.0) for x in reference[::2]])
    assert np.abs(places - 2 * np.arange(len(places))).max() <= 2


def test_the_order_names_the_frames_expected() -> None:
    reference = walk(200)
    order = np.concatenate((np.arange(80), np.arange(140, 200))).astype(np.int32)
    path = OnlineTimeWarping(window=50)
    path.prepare(reference, order)
    assert [path.process(reference[frame]) for frame in order] == list(range(140))


def test_the_end_of_the_reference_is_held() -> None:
    reference = walk(60)
    path = OnlineTimeWarping(window=20)
    path.prepare(reference)
    places = [path.process(x) for x in np.concatenate((reference, np.repeat(reference[-1:], 100, axis=0)))]
    assert set(places[60:]) == {59.0}


def test_reset_is_as_fresh() -> None:
    reference, x = walk(120), walk(120, 3)
    used, fresh = OnlineTimeWarping(window=30), OnlineTimeWarping(window=30)
    used.prepare(reference)
    for row in walk(90, 5):
        used.process(row, 1.3)
    used.reset()
    fresh.prepare(reference)
    assert [used.process(row) for row in x] == [fresh.process(row) for row in x]


def test_a_copy_of_the_state_goes_the_same_way() -> None:
    reference, x = walk(200), walk(200, 3)
    a, b = OnlineTimeWarping(window=30), OnlineTimeWarping(window=30)
    for path in (a, b):
        path.prepare(reference)
    for row in x[:100]:
        a.process(row)
    b.copy_from(a)
    assert [a.process(row) for row in x[100:]] == [b.process(row) for row in x[100:]]


@pytest.mark.parametrize(
    ("corner", "row", "column", "expected"),
    [(0.1, 0.2, 0.3, oltw.BOTH), (0.3, 0.1, 0.2, oltw.COLUMN), (0.3, 0.2, 0.1, oltw.ROW)],
)
def test_get_inc_is_that_of_the_paper(corner: float, row: float, column: float, expected: int) -> None:
    """The cheapest end at the newest of both: both advance. At an earlier element: the input does. At an earlier input: the reference."""
    t, j = 6, 9
    rows, columns = np.full(16, 9.0), np.full(16, 9.0)
    rows[j] = columns[t] = corner * (t + j + 2)
    rows[j - 3] = row * (t + j - 3 + 2)
    columns[t - 2] = column * (t - 2 + j + 2)
    state = np.array([t, j, 1, oltw.ROW, 0])
    assert oltw.get_inc(rows, columns, state, 0, 3) == expected
    assert oltw.get_inc(rows, columns, state, t + 1, 3) == oltw.BOTH, "in lockstep until n_start inputs are seen"
    state[oltw.RUN] = 4
    assert oltw.get_inc(rows, columns, state, 0, 3) == oltw.COLUMN, "the reference has advanced more than max_run times"
    state[oltw.PREVIOUS] = oltw.COLUMN
    assert oltw.get_inc(rows, columns, state, 0, 3) == oltw.ROW


@pytest.mark.parametrize("options", [{"window": 1}, {"max_run": 0}, {"n_start": 0}])
def test_impossible_parameters_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="OnlineTimeWarping"):
        OnlineTimeWarping(**options)


def test_a_reference_of_another_type_is_refused() -> None:
    with pytest.raises(SpecError, match="float32"):
        OnlineTimeWarping().prepare(np.zeros((10, 3)))  # type: ignore[arg-type]
