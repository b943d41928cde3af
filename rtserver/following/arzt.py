"""Following by on-line time warping that reconsiders its path, at the tempo that the path tells: the method ``arzt``.

The path is that of `rtserver.following.backforward` (A. Arzt, G. Widmer and S. Dixon, ECAI 2008), the tempo that of
`rtserver.following.pathtempo` (A. Arzt and G. Widmer, SMC 2010). Features, repeats that may be left out, confidence and rests are those of
the method ``dixon`` (`rtserver.following.warping`), so that the two differ in path and tempo alone.

What differs from the second paper. It stretches the reference by chance, leaving a frame out or putting one in with a probability that
gives the tempo in the mean; here each element of the reference spans as many frames as the tempo says, so that the same input gives the
same output. The frames in which a note begins are not stretched, as in the paper. The position that is reported runs along with the tempo
between corrections by the path, as that of ``dixon`` does; in the papers it is the end of the path.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.dsp.features import DIFFERENCE_LAG
from rtserver.errors import SpecError
from rtserver.following.backforward import N_STATE, NONE, J, T, Y, advance
from rtserver.following.pathtempo import relative_tempo
from rtserver.following.reference import Reference
from rtserver.following.warping import Path, Warping

Floats32 = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

HISTORY = 1024  # hops of the path that are remembered: 10 s, of which a tempo needs the last few
ATTACK = DIFFERENCE_LAG + 2  # frames from an onset on in which the spectral difference shows it


class BackwardForward:
    """On-line time warping whose path is reconsidered, over scaled feature vectors; the local distance is half the squared Euclidean one.

    Parameters
    ----------
    window : int
        `c`: hops of input and elements of the reference that are kept in view. 5 s, half of the paper's: 3 and 10 s gave
        the same positions.
    max_run : int
        How often one sequence may advance in succession; 6 in the paper.
    n_start : int
        Hops in lockstep at the beginning.
    straight, diagonal : float
        What a local distance counts on a straight and on a diagonal step. The paper has 1.3 and 2, for which a path has no reason to be
        steady; where the reference is read at the player's tempo a steady one is right. (Over four human piano performances 88 % of all
        onsets were within 50 ms with 1 and 0.7, 86 % with 1 and 1, and 69 % with 1.3 and 2.)
    every, back, far_back : int
        Hops between two backward paths, elements that they go back, and elements that each fifth goes back: 40 ms, 0.2 s and 1 s as in the
        paper.

    Notes
    -----
    Cost: `window` distances for the row and for each column, and twice `window` comparisons for each step of the forward path. Scratch:
    ``window x (9 window + 8 n_features + 32)`` bytes. Nothing grows with time.
    """

    def __init__(  # noqa: PLR0917
        self,
        window: int = 500,
        max_run: int = 6,
        n_start: int = 10,
        straight: float = 1.0,
        diagonal: float = 0.7,
        every: int = 4,
        back: int = 20,
        far_back: int = 100,
    ) -> None:
        if window < 2 or min(max_run, n_start, every, back, far_back) < 1:
            raise SpecError(
                f"BackwardForward: window >= 2 and all other counts >= 1 expected, got window {window}, max_run {max_run}, "
                f"n_start {n_start}, every {every}, back {back}, far_back {far_back}"
            )
        self.window = window
        self._weights = np.array([straight, diagonal])
        self._counts = np.array([n_start, max_run, every, back, far_back], np.int64)

    def prepare(self, reference: Floats32, order: Int32s | None = None, attack: Flags | None = None) -> None:
        """Take the reference and allocate everything.

        Parameters
        ----------
        reference : float32 (n_frames, n_features), C-contiguous
            Shared, never written.
        order : int32 (n_order,), optional
            The frames of `reference` in the order in which they are expected; all of them if omitted.
        attack : bool (n_frames,), optional
            The frames in which a note begins, which are not stretched; none if omitted.
        """
        if reference.ndim != 2 or reference.dtype != np.float32 or not reference.flags.c_contiguous or len(reference) < 1:
            raise SpecError(f"BackwardForward: reference must be float32 (n_frames, n_features), got {reference.shape} {reference.dtype}")
        c, n_features = self.window, reference.shape[1]
        self._reference = reference
        self._attack = np.zeros(len(reference), np.bool_) if attack is None else np.ascontiguousarray(attack, np.bool_)
        self.order: Int32s = np.arange(len(reference), dtype=np.int32) if order is None else np.ascontiguousarray(order, np.int32)
        self._inputs, self._elements = np.zeros((c, n_features), np.float32), np.zeros((c, n_features), np.float32)
        self._places, self._owed = np.zeros(c), np.zeros(1)
        self._cost, self._turned = np.zeros((c, c), np.float32), np.zeros((c, c), np.float32)
        self._came = np.zeros((c, c), np.uint8)
        self._row, self._column = np.zeros(c), np.zeros(c)
        self._state = np.zeros(N_STATE, np.int64)
        self.history, self._leaves = np.zeros(HISTORY), np.zeros(HISTORY, np.int64)
        self.reset()

    def reset(self, place: float = 0.0) -> None:
        """Forget the past; the next input is taken to be at `place` of the order."""
        self._state[:] = (-1, 0, 0, 0, 0, NONE, 0, 0)
        self._places[0] = place
        self._owed[0] = 0.0
        self._leaves[:] = -1

    def process(self, x: Floats32, rate: float = 1.0) -> float:
        """Take one input hop, float32 (n_features,), finite; return the place in the order at which the path ends.

        `rate` is how many frames of the order one further element of the reference spans.
        """
        advance(
            x, rate, self._reference, self.order, self._attack, self._inputs, self._elements, self._places, self._owed, self._cost,
            self._turned, self._came, self._row, self._column, self._state, self.history, self._leaves, self._weights, self._counts,
        )  # fmt: skip
        return float(self._places[self._state[Y] % self.window])

    @property
    def front(self) -> float:
        """The furthest place of the order that has been compared with the input; -1 before the first hop."""
        return float(self._places[self._state[J] % self.window]) if self._state[T] >= 0 else -1.0

    @property
    def n_inputs(self) -> int:
        """Input hops seen. The path at input t is ``history[t % HISTORY]``."""
        return int(self._state[T]) + 1

    def copy_from(self, other: BackwardForward) -> None:
        """Take over the whole state of `other`, prepared alike, but keep the own `order` (which must agree up to `other.front`)."""
        for name in (
            "_inputs", "_elements", "_places", "_owed", "_cost", "_turned", "_came", "_row", "_column", "_state", "history", "_leaves",
        ):  # fmt: skip
            getattr(self, name)[:] = getattr(other, name)


class Arzt(Warping):
    """The method ``arzt``: features in, a place in the score out. See `Warping`."""

    name = "arzt"
    fork_ahead = 64  # two forward paths a hop, of at most max_run + 2 columns each, and some

    def __init__(self, reference: Reference | None = None, max_ways: int = 8, window: int = 500) -> None:
        super().__init__(reference, max_ways, window)  # no embedding: its kernels compare features

    def _new_path(self, buffer: Int32s) -> Path:
        n = len(self.reference)
        self._latest = np.full(n, -1, np.int32)
        self._latest[self.reference.onset] = self.reference.onset
        self._latest = np.maximum.accumulate(self._latest)
        attack = (self._latest >= 0) & (np.arange(n) - self._latest < ATTACK)
        path = BackwardForward(self._window)
        path.prepare(self.reference.match, buffer, attack)
        return path

    def _steer(self) -> None:
        path = self._leader.path
        assert isinstance(path, BackwardForward)
        self._rate = relative_tempo(path.history, path.n_inputs, path.order, self._latest, self._rate)
        self._tempo.process(self._leader.place, self._rate)
