"""From raw MIDI as it is told to bytes at their time on this machine's clock. Pure: the caller brings the time and sends."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FAMILY = "midi."  # topics of raw MIDI; followed by the part
# So long after the last heartbeat was sent all is let go of: 0.05 s before `LEASE_S` has run out, for the way through the port to the ear.
SILENCE_S = 0.25
LATE_S = 0.03  # a note-on this late is heard as wrong; leaving its note out is heard as a rest
ECHOES_NS = (50_000_000, 150_000_000)  # a note-off is sent again so long after: MIDI systems lose messages when they are late
MAX_NOTES = 4096


class Arrival(NamedTuple):
    """When a message came, on this machine's clock.

    offset_ns : how far the server's is ahead; sent_ns : when it was sent, at the latest, on ours.
    """

    now_ns: int
    offset_ns: float
    sent_ns: float


@dataclass
class _Note:
    """A note between its telling and its end; times are this machine's."""

    data: bytes
    on_ns: int
    off_ns: int
    begun: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return self.data[0] & 0x0F, self.data[1]


@dataclass
class Counts:
    """What became of the notes so far."""

    played: int = 0
    late: int = 0  # of them, begun more than 5 ms after their time
    dropped: int = 0  # left out: later than the limit when their turn came, told without a lease, or too many
    cut: int = 0  # ended by the server before their time, or taken back before they began
    expired: int = 0  # let go of because the server fell silent
    lost: int = 0  # messages that never came
    late_ns_max: int = 0

    def map(self) -> dict[str, int]:
        """By name."""
        return dict(vars(self))


@dataclass
class Sequencer:
    """Plays raw MIDI. No note outlives its end, what the server takes back, or the server by more than `SILENCE_S`.

    Parameters
    ----------
    topics : collection of str
        Those to play; others are ignored.
    channels : mapping
        The server's channel -> ours, both from 0.
    late_s : float
        A note whose turn comes later than this is left out, with its release. A release is never left out.
    offset_s : float
        Everything is played so much later; below 0 earlier, as far as it is known.
    """

    topics: Collection[str] = ()
    channels: Mapping[int, int] = field(default_factory=dict)
    late_s: float = LATE_S
    offset_s: float = 0.0
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._notes: dict[int, _Note] = {}
        self._holders: dict[tuple[int, int], int] = {}  # (channel, pitch): the note that sounds there
        self._heap: list[tuple[int, int, int, int]] = []  # (when, 0: end, 1: start, 2: echo; serial, note or key)
        self._serial = 0
        self._now: list[bytes] = []  # to be sent at once
        self._stream: tuple[str, int] | None = None
        self._seen: dict[str, int] = {}
        self._lease_ns: int | None = None  # until when the server's last heartbeat holds

    @property
    def held(self) -> list[tuple[int, int]]:
        """(channel, pitch) of the notes that sound."""
        return list(self._holders)

    def take(self, topic: str, header: list[Any], payload: Any, arrival: Arrival) -> None:
        """A message of the events socket."""
        now_ns, offset_ns, sent_ns = arrival
        stream = (header[1], header[2])
        if stream != self._stream:
            self.release(now_ns)
            self._stream, self._lease_ns = stream, None
            self._seen.clear()
        if topic == "heartbeat":
            self._beat(payload["sequences"], sent_ns, now_ns)
        elif topic in self.topics and len(header) >= 11 and self._lease_ns is not None:
            self._check(topic, header[3] - 1, now_ns)
            self._seen[topic] = header[3]
            local_ns = round(header[7] - offset_ns + self.offset_s * 1e9)
            if header[10] == "on":
                self._plan(header[8], payload, local_ns, header[9], now_ns)
            elif header[10] == "cut":
                self._cut(header[8], local_ns, now_ns)

    def due(self, now_ns: int) -> list[bytes]:
        """What is to be sent now, in order."""
        if self._lease_ns is not None and now_ns >= self._lease_ns and (self._holders or self._notes):
            self.counts.expired += len(self._holders)
            self.release(now_ns)
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, kind, _, what = heapq.heappop(self._heap)
            if kind == 2:
                self._echo(what)
                continue
            note = self._notes.get(what)
            if note is not None and kind == 1 and not note.begun and note.on_ns == at_ns:
                self._start(what, note, now_ns)
            elif note is not None and kind == 0 and note.off_ns == at_ns:
                self._end(what, now_ns)
        messages, self._now = self._now, []
        return messages

    @property
    def next_ns(self) -> int | None:
        """When `due` has something to do; None if never."""
        dues = [self._heap[0][0]] if self._heap else []
        if self._lease_ns is not None and (self._holders or self._notes):
            dues.append(self._lease_ns)
        return 0 if self._now else min(dues, default=None)

    def release(self, now_ns: int) -> None:
        """Forget what waits and let go of what sounds, with the next `due`."""
        for note_id in list(self._holders.values()):
            self._end(note_id, now_ns)
        self._notes.clear()

    def _beat(self, sequences: dict[str, int], sent_ns: float, now_ns: int) -> None:
        lease_ns = round(sent_ns) + round(SILENCE_S * 1e9)
        if self._lease_ns is None:  # the first one proves that the subscriptions hold: from here on all must come
            self._seen = {topic: sequences.get(topic, 0) for topic in self.topics}
            self._lease_ns = lease_ns
        self._lease_ns = max(self._lease_ns, lease_ns)
        for topic in self.topics:
            self._check(topic, sequences.get(topic, 0), now_ns)

    def _check(self, topic: str, last: int, now_ns: int) -> None:
        """Nobody knows what was lost: a note may have been taken back."""
        n = last - self._seen.get(topic, 0)
        if n > 0:
            self.counts.lost += n
            self._seen[topic] = last
            self.release(now_ns)

    def _plan(self, note_id: int, data: bytes, on_ns: int, duration_ns: int, now_ns: int) -> None:
        if self._lease_ns is None or now_ns >= self._lease_ns or len(self._notes) >= MAX_NOTES:
            self.counts.dropped += 1
            return
        if note_id in self._notes:  # ids of notes by hand begin anew with the server's midi role
            self._end(note_id, now_ns)
        channel = data[0] & 0x0F
        note = _Note(bytes((0x90 | self.channels.get(channel, channel), *data[1:])), on_ns, on_ns + max(duration_ns, 1))
        self._notes[note_id] = note
        self._push(on_ns, 1, note_id)

    def _cut(self, note_id: int, at_ns: int, now_ns: int) -> None:
        note = self._notes.get(note_id)
        if note is None or at_ns >= note.off_ns:
            return
        self.counts.cut += 1
        note.off_ns = at_ns
        if not note.begun and note.on_ns >= at_ns:
            del self._notes[note_id]
        elif note.begun and at_ns <= now_ns:
            self._end(note_id, now_ns)
        elif note.begun:
            self._push(at_ns, 0, note_id)

    def _start(self, note_id: int, note: _Note, now_ns: int) -> None:
        late_ns = now_ns - note.on_ns
        if late_ns > self.late_s * 1e9:
            self.counts.dropped += 1
            del self._notes[note_id]
            return
        self.counts.played += 1
        self.counts.late += late_ns > 5_000_000
        self.counts.late_ns_max = max(self.counts.late_ns_max, late_ns)
        if note.key in self._holders:  # a pitch sounds once
            self._end(self._holders[note.key], now_ns)
        note.begun = True
        self._holders[note.key] = note_id
        self._now.append(note.data)
        self._push(note.off_ns, 0, note_id)

    def _end(self, note_id: int, now_ns: int) -> None:
        note = self._notes.pop(note_id)
        if self._holders.get(note.key) != note_id:
            return
        del self._holders[note.key]
        channel, pitch = note.key
        self._now.append(bytes((0x80 | channel, pitch, 0)))
        for after_ns in ECHOES_NS:
            self._push(now_ns + after_ns, 2, channel << 7 | pitch)

    def _echo(self, key: int) -> None:
        channel, pitch = key >> 7, key & 0x7F
        if (channel, pitch) not in self._holders:
            self._now.append(bytes((0x80 | channel, pitch, 0)))

    def _push(self, at_ns: int, kind: int, what: int) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at_ns, kind, self._serial, what))
