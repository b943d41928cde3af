"""The performer's click: driven by its transport, told to whoever plays clicks, asked for by parameters and commands."""

from __future__ import annotations

from rtserver.audio.clicks import ClickRing
from rtserver.config.click import PART
from rtserver.config.lookahead import lookahead_s
from rtserver.config.midi import outputs_of
from rtserver.events import Command, Event, Note, Position, Refused
from rtserver.following.score import Score
from rtserver.generation.click import Click, Strokes
from rtserver.generation.metre import Metre
from rtserver.midi.player import plays
from rtserver.shared.session import Session
from rtserver.transport import Transport

# So far ahead clicks are told, as notes are, beside what sinks ask for; and two blocks: the callback must know of it before its block.
COMMIT_S = 0.03
FREE_S = 0.2  # further ahead at a fixed tempo, of which nobody learns anything new: who stands still for less takes no click away


class Clicking:
    """The click of the song on the performer's deck.

    Parameters
    ----------
    session : Session
    transport : Transport
        The performer's.
    score : Score, optional
        The one that is followed.
    free : bool
        Whether the transport runs at a fixed tempo, by itself.

    Attributes
    ----------
    starts_at : float
        The quarter before which the performer plays nothing.
    """

    def __init__(self, session: Session, transport: Transport, score: Score | None, free: bool) -> None:
        config = session.config
        self._session, self._transport, self._free = session, transport, free
        self._score = score
        metre = Metre.of_score(score) if score is not None else Metre.fixed(config.generation.metre)
        mine = config.click
        strokes = Strokes(mine.pitch, mine.accent_pitch, mine.velocity, mine.accent_velocity, mine.channel - 1)
        self._click = Click(transport, metre, strokes, enabled=mine.enabled, subdivision=mine.subdivision, deck=session.deck)
        self._n_bars = mine.count_in_bars
        self._ring = ClickRing(session.block, session.deck)
        probe = Note(0, 0, 0, mine.pitch, 1, 1, 0, PART)
        played = any(plays(port, name, probe) for name, port in outputs_of(config).items())
        self._sinks = ("midi", "gateway") if played else ("gateway",)  # midi would count what nobody plays as dropped
        ahead_s = COMMIT_S + lookahead_s(config) + (FREE_S if free else 0.0)
        self._horizon = round(ahead_s * config.audio.sample_rate) + 2 * config.audio.block_size
        self._quarter = 0.0  # where the follower stands
        self._n_late = 0  # as counted

    @property
    def starts_at(self) -> float:
        return self._click.starts_at

    def start(self, frame: int) -> None:
        """Let a free transport start at the hop that ends at `frame`; a little later where it clicks, else the first click were late."""
        self._click.start(frame + (self._horizon if self._n_bars or self._click.enabled else 0), self._n_bars)

    def hear(self, position: Position) -> None:
        """Where the follower is, whatever its state: a count-in leads there."""
        self._quarter = position.quarter

    def obey(self, command: Command, frame: int) -> None:
        """``count_in``, from the hop that ends at `frame` on."""
        n_bars = int(command.value) if isinstance(command.value, int | float) else self._n_bars or 1
        at = frame + self._horizon
        if self._free:
            self._click.start(at, n_bars)
        elif self._transport.running:
            why = "the musical clock runs with the player: count in while it stands"
            self._session.emit("performer", Refused(frame, frame, self._session.own("performer"), "command count_in", why), "gateway")
        elif self._score is not None:
            self._click.count_in(at, n_bars, self._quarter, self._tempo_at(self._quarter))
        else:
            self._click.count_in(at, n_bars, self._transport.quarter, self._transport.tempo_bpm)

    def set(self, name: str, value: float | str | bool) -> None:
        """``enabled`` or ``subdivision``."""
        if name == "enabled":
            self._click.enabled = bool(value)
        elif name == "subdivision":
            self._click.subdivision = round(float(value))

    def reset(self) -> None:
        """Forget a count-in: the transport stands."""
        self._click.reset()

    def advance(self, frame: int) -> None:
        """Tell of what is due soon after the hop that ends at `frame`."""
        self._click.advance(frame, self._horizon, self._emit)
        late, self._n_late = self._click.n_late - self._n_late, self._click.n_late
        self._session.count("performer", "late_clicks", late)

    def _tempo_at(self, quarter: float) -> float:
        """What the score says of the tempo."""
        assert self._score is not None
        k = max(int(self._score.tempo_quarter.searchsorted(quarter, side="right")) - 1, 0)
        return float(self._score.tempo_bpm[k])

    def _emit(self, note: Event) -> None:
        assert isinstance(note, Note)
        self._ring.put(note.frame, note.velocity, note.pitch == self._click.strokes.accent_pitch)
        self._session.emit("performer", note, *self._sinks)
        self._session.count("performer", "clicks")
