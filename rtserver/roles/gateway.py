"""The gateway role: everything the other roles say goes out on the sockets; what clients ask goes to the roles.

It may be late, and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import math
import resource
import socket
import sys
import threading
import time

import zmq

from rtserver import __version__
from rtserver.audio.table import playing
from rtserver.events import Event, Note, Song, Status
from rtserver.operations.log import EventLog
from rtserver.roles.rawfeed import RawFeed
from rtserver.roles.role import TURN_S
from rtserver.shared.session import COUNTERS, EVENT_PATHS, SECOND, Session
from rtserver.wire import discovery
from rtserver.wire.bulk import FeatureTap, audio_taps
from rtserver.wire.control import HEARTBEAT_S, Control
from rtserver.wire.discovery import Notice
from rtserver.wire.meters import MeterTap
from rtserver.wire.protocol import FEATURE_TOPIC, VERSION
from rtserver.wire.rawmidi import FAMILY, PARTS, topic_of
from rtserver.wire.zeromq import Sockets

STATUS_S = 1.0
METER_TOPIC = "meters"
LIVELY = [METER_TOPIC, *(topic_of(part) for part in PARTS)]  # what is made only while somebody asks for it
METER_TURN_S = 0.02  # while somebody looks at meters: less than half of their window, so that none is missed
BULK_TURN_S = 0.01  # while somebody listens to audio: a chunk's length
LAST_EVENTS_S = 0.25  # midi wakes within 50 ms of its signal and lets go of every note
SYNC_TURN_S = 0.002  # while somebody waits for a sync: roles do not say when they have read their ring
REQUESTS_A_TURN = 256  # a flood of requests must not keep the heartbeat waiting
# ZeroMQ bounds neither the frames of a message nor the subscriptions of a peer. Whoever abuses that loses the connection, or at worst ends
# the gateway, which comes back in a moment, but does not take the machine's memory. Some 130 MB are in use, and a few for each slow reader.
MEMORY_SIZE = 1 << 29


class Doorbell:
    """Turns the session's semaphore, which no poller can watch, into a socket that one can: a thread that does nothing else."""

    def __init__(self, session: Session) -> None:
        self._waker = session.waker("gateway")
        self._rings = [session.ring(producer, "gateway") for producer, to in EVENT_PATHS.items() if "gateway" in to]
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            # Where wakers poll (macOS) a wait ends without a post: look before ringing.
            if self._waker.wait(0.2) and any(int(ring.taken[0]) < int(ring.written[0]) for ring in self._rings):
                with contextlib.suppress(BlockingIOError):  # full: it rings loudly enough
                    self._sender.send(b"\0")

    def clear(self) -> None:
        """Stop ringing until the next post."""
        with contextlib.suppress(BlockingIOError):
            while self.receiver.recv(4096):
                pass

    def close(self) -> None:
        """End the thread."""
        self._stopped = True
        self._waker.post()
        self._thread.join(1.0)
        self.receiver.close()
        self._sender.close()


class GatewayRole:
    """Publishes and answers."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._next: Song | None = None  # the song that is about to begin
        self._replies: list[tuple[list[bytes], list[bytes]]] = []  # to be sent at the end of the turn

    def prepare(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_SIZE, resource.getrlimit(resource.RLIMIT_DATA)[1]))
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # its memory holds the secret key
        self.session.turn_to(playing(self.session.block))
        session, wire = self.session, self.session.config.wire
        epoch = time.monotonic_ns() // 1_000_000  # grows with every start of the gateway on this machine
        self.sockets = Sockets(wire, f"{session.block.boot_id:016x}", epoch)
        session.block["counters.gateway"][:] = 0  # totals since this start
        self._take_song()
        self.control = Control(
            session,
            publish=self.publish,
            sequences=self.sockets.events.sequences,
            epoch=epoch,
            endpoints=self.sockets.endpoints,
            bulk_topics=self.bulk_topics,
        )
        self.raw = RawFeed(session, self.sockets.send_raw)
        self._announce(epoch)
        self.log = EventLog(session.config.log) if session.config.log.file else None
        self.doorbell = Doorbell(session)
        self.sockets.poller.register(self.doorbell.receiver.fileno(), zmq.POLLIN)
        self._heartbeat_due_s = self._status_due_s = time.monotonic()

    def _announce(self, epoch: int) -> None:
        session, endpoints = self.session, self.sockets.endpoints
        name, boot_id, pid = session.config.name, f"{session.block.boot_id:016x}", session.block.creator
        self.notice = Notice(name, [VERSION], __version__, pid, boot_id, epoch, endpoints, self.sockets.public_key)
        try:
            discovery.write(self.notice)
        except OSError as error:
            print(f"rtserver gateway: clients cannot find this server by its name: {error}", file=sys.stderr, flush=True)

    def _take_song(self) -> None:
        """What there is to hear of the song that plays."""
        self.audio = audio_taps(self.session)
        self.features = FeatureTap(self.session.features)
        self.meters = MeterTap(self.session)
        self.bulk_topics = [*(tap.topic for tap in self.audio), FEATURE_TOPIC]

    def _turn_to(self, song: Song) -> None:
        """Go with the song that begins."""
        self.session.turn_to(song.deck)
        self._take_song()
        self.control.take_song(self.bulk_topics)

    def publish(self, event: Event) -> None:
        """One event to the subscribers and to what snapshots tell."""
        clock = self.session.clock
        due_ns = round(clock.time_at(event.frame) * 1e9) if isinstance(event, Note) and clock.running else None
        self.sockets.send_event(event, due_ns)
        self.session.count("gateway", "events")
        self.raw.take(event)
        self.control.observe(event)
        if self.log is not None:
            self.log.take(event)

    def turn(self) -> bool:
        self._serve(self._patience_ms())
        self._send_bulk()
        self._send_periodic(time.monotonic())
        if self.sockets.doorman.revoked:
            print("rtserver gateway: a key was taken off the allow-list: starting anew, without its holder", file=sys.stderr, flush=True)
            return False
        return True

    def _serve(self, patience_ms: int) -> None:
        """Wait for something to do and do it: events out, requests in, subscriptions noted."""
        self.sockets.poller.poll(patience_ms)
        self.sockets.doorman.serve()
        self.doorbell.clear()
        # Before the events: whoever has had a heartbeat since it subscribed gets all that is told from now on.
        self.sockets.events.take_subscriptions(LIVELY, FAMILY)
        self.raw.turn(self.sockets.events.wanted_of(FAMILY))
        for event in self.session.receive("gateway"):
            self.publish(event)
            if isinstance(event, Song) and event.state == "playing":
                self._next = event
        if self._next is not None and self.session.frame >= self._next.frame:
            song, self._next = self._next, None
            self._turn_to(song)
        for who, envelope, frames in self.sockets.requests(REQUESTS_A_TURN):
            refused = self.control.handle(frames, lambda reply, to=envelope: self._replies.append((to, reply)), who)
            self.session.count("gateway", "commands" if not refused else "rate_limited" if refused == "rate_limited" else "bad_messages")
        if self.control.syncs:
            self.control.syncs.settle()
        self.control.parameters.save()  # before the replies: what a client is told outlives this process
        for envelope, reply in self._replies:
            self.sockets.reply(envelope, reply)
        self._replies.clear()
        self.sockets.bulk.take_subscriptions(self.bulk_topics)

    def _patience_ms(self) -> int:
        patience_s = min(TURN_S, self._heartbeat_due_s - time.monotonic())
        if self.control.syncs:
            patience_s = min(patience_s, SYNC_TURN_S)
        elif self.sockets.events.wanted(METER_TOPIC):
            patience_s = min(patience_s, METER_TURN_S)
        if self.sockets.bulk.prefixes:
            patience_s = min(patience_s, BULK_TURN_S)
        return max(math.ceil(patience_s * 1000), 0)

    def _send_bulk(self) -> None:
        bulk, frame, sample_rate = self.sockets.bulk, self.session.frame, self.session.config.audio.sample_rate
        for tap in self.audio:
            if not bulk.wanted(tap.topic):
                tap.stop()
                continue
            for chunk in tap.chunks():
                self.sockets.send_bulk(tap.topic, chunk, frame, sample_rate)
        if not bulk.wanted(FEATURE_TOPIC):
            self.features.stop()
            return
        for chunk in self.features.chunks():
            self.sockets.send_bulk(FEATURE_TOPIC, chunk, frame, sample_rate)

    def _send_periodic(self, now_s: float) -> None:
        if self.sockets.events.wanted(METER_TOPIC) and (meters := self.meters.read()) is not None:
            self.sockets.send_event(meters)
        if now_s >= self._heartbeat_due_s:
            self._heartbeat_due_s = max(self._heartbeat_due_s + HEARTBEAT_S, now_s)
            self.sockets.send_event(self.control.heartbeat())
        if now_s >= self._status_due_s:
            self._status_due_s = max(self._status_due_s + STATUS_S, now_s)
            lost = sum(tap.lost for tap in self.audio) + self.features.lost
            self.session.count_max("gateway", "dropped_events", self.sockets.events.overflows)
            self.session.count_max("gateway", "dropped_bulk", self.sockets.bulk.overflows + lost)
            self.session.count_max("gateway", "dropped_replies", self.sockets.dropped_replies)
            self.session.count_max("gateway", "lost_events", self.control.accounts.lost_events)
            self.session.count_max("gateway", "lost_bulk", self.control.accounts.lost_bulk)
            self.session.count_set("gateway", "clients", self.control.accounts.active(now_s))
            self.sockets.doorman.tick()
            self.control.view.hop_times.tick(now_s)
            if self.log is not None:
                self.log.flush()
                self.session.count_max("gateway", "log_failures", self.log.failures)
            self.session.count_max("gateway", "denied", self.sockets.doorman.denied)
            frame = self.session.frame
            for role in ("audio", *(r for r in COUNTERS if not r.endswith(SECOND))):
                values = self.control.view.counters(role)
                if values:
                    self.publish(Status(frame, frame, role, values))

    def close(self) -> None:
        # The other roles are ending too: their last note-offs belong to the clients.
        end_s = time.monotonic() + LAST_EVENTS_S
        while (patience_s := end_s - time.monotonic()) > 0:
            self._serve(math.ceil(patience_s * 1000))
        self.raw.cut_all()
        discovery.remove(self.notice)
        if self.log is not None:
            self.log.close()
        self.doorbell.close()
        self.sockets.close()
