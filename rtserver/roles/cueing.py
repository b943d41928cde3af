"""The follower's cues: fired in step with its positions, and what they ask for sent to those who do it."""

from __future__ import annotations

from rtserver.config.cues import Cue as CueConfig
from rtserver.errors import ScoreError
from rtserver.events import Command, Cue, Note, Param, Position
from rtserver.following.cues import Cues, Fired, Mark
from rtserver.following.naming import quarter_of
from rtserver.following.score import Score
from rtserver.following.states import FOLLOWING
from rtserver.midi.mapping import Action, action_of
from rtserver.midi.messages import N_CHANNELS
from rtserver.midi.notes import playable
from rtserver.roles.agenda import Agenda
from rtserver.shared.session import RESTARTS, Session
from rtserver.wire.parameters import table

FIRST_NOTE_ID = 1 << 48  # of cues: above those of clients, below 2^53


class Cueing:
    """Fires the cues of the song on the follower's deck.

    Parameters
    ----------
    session : Session
    score : Score
    agenda : Agenda
        The follower's own: a cue may tell it something, too.
    """

    def __init__(self, session: Session, score: Score, agenda: Agenda) -> None:
        self._session, self._agenda = session, agenda
        self._sample_rate = session.config.audio.sample_rate
        self._all: list[CueConfig] = session.config.cues.cue
        n = len(self._all)
        marks = [Mark(quarter_of(score, cue.at), cue.lead_s, cue.skipped == "fire", cue.again) for cue in self._all]
        state, armed = session.block[f"deck{session.deck}.cues"][:, :n]
        if int(session.role(session.own("follower"))[RESTARTS]) == 0:  # an heir goes by what its predecessor left
            state[:] = 0
            armed[:] = [cue.armed for cue in self._all]
        self._cues = Cues(marks, state, armed)
        known = table(session.config) if n else {}
        self._actions: list[Action | None] = [action_of(cue.command, cue.parameter, cue.value, known) for cue in self._all]

    def take(self, position: Position) -> None:
        """Fire what `position` reaches."""
        if self._all and position.state in FOLLOWING:
            for fired in self._cues.take(position.quarter, position.tempo_bpm):
                self._tell(fired, position.frame, position.available_frame)

    def obey(self, command: Command, quarter: float, frame: int, available_frame: int) -> None:
        """``cue``: go, back, arm or disarm; and what has put the follower at `quarter`. Raises `ScoreError`."""
        if command.name in ("reset", "start_at"):
            self._cues.reset(quarter)
        elif command.name == "seek":
            self._cues.seek(quarter)
        elif command.name == "cue":
            action, _, name = str(command.value).partition(" ")
            self._by_hand(action, name, frame, available_frame)

    def _by_hand(self, action: str, name: str, frame: int, available_frame: int) -> None:
        if action in ("arm", "disarm"):
            self._cues.arm(self._named(name), action == "arm")
        elif action == "go":
            fired = self._cues.go()
            if fired is None:
                raise ScoreError("there is no cue left to fire")
            self._tell(fired, frame, available_frame)
        elif action == "back":
            index = self._cues.back()
            if index is None:
                raise ScoreError("no cue has fired that could be taken back")
            self._emit(index, available_frame, available_frame, "back")

    def _named(self, name: str) -> list[int]:
        found = [index for index, cue in enumerate(self._all) if name in ("", cue.name)]
        if not found:
            raise ScoreError(f"no cue is called {name!r}")
        return found

    def _tell(self, fired: Fired, frame: int, available_frame: int) -> None:
        """Tell of a cue, and have done what it asks for at its place, or as soon as it can be."""
        at = max(frame + round(fired.ahead_s * self._sample_rate), available_frame)
        self._emit(fired.number, at, available_frame, fired.how)
        action = self._actions[fired.number]
        if action is None or fired.how == "dropped":
            return
        if action.name == "note":
            self._play(str(action.value), fired.number, at, available_frame)
            return
        told = Param(at, available_frame, action.name, action.value or 0.0) if action.is_parameter else None
        event = told or Command(at, available_frame, action.name, action.value)
        others = [role for role in action.roles if role != "follower"]
        self._session.emit("follower", event, *others, "gateway")
        if "follower" in action.roles:
            self._agenda.add(event)

    def _play(self, value: str, index: int, frame: int, available_frame: int) -> None:
        """A note, ``"PITCH VELOCITY DURATION_S [CHANNEL]"`` with the channel from 1, as ``[midi.map]`` has it."""
        try:
            pitch, velocity, duration_s, channel = (*(float(v) for v in value.split()), self._session.config.generation.channel)[:4]
            note_id, duration = FIRST_NOTE_ID + frame * len(self._all) + index, round(duration_s * self._sample_rate)
            note = Note(frame, available_frame, note_id, int(pitch), int(velocity), duration, (int(channel) - 1) % N_CHANNELS, "cue")
        except (ValueError, OverflowError):
            return
        if playable(note):
            self._session.emit("follower", note, "midi", "gateway")
            self._agenda.add(note)

    def _emit(self, index: int, frame: int, available_frame: int, how: str) -> None:
        upcoming = self._cues.next
        name, quarter = self._all[index].name, self._cues.marks[index].quarter
        event = Cue(frame, available_frame, name, quarter, how, "" if upcoming is None else self._all[upcoming].name)
        self._session.emit("follower", event, "gateway")
