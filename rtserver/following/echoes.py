"""Keys that come back: what we send to one MIDI port and receive on the one that is followed was not played by anybody.

A key is taken for one of our own notes if it has the same pitch and comes when that may come back; each note once for every port that plays
it. Whether a port comes back at all is learnt from its last notes: where there is no loop, a player who strikes what we have just played is
heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

GAIN = 0.2  # of the share of notes that come back: four or five notes of memory
RETURNS = (
    0.5  # the share from which on keys of a port are taken for echoes; it begins at 1, so nothing is followed before anything is known
)
MOST_EXPECTED = 1024  # echoes waited for; more is a fault upstream


class Echoes:
    """Our notes and the player's keys in, which of the keys are ours out. Times are session frames.

    Parameters
    ----------
    early, late : int
        A key is an echo from `early` frames before a note is due to `late` frames after.
    """

    def __init__(self, early: int, late: int) -> None:
        self._early, self._late = early, late
        self._expected: list[tuple[int, str, int]] = []  # due frame, port, pitch
        self._returns: dict[str, float] = {}

    def note(self, pitch: int, dues: Mapping[str, int]) -> None:
        """One of our own is sent: when on each port."""
        self._expected += [(due, port, pitch) for port, due in dues.items()]
        self._expected = sorted(self._expected)[-MOST_EXPECTED:]

    def advance(self, frame: int) -> None:
        """No key struck before `frame` is still to come: what has not come back by then does not."""
        gone = [port for due, port, _ in self._expected if due + self._late < frame]
        self._expected = self._expected[len(gone) :]
        self._learn(gone, 0.0)

    def is_own(self, pitch: int, frame: int) -> bool:
        """Whether a key struck at `frame` is one of our notes that has come back."""
        for k, (due, port, expected) in enumerate(self._expected):
            if expected == pitch and due - self._early <= frame <= due + self._late:
                del self._expected[k]
                comes_back = self._returns.get(port, 1.0) >= RETURNS
                self._learn([port], 1.0)
                return comes_back
        return False

    def _learn(self, ports: Iterable[str], came_back: float) -> None:
        for port in ports:
            before = self._returns.get(port, 1.0)
            self._returns[port] = before + GAIN * (came_back - before)
