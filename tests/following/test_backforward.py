"""Time warping that reconsiders, against the cost matrix and the ways back by the book."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.errors import SpecError
from rtserver.following import backforward as bf
from rtserver.following.arzt import HISTORY, BackwardForward
from rtserver.following.oltw import BOTH, COLUMN, NONE, ROW

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


def walk(n: int, seed: int = 0, n_features: int = 8) -> Array:
    """A smooth random sequence in which neighbours are alike and distant elements are not."""
    steps = np.random.default_rng(seed).standard_normal((n, n_features)).cumsum(axis=0)
    return np.ascontiguousarray(steps, np.float32)


def by_the_book(x: Array, y: Array, straight: float, diagonal: float) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Path costs without a window, and the step into each cell."""
    d = 0.5 * ((x[:, None].astype(float) - y[None]) ** 2).sum(axis=2)
    cost, came = np.full(d.shape, np.inf), np.full(d.shape, bf.START)
    for i in range(len(x)):
        for j in range(len(y)):
            ways = {
                bf.START: d[0, 0] if i == j == 0 else np.inf,
                bf.DIAGONAL: cost[i - 1, j - 1] + diagonal * d[i, j] if i and j else np.inf,
                bf.UP: cost[i - 1, j] + straight * d[i, j] if i else np.inf,
                bf.LEFT: cost[i, j - 1] + straight * d[i, j] if j else np.inf,
            }
            came[i, j] = min(ways, key=lambda step: ways[step])
            cost[i, j] = ways[int(came[i, j])]
    return cost, came


def back(came: npt.NDArray[np.int64], x: int, y: int) -> list[tuple[int, int]]:
    """The cells of the cheapest path to a cell, from it to the beginning."""
    cells = [(x, y)]
    while came[x, y] != bf.START:
        x, y = x - (came[x, y] != bf.LEFT), y - (came[x, y] != bf.UP)
        cells.append((x, y))
    return cells


def run(path: BackwardForward, x: Array, rate: float = 1.0) -> npt.NDArray[np.float64]:
    return np.array([path.process(np.ascontiguousarray(row), rate) for row in x])


@pytest.mark.parametrize(("straight", "diagonal"), [(1.3, 2.0), (1.0, 0.7)])
@pytest.mark.parametrize("seed", range(3))
def test_costs_and_steps_are_those_of_the_full_matrix(seed: int, straight: float, diagonal: float) -> None:
    reference = walk(60, seed)
    x = reference[np.minimum((np.arange(50) * 1.05).astype(int), 59)] + 0.1 * walk(50, seed + 9)
    path = BackwardForward(window=64, n_start=64, straight=straight, diagonal=diagonal)
    path.prepare(reference)
    run(path, x)
    cost, came = by_the_book(x, reference, straight, diagonal)
    n = int(path.front) + 1
    length = np.arange(50)[:, None] + np.arange(n)[None] + 2
    np.testing.assert_allclose(path._cost[:50, :n], cost[:, :n] / length, rtol=1e-4)
    np.testing.assert_array_equal(path._turned[:n, :50], path._cost[:50, :n].T)
    assert np.mean(path._came[:50, :n] == came[:, :n]) > 0.99  # ties within float32 may go either way


def test_the_path_that_is_remembered_is_the_way_back_from_its_end() -> None:
    reference = walk(200)
    x = reference[np.minimum((np.arange(150) * 1.2).astype(int), 199)] + 0.5 * walk(150, 4)
    path = BackwardForward(window=300, diagonal=1.0)
    path.prepare(reference)
    for t in range(150):
        end = int(path.process(np.ascontiguousarray(x[t])))
        if t % 13 == 0:
            furthest = {}
            for i, j in back(path._came.astype(np.int64), t, end):
                furthest[i] = max(j, furthest.get(i, 0))
            assert path.history[: t + 1].tolist() == [furthest[i] for i in range(t + 1)]


def test_the_way_back_ends_on_the_cheapest_path_b_elements_before() -> None:
    reference = walk(120)
    path = BackwardForward(window=300, every=10**6)
    path.prepare(reference)
    run(path, reference + 0.3 * walk(120, 2))
    state = path._state.copy()
    on_path = back(path._came.astype(np.int64), int(state[bf.X]), int(state[bf.Y]))
    bf.go_back(path._came, state, 40)
    assert (int(state[bf.X]), int(state[bf.Y])) in on_path
    assert state[bf.Y] == path._state[bf.Y] - 40
    assert (state[bf.RUN], state[bf.PREVIOUS]) == (0, NONE)


def test_a_forward_path_that_went_astray_is_moved() -> None:
    """The position is put where the cheapest path is not; the next backward path finds out, and without one it stays wrong longer."""
    reference = walk(400)

    def error(every: int) -> float:
        path = BackwardForward(window=200, every=every, max_run=3)
        path.prepare(reference)
        run(path, reference[:200])
        for _ in range(60):  # read on through the reference, as if the player had hurried
            bf.new_column(
                path._reference, path.order, path._attack, path._inputs, path._elements, path._places, path._owed, path._cost, path._turned,
                path._came, path._row, path._column, path._state, 1.0, 1.0, 0.7,
            )  # fmt: skip
        path._state[bf.Y] = path._state[bf.J]
        return float(np.abs(run(path, reference[200:220]) - np.arange(200, 220)).mean())

    assert error(every=4) < 0.5 * error(every=10**6)


@given(st.integers(1, 40), st.integers(0, 200), st.integers(0, 40), st.integers(0, 99))
def test_the_least_of_a_ring_is_found(c: int, first: int, n: int, seed: int) -> None:
    ring = np.random.default_rng(seed).integers(0, 1000, c, dtype=np.int32)
    chosen = [ring[k % c] for k in range(first, first + min(n, c))]
    assert bf.least(ring, first, first + min(n, c)) == min(chosen, default=2**31 - 1)


@pytest.mark.parametrize(
    ("corner", "row", "column", "expected"),
    [(0.1, 0.2, 0.3, BOTH), (0.3, 0.1, 0.2, COLUMN), (0.3, 0.2, 0.1, ROW)],
)
@pytest.mark.parametrize("at", [(5, 6), (14, 13), (16, 24)])
def test_the_cheapest_end_says_what_advances(corner: float, row: float, column: float, expected: int, at: tuple[int, int]) -> None:
    """`row`: the cheapest earlier element at this input; `column`: the cheapest earlier input at this element. The ring is of 8."""
    x, y = at
    cost = np.full((8, 8), 1.0, np.float32)
    cost[x % 8, y % 8], cost[x % 8, (y - 3) % 8], cost[(x - 2) % 8, y % 8] = corner, row, column
    bits, turned = cost.view(np.int32), np.ascontiguousarray(cost.T).view(np.int32)
    state = np.zeros(bf.N_STATE, np.int64)
    state[[bf.T, bf.J, bf.X, bf.Y]] = x, y, x, y
    assert bf.get_inc(bits, turned, state, 0, 3) == expected
    state[bf.RUN], state[bf.PREVIOUS] = 4, ROW
    assert bf.get_inc(bits, turned, state, 0, 3) == COLUMN
    assert bf.get_inc(bits, turned, state, x + 1, 3) == BOTH


def test_a_copy_of_the_reference_is_followed_exactly() -> None:
    reference = walk(300)
    path = BackwardForward(window=50)
    path.prepare(reference)
    assert run(path, reference).tolist() == list(range(300))


@pytest.mark.parametrize("stretch", [0.5, 0.7, 1.4, 2.0])
def test_a_stretched_copy_is_followed(stretch: float) -> None:
    reference = walk(600)
    true = np.arange(0, 599, 1 / stretch)
    low = true.astype(int)
    x = (reference[low] + (true - low)[:, None] * (reference[low + 1] - reference[low])).astype(np.float32)
    path = BackwardForward(window=100)
    path.prepare(reference)
    assert np.abs(run(path, x) - true)[20:].max() <= 6  # frames


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_at_the_right_rate_a_stretched_copy_stays_on_the_diagonal(rate: float) -> None:
    reference = walk(600)
    true = np.arange(0, 598, rate)
    low = true.astype(int)
    x = (reference[low] + (true - low)[:, None] * (reference[low + 1] - reference[low])).astype(np.float32)
    path = BackwardForward(window=100)
    path.prepare(reference)
    assert np.abs(run(path, x, rate) - true).max() <= 2


def test_an_element_that_spans_several_frames_is_their_mean() -> None:
    reference, out = walk(40), np.zeros(8, np.float32)
    order = np.arange(40, dtype=np.int32)
    bf.write_element(reference, order, 10.0, 3.0, out)
    np.testing.assert_allclose(out, reference[9:12].mean(axis=0), rtol=1e-5)
    bf.write_element(reference, order, 10.25, 0.5, out)
    np.testing.assert_allclose(out, 0.75 * reference[10] + 0.25 * reference[11], rtol=1e-4, atol=1e-5)


def test_attacks_are_not_stretched_and_the_tempo_is_kept_on_the_whole() -> None:
    reference, attack = walk(500), np.zeros(500, np.bool_)
    attack[100:105] = True
    path = BackwardForward(window=400, n_start=400, every=10**6)
    path.prepare(reference, None, attack)
    places: list[float] = []
    for x in reference[:400]:
        path.process(x, 0.5)
        places.append(path.front)
    steps = np.diff(places)
    inside = (np.array(places[:-1]) >= 99.5) & (np.array(places[:-1]) < 104.4)
    assert steps[inside].tolist() == [1.0] * int(inside.sum())
    assert places[-1] == pytest.approx(0.5 * 399, abs=1.0)


def test_the_end_of_the_reference_is_held() -> None:
    reference = walk(60)
    path = BackwardForward(window=20)
    path.prepare(reference)
    assert set(run(path, np.concatenate((reference, np.repeat(reference[-1:], 100, axis=0))))[60:]) == {59.0}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 80), st.integers(1, 150), st.floats(0.3, 3.0), st.integers(2, 60))
def test_it_never_leaves_the_reference_and_never_reads_behind_its_front(seed: int, n: int, hops: int, rate: float, window: int) -> None:
    path = BackwardForward(window=window, every=2, back=7, far_back=30)
    path.prepare(walk(n, seed))
    before = 0.0
    for x in walk(hops, seed + 1):
        place = path.process(x, rate)
        assert 0.0 <= place <= path.front <= n - 1
        assert path.front >= before
        before = path.front
    assert path.n_inputs == hops


def test_reset_is_as_fresh() -> None:
    reference, x = walk(120), walk(120, 3)
    used, fresh = BackwardForward(window=30), BackwardForward(window=30)
    for path in (used, fresh):
        path.prepare(reference)
    run(used, walk(90, 5), 1.3)
    used.reset()
    assert run(used, x).tolist() == run(fresh, x).tolist()


def test_a_copy_of_the_state_goes_the_same_way() -> None:
    reference, x = walk(200), walk(200, 3)
    a, b = BackwardForward(window=30), BackwardForward(window=30)
    for path in (a, b):
        path.prepare(reference)
    run(a, x[:100])
    b.copy_from(a)
    assert run(a, x[100:]).tolist() == run(b, x[100:]).tolist()
    assert a.history.shape == (HISTORY,)
    assert a.history.tolist() == b.history.tolist()


@pytest.mark.parametrize("options", [{"window": 1}, {"max_run": 0}, {"n_start": 0}, {"every": 0}, {"back": 0}, {"far_back": 0}])
def test_impossible_parameters_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="BackwardForward"):
        BackwardForward(**options)


def test_a_reference_of_another_type_is_refused() -> None:
    with pytest.raises(SpecError, match="float32"):
        BackwardForward().prepare(np.zeros((10, 3)))  # type: ignore[arg-type]
