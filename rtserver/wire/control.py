"""From requests to replies: what each op does. Reads the shared block and sends to the roles' rings; knows no sockets."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import rtserver
from rtserver import events
from rtserver.audio.table import begins
from rtserver.config.midi import outputs_of
from rtserver.events import Event
from rtserver.following.naming import COMMANDS
from rtserver.following.score import Score
from rtserver.shared.session import SECOND, STATE, UP, Session
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire.absent import absent_from, need
from rtserver.wire.limits import BURST, RATE, Accounts
from rtserver.wire.orders import FollowerRequest, order_of
from rtserver.wire.parameters import EFFECT_S, Parameters
from rtserver.wire.rawmidi import PARTS, topic_of
from rtserver.wire.syncs import Respond, Syncs
from rtserver.wire.view import View

REMEMBERED = 8192  # requests with effects whose replies are kept, for clients that ask again: some 5 MB
REMEMBERED_EACH = 512  # of one client: what it may ask at once, so that no flood makes the others' forgotten
MAX_PLANNED = 1024  # notes a snapshot lists: more than any plan holds
MAX_NAMED = 64  # clients listed in `status`
MAX_AHEAD = 256  # changes that wait for their frames
MAX_AHEAD_S = 600  # how far ahead a `set` may take effect

HEARTBEAT_S = 0.1  # two of them fit into the 300 ms in which a client must let go of its notes

EFFECTS = {
    "count_in",
    "record",
    "song",
    "reload",
    "set",
    "panic",
    "reset",
    "note",
    "quit",
    *COMMANDS,
}  # asked twice with one id, these happen once


class Control:
    """Answers requests.

    Parameters
    ----------
    session : Session
    publish : callable
        Takes the events that a request causes (Param, Command, Note), so that subscribers and the recording have them.
    sequences : dict of str to int
        The event publisher's own table of last sequence numbers, read for snapshots.
    epoch : int
        Of this gateway.
    endpoints : dict of str to str
        Told to clients in `hello`.
    bulk_topics : list of str
        Told to clients in `hello`.
    """

    def __init__(
        self,
        session: Session,
        *,
        publish: Callable[[Event], None],
        sequences: dict[str, int],
        epoch: int,
        endpoints: dict[str, str],
        bulk_topics: list[str],
    ) -> None:
        self.session = session
        self.publish = publish
        self.sequences = sequences
        self.epoch = epoch
        self.endpoints = endpoints
        self.boot_id = f"{session.block.boot_id:016x}"
        self.view = View(session)
        self.take_song(bulk_topics)
        self.accounts = Accounts(time.monotonic())
        self.planned: OrderedDict[int, events.Note] = OrderedDict()
        self.syncs = Syncs(session, self._up)
        self._ahead: list[int] = []  # frames that changes wait for
        self._answered: OrderedDict[str, tuple[r.Request, list[bytes]]] = OrderedDict()
        self._account = self.accounts.of("", time.monotonic())  # of whoever is being answered
        # Ids of clients' notes lie above all others and never come twice in a session, restarted gateway or not; below 2^53 for JavaScript.
        self._next_note_id = epoch << 12
        self._slack = round(EFFECT_S * session.config.audio.sample_rate)
        self._handlers: dict[str, Callable[[Any], dict[str, Any]]] = {
            "hello": self._hello,
            "ping": self._ping,
            "status": self._status,
            "snapshot": self._snapshot,
            "get": self._get,
            "set": self._set,
            "panic": self._panic,
            "reset": self._reset,
            **dict.fromkeys(COMMANDS, self._tell_follower),
            "count_in": self._count_in,
            "note": self._note,
            "quit": self._quit,
            "record": self._record,
            "song": self._song,
            "reload": self._reload,
        }

    def take_song(self, bulk_topics: list[str]) -> None:
        """Take the parameters and roles of the song that plays; what was set for another, or for it when it played before, is gone.

        A gateway that comes back within a song finds what was set by the frame at which the song began.
        """
        session, self.bulk_topics = self.session, bulk_topics
        stay = f"{session.setup.song or 'show'}-{begins(session.block, session.deck)}"
        self.parameters = Parameters(session.config, session.run_folder / f"parameters-{stay}.json")
        self.absent = absent_from(session)
        self.position: events.Position | None = None
        self._score: Score | None = None

    def handle(self, frames: list[bytes], respond: Respond, who: str = "") -> str:
        """Take one request of the client `who` and answer it through `respond`, at once or (sync) later.

        Returns the code of the refusal, empty if there is none; raises nothing.
        """
        now_s = time.monotonic()
        account = self._account = self.accounts.of(who, now_s)
        account.requests += 1
        request_id = ""
        try:
            wait_s = account.bucket.take(now_s)
            if wait_s:
                request_id = p.request_id(frames)
                message = f"more than {RATE:g} requests a second and {BURST:g} at once; try again in {wait_s:.3f} s"
                raise p.Refusal("rate_limited", message, retry_after_s=wait_s)
            request = p.decode_request(frames)
            request_id = request.id
            self._answer(request, respond)
        except p.Refusal as refusal:
            refusal.id = refusal.id or request_id
            account.refused += refusal.code != "rate_limited"
            account.rate_limited += refusal.code == "rate_limited"
            respond(p.encode_reply(refusal.reply()))
            return refusal.code
        return ""

    def _answer(self, request: r.Request, respond: Respond) -> None:
        seen = self._answered.get(request.id)
        if seen is not None:
            if seen[0] != request:
                raise p.Refusal("id_reused", f"id {request.id!r} came before with another request; every request needs its own", "id")
            respond(seen[1])
            return
        if isinstance(request, r.SyncRequest):
            self.syncs.add(request.id, respond)
            return
        op = str(type(request).__struct_config__.tag)
        reply = p.encode_reply(p.Reply(request.id, True, result=self._handlers[op](request)))
        if op in EFFECTS:
            self._remember(request, reply)
        respond(reply)

    def _remember(self, request: r.Request, reply: list[bytes]) -> None:
        self._answered[request.id] = (request, reply)
        ids = self._account.answered
        ids.append(request.id)
        if len(ids) > REMEMBERED_EACH:
            self._answered.pop(ids.popleft(), None)
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    # -- what can be asked ------------------------------------------------------------------------------------------------------------

    def _hello(self, request: r.HelloRequest) -> dict[str, Any]:
        if p.VERSION not in request.versions:
            spoken = ", ".join(map(str, request.versions)) or "none"
            raise p.Refusal("version", f"the client speaks protocol versions {spoken}, this server speaks {p.VERSION}", "versions")
        if request.client:
            self._account.name, self._account.hello_s = request.client, time.monotonic()
        config = self.session.config
        return {
            "version": p.VERSION,
            "server": config.name,
            "release": rtserver.__version__,
            "boot_id": self.boot_id,
            "epoch": self.epoch,
            "sample_rate": config.audio.sample_rate,
            "inputs": {name: list(source.channels) for name, source in config.inputs.items()},
            "stream_epochs": self.view.stream_epochs(),
            "heartbeat_s": HEARTBEAT_S,
            "endpoints": self.endpoints,
            "ops": list(r.REQUESTS),
            "topics": list(p.TOPICS),
            "midi_topics": [topic_of(part) for part in PARTS],
            "bulk_topics": self.bulk_topics,
            "lookahead_s": config.wire.lookahead_s,
            "parameters": {name: parameter.describe() for name, parameter in self.parameters.table.items()},
        }

    def _ping(self, request: r.PingRequest) -> dict[str, Any]:
        self.accounts.lost(self._account, request.lost_events, request.lost_bulk)
        return {"sent_ns": request.sent_ns, "server_ns": time.monotonic_ns(), "frame": self.session.frame}

    def _status(self, _: r.StatusRequest) -> dict[str, Any]:
        accounts = self.accounts.latest(MAX_NAMED)
        now_s = time.monotonic()
        return {
            "frame": self.session.frame,
            "clock": self.view.clock(),
            "roles": {name: role | {"counters": self.view.counters(name)} for name, role in self.view.roles().items()},
            "lost_events": self.view.lost_events(),
            "clients": {account.name: now_s - account.hello_s for account in accounts.values() if account.hello_s is not None},
            "accounts": {who: account.report() for who, account in accounts.items()},
            "hop_times": self.view.hop_times.summaries(),
            "latencies": self.session.setup.latencies,
        }

    def _snapshot(self, _: r.SnapshotRequest) -> dict[str, Any]:
        frame = self.session.frame
        self._forget_what_is_over(frame)
        return {
            "boot_id": self.boot_id,
            "epoch": self.epoch,
            "sequences": dict(self.sequences),
            "frame": frame,
            "clock": self.view.clock(),
            "stream_epochs": self.view.stream_epochs(),
            "position": self.position,
            "notes": self.view.notes(),
            "planned": list(self.planned.values()),
            "parameters": self.parameters.values(),
            "roles": self.view.roles(),
        }

    def _get(self, request: r.GetRequest) -> dict[str, Any]:
        values = self.parameters.values()
        if not request.name:
            return {"values": values}
        if request.name not in values:
            raise p.Refusal("unknown_name", f"unknown parameter {request.name!r}; {p.nearest(request.name, values)}", "name")
        return {"values": {request.name: values[request.name]}}

    def _set(self, request: r.SetRequest) -> dict[str, Any]:
        parameter, value = self.parameters.check(request.name, request.value)
        need(self.absent, request.name.partition(".")[0], parameter.role, of=request.name, field="name")
        now = self.session.frame
        frame = now + self._slack if request.at_frame is None else max(request.at_frame, now)
        if frame - now > MAX_AHEAD_S * self.session.config.audio.sample_rate:
            raise p.Refusal("out_of_range", f"at_frame: expected at most {MAX_AHEAD_S} s after frame {now}, got {frame}", "at_frame")
        self._ahead = [waiting for waiting in self._ahead if waiting > now]
        planned = frame > now + self._slack
        if planned and len(self._ahead) >= MAX_AHEAD:
            raise p.Refusal("busy", f"{MAX_AHEAD} changes wait for their frames already", "at_frame")
        self._send(events.Param(frame, now, request.name, value), parameter.role)
        self._ahead += [frame] if planned else []
        self.parameters.store(request.name, value, frame, now)
        late = 0 if request.at_frame is None else frame - request.at_frame
        return {"name": request.name, "value": value, "frame": frame, "late_frames": late}

    def _panic(self, _: r.PanicRequest) -> dict[str, Any]:
        self.planned.clear()
        return self._command("panic", "midi", "performer")

    def _reset(self, _: r.ResetRequest) -> dict[str, Any]:
        self.planned.clear()
        return self._command("reset", "engine", "follower", "performer", after=self._slack)

    def _count_in(self, request: r.CountInRequest) -> dict[str, Any]:
        need(self.absent, "performer")
        return self._command("count_in", "performer", value=request.bars, after=self._slack)

    def _tell_follower(self, request: FollowerRequest) -> dict[str, Any]:
        need(self.absent, "follower")
        name, value = order_of(request, self._load_score, [cue.name for cue in self.session.config.cues.cue])
        return self._command(name, "follower", value=value, after=self._slack)

    def _load_score(self) -> Score:
        """The score that is followed, once a place in it was asked for."""
        if self._score is None:
            self._score = Score.from_npz(self.session.setup.score_file)
        return self._score

    def _quit(self, _: r.QuitRequest) -> dict[str, Any]:
        return self._command("quit", "supervisor")

    def _record(self, request: r.RecordRequest) -> dict[str, Any]:
        need(self.absent, "recorder")
        return self._command("record", "recorder", value=request.action)

    def _song(self, request: r.SongRequest) -> dict[str, Any]:
        now = self.session.frame
        frame = now if request.at_frame is None else max(request.at_frame, now)
        self._send(events.Command(frame, now, "song", request.name), "supervisor")
        return {"frame": frame}

    def _reload(self, _: r.ReloadRequest) -> dict[str, Any]:
        return self._command("reload", "supervisor")

    def _note(self, request: r.NoteRequest) -> dict[str, Any]:
        ports = dict.fromkeys(outputs_of(self.session.config))
        if request.port and request.port not in ports:
            raise p.Refusal("unknown_name", f"no MIDI output port {request.port!r}; {p.nearest(request.port, ports)}", "port")
        sample_rate = self.session.config.audio.sample_rate
        now = self.session.frame
        self._next_note_id += 1
        frame = now + round(request.delay_s * sample_rate)
        duration = round(request.duration_s * sample_rate)
        note_id, pitch, velocity = self._next_note_id, request.pitch, request.velocity
        note = events.Note(frame, now, note_id, pitch, velocity, duration, request.channel, "client", request.port)
        self._send(note, "midi")
        if self._up("follower"):
            self.session.emit("gateway", note, "follower")
        return {"note_id": note.note_id, "frame": frame, "duration": duration}

    # -- what goes on -----------------------------------------------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        """Keep what a snapshot has to tell, and tell a restarted role again what was set."""
        if isinstance(event, events.Position):
            self.position = event
        elif isinstance(event, events.Note):
            self._forget_what_is_over(self.session.frame)  # a note that was dropped as late has no end that would be told
            self.planned[event.note_id] = event
            if len(self.planned) > MAX_PLANNED:
                self.planned.popitem(last=False)
        elif isinstance(event, events.NoteOff):
            self.planned.pop(event.note_id, None)
        elif isinstance(event, events.Param) and event.name in self.parameters.table:  # a controller may have set it
            self.parameters.store(event.name, event.value, event.frame, self.session.frame)
        elif isinstance(event, events.Command) and event.name in {"panic", "reset"}:
            self.planned.clear()
        elif isinstance(event, events.Role) and event.state in {"up", "restarted"}:
            now, role = self.session.frame, event.role.removesuffix(SECOND)
            for frame, name, value in self.parameters.set_for(role, now) if self.session.own(role) == event.role else ():
                self.session.emit("gateway", events.Param(frame, now, name, value), role, "recorder")

    def _forget_what_is_over(self, frame: int) -> None:
        for note_id in [i for i, note in self.planned.items() if note.frame + note.duration <= frame]:
            del self.planned[note_id]

    def heartbeat(self) -> p.Heartbeat:
        """The heartbeat of this moment."""
        frame = self.session.frame
        return p.Heartbeat(frame, frame, dict(self.sequences), self.view.notes(), self.view.clock())

    def _up(self, role: str) -> bool:
        return role == "supervisor" or int(self.session.role(role)[STATE]) == UP

    def _command(self, name: str, *roles: str, value: float | str | None = None, after: int = 0) -> dict[str, Any]:
        frame = self.session.frame + after
        present = [role for role in roles if role not in self.absent]
        self._send(events.Command(frame, frame - after, name, value), *present)
        return {"frame": frame, "roles": present}

    def _send(self, event: Event, *roles: str) -> None:
        """To every role, even if one of them has no room; then to the subscribers, unless nobody took it."""
        full = [role for role in roles if not self.session.emit("gateway", event, role)]
        if "recorder" not in roles:
            self.session.emit("gateway", event, "recorder")
        if len(full) < len(roles):
            self.publish(event)
        if full:
            raise p.Refusal("busy", f"{', '.join(full)} did not take the message: the queue is full. Is the role running? See status")
