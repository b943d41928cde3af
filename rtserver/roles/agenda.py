"""What a worker is told takes effect at a declared frame, so that what it does depends on the frames and not on when it was woken.

A worker takes its features hop by hop. An event whose frame has come is due at the first hop that ends there or later; one that comes
only after that hop was taken is late: it is due at the next one, and a `Late` event says so. Whoever feeds the same events and postpones
those that were late gets the same from the worker, bit for bit (`rtserver.replay`). A worker that takes a dead one's place tells of all
that it finds waiting as late: what is not among that went with its predecessor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rtserver.events import Beat, Command, Event, Late, MidiIn, Note, Param, Position
from rtserver.roles.hops import HOPS_A_SECOND
from rtserver.shared.session import RESTARTS, Session

# What is due at one hop is taken in this order, and what is of one kind by its frame: the order of arrival is chance.
ORDER: tuple[type[Event], ...] = (Command, Param, Position, Beat, Note, MidiIn)

# What one worker tells another takes effect this long after the audio it was made from: two hops of slack for one that is woken late. Of
# positions that is far below the distance at which listeners hear two players apart (20 to 30 ms).
EFFECT_S = 0.02

Key = tuple[str, int, int]


def declared_frame(event: Event, effect: int = 0) -> int:
    """The session frame at which an event is to take effect. Of a note (for the follower): `effect` frames after it was decided."""
    if isinstance(event, Note):
        return event.available_frame + effect
    return event.frame if isinstance(event, Param | Command) else event.available_frame


def what(event: Event) -> str:
    """An event's kind, and what tells it from others of its frame, as `Late` says it."""
    kind = str(type(event).__struct_config__.tag)
    if isinstance(event, Param | Command):
        return f"{kind} {event.name}"
    if isinstance(event, Note):
        return f"{kind} {event.note_id}"
    return f"{kind} {event.data.hex()}" if isinstance(event, MidiIn) else kind


class Agenda:
    """What waits for its frame.

    Parameters
    ----------
    session : Session
    role : str
        Whose: told in `Late`, which goes to the gateway and the recorder.
    """

    def __init__(self, session: Session, role: str) -> None:
        self.session = session
        self.role = role
        self._waiting: list[Event] = []
        self._taken: int | None = None  # frame of the last hop
        self._postponed: dict[Key, int] = {}
        self._hop_size = round(session.config.audio.sample_rate / HOPS_A_SECOND)
        self._effect = round(EFFECT_S * session.config.audio.sample_rate)
        self._heir = int(session.role(session.own(role))[RESTARTS]) > 0
        self._again = False

    def add(self, event: Event) -> None:
        """Take note of an event; what is none of `ORDER` is left out."""
        if isinstance(event, ORDER):
            self._waiting.append(event)

    def postpone(self, late: Iterable[Late]) -> None:
        """Let what was late in another run be late again: it takes effect when it did then.

        Events that agree in all that `Late` says of them are taken to be late together. What a predecessor took with it is dropped.
        """
        self._again = True
        self._postponed |= {(event.what, event.frame, event.available_frame): event.taken_frame for event in late}

    def leave(self) -> list[Event]:
        """Hand over what waits."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def at_once(self, wanted: Callable[[Event], bool]) -> Iterator[Event]:
        """What is `wanted` and waits, to take effect now, between the hop that was taken last and the next one, whatever it declares.

        Each is told as `Late`, with the frame after the last hop, once the caller has done with it: what that does is in more of a hurry.
        When a session happens again, what was taken so then is taken so.
        """
        if self._taken is None:
            return
        now: list[tuple[Event, Late]] = []
        waiting: list[Event] = []
        taken = self._taken + 1
        for event in self._waiting:
            declared = declared_frame(event, self._effect)
            key = (what(event), event.frame, declared)
            if not (self._postponed.get(key) == taken if self._again else wanted(event)):
                waiting.append(event)
                continue
            now.append((event, Late(event.frame, declared, self.session.own(self.role), key[0], taken)))
        self._waiting = waiting
        for event, late in sorted(now, key=lambda pair: pair[0].frame):
            yield event
            self.session.emit(self.role, late, "gateway")

    def due(self, frame: int) -> list[Event]:
        """What takes effect at the hop that ends at `frame`, in its order. Call it once for every hop."""
        now: list[tuple[int, int, Event]] = []
        waiting: list[Event] = []
        inherits = self._heir and self._taken is None
        before = frame - self._hop_size if inherits else self._taken
        for event in self._waiting:
            declared = declared_frame(event, self._effect)
            effect = self._postponed.get((what(event), event.frame, declared), declared)
            if effect > frame:
                waiting.append(event)
                continue
            if inherits and self._again and effect == declared <= frame - self._hop_size:
                continue
            if effect != declared or (before is not None and declared <= before):
                effect = frame
                name = self.session.own(self.role)
                self.session.emit(self.role, Late(event.frame, declared, name, what(event), frame), "gateway")
            now.append((ORDER.index(type(event)), effect, event))
        self._waiting, self._taken = waiting, frame
        return [event for _, _, event in sorted(now, key=_order)]


def _order(entry: tuple[int, int, Event]) -> tuple[int, int, int]:
    """Notes come from several roles: of those of one frame, the order is that of their ids."""
    kind, effect, event = entry
    return kind, effect, event.note_id if isinstance(event, Note) else 0
