"""A client of `performing.py` that plays the performer's notes in one of several ways, in a process of its own with no priority.

    python benchmarks/performing_client.py WAY EVENTS-ENDPOINT

due: sleeps until 0.5 ms before each note's due time, and spins the rest. receipt: plays a note when it is received, as a program does
to which nobody says when. relative: plays two seconds later than due, so that every next note is known when one is played, and sleeps from
each to the next for what lies between them, as programs do that have a list of steps; where nothing is known to come it begins anew.

One JSON array a line: topic, note_id, due_ns, then when it was received and when it was played, all on CLOCK_MONOTONIC. The topic `note_on`
is received only. Both clocks are one: client and server are on the same machine. It ends with its standard input.
"""

from __future__ import annotations

import gc
import heapq
import json
import select
import sys
import time

import msgspec
import zmq

SPIN_NS = 500_000
LATER_NS = 2_000_000_000
LONGEST_WAIT_NS = 20_000_000

Row = tuple[str, int, int, int, int]


class Feed:
    """The notes as they come in."""

    def __init__(self, endpoint: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        for topic in ("note", "heartbeat"):
            self.socket.subscribe(topic)
        self.socket.connect(endpoint)
        self.rows: list[Row] = []

    def take(self, wait_ns: int) -> list[tuple[int, int, int]]:
        """Notes that have come within `wait_ns`: (due_ns, note_id, received_ns). What only tells that one was sent is written down."""
        notes: list[tuple[int, int, int]] = []
        if not self.socket.poll(max(0, wait_ns) // 1_000_000):
            return notes
        while True:
            try:
                topic, header, payload = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return notes
            now_ns = time.monotonic_ns()
            if topic in (b"note", b"note_on"):
                event, due_ns = msgspec.msgpack.decode(payload), msgspec.msgpack.decode(header)[7]
                if topic == b"note_on":
                    self.rows.append(("note_on", event["note_id"], event["sent_ns"], now_ns, 0))
                elif due_ns is not None:
                    notes.append((due_ns, event["note_id"], now_ns))


def until(due_ns: int) -> int:
    """Sleep, then spin, until a time has come; what the clock says then."""
    while (left_ns := due_ns - time.monotonic_ns()) > 0:
        if left_ns > SPIN_NS:
            time.sleep((left_ns - SPIN_NS) * 1e-9)
    return time.monotonic_ns()


def by_due(feed: Feed) -> None:
    waiting: list[tuple[int, int, int]] = []
    while not ended():
        left_ns = waiting[0][0] - time.monotonic_ns() if waiting else LONGEST_WAIT_NS
        for note in feed.take(min(left_ns - 2 * SPIN_NS, LONGEST_WAIT_NS)):
            heapq.heappush(waiting, note)
        while waiting and waiting[0][0] - time.monotonic_ns() < 3 * SPIN_NS:
            due_ns, note_id, received_ns = heapq.heappop(waiting)
            feed.rows.append(("note", note_id, due_ns, received_ns, until(due_ns)))


def on_receipt(feed: Feed) -> None:
    while not ended():
        feed.rows += [("note", note_id, due_ns, received_ns, received_ns) for due_ns, note_id, received_ns in feed.take(LONGEST_WAIT_NS)]


def by_relative_sleeps(feed: Feed) -> None:
    known: list[tuple[int, int, int]] = []
    last_due_ns = None
    while not ended():
        for note in feed.take(0 if known else LONGEST_WAIT_NS):
            heapq.heappush(known, note)
        if not known:
            last_due_ns = None
            continue
        due_ns, note_id, received_ns = heapq.heappop(known)
        if last_due_ns is None:
            until(due_ns + LATER_NS)
        else:
            time.sleep(max(0, due_ns - last_due_ns) * 1e-9)
        last_due_ns = due_ns
        feed.rows.append(("note", note_id, due_ns + LATER_NS, received_ns, time.monotonic_ns()))


def ended() -> bool:
    """Whether whoever started us wants the rows."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


WAYS = {"due": by_due, "receipt": on_receipt, "relative": by_relative_sleeps}


def main() -> None:
    feed = Feed(sys.argv[2])
    feed.take(10_000_000_000)  # the first heartbeat
    print("ready", flush=True)
    gc.collect()
    gc.freeze()
    WAYS[sys.argv[1]](feed)
    for row in feed.rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
