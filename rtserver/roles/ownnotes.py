"""What of the sound and of the keys is not the player's: the notes that we send, handed to those who know them again."""

from __future__ import annotations

from rtserver.config import Config
from rtserver.config.midi import outputs_of
from rtserver.events import MidiIn, Note
from rtserver.following.bleed import OwnNote
from rtserver.following.echoes import Echoes
from rtserver.following.follower import Follower
from rtserver.midi.player import plays
from rtserver.roles.hops import HOPS_A_SECOND

EARLY_S = 0.005  # a message may be stamped so much before it was due: the clock is a fitted line, and ports send up to a JACK period ahead


class OwnKeys:
    """Knows keys again that our MIDI ports have played and that have come back.

    Parameters
    ----------
    config : Config
        Of the song.
    """

    def __init__(self, config: Config) -> None:
        sample_rate, following = config.audio.sample_rate, config.following
        self.latency = round(following.return_latency_s * sample_rate)
        self._hop_size = round(sample_rate / HOPS_A_SECOND)
        self._ports = {name: (port, round(port.offset_s * sample_rate)) for name, port in outputs_of(config).items()}
        self._echoes = Echoes(round(EARLY_S * sample_rate), self.latency + round(following.echo_s * sample_rate))

    def dues(self, note: Note) -> dict[str, int]:
        """The frame at which each port that plays `note` sends it."""
        return {name: note.frame + offset for name, (port, offset) in self._ports.items() if plays(port, name, note)}

    def note(self, note: Note) -> None:
        """It is going to be played."""
        self._echoes.note(note.pitch, self.dues(note))

    def is_own(self, key: MidiIn) -> bool:
        """Whether a key is one of our notes that has come back."""
        return self._echoes.is_own(key.data[1], key.frame)

    def advance(self, frame: int) -> None:
        """The hop that ends at `frame` goes by: keys struck a hop or more before it have been taken."""
        self._echoes.advance(frame - 2 * self._hop_size)


class OwnNotes:
    """Tells the follower, hop by hop, of the notes that our MIDI ports play. All it does depends on frames alone.

    Parameters
    ----------
    config : Config
        Of the song.
    follower : Follower
    """

    def __init__(self, config: Config, follower: Follower) -> None:
        self._follower = follower
        self._ignored = config.following.own_notes == "ignore"
        self._hears_keys = bool(config.following.keys)
        self._hop_size = round(config.audio.sample_rate / HOPS_A_SECOND)
        self._keys = OwnKeys(config)

    def ignores(self, note: Note) -> bool:
        """Whether `note` is one that is not to be followed."""
        return self._ignored and bool(self._keys.dues(note))

    def take(self, note: Note, frame: int) -> bool:
        """Know of a note before the hop that ends at `frame`. Returns whether it is one that is not to be followed."""
        if not self.ignores(note):
            return False
        if self._hears_keys:
            self._keys.note(note)
        else:
            heard = min(self._keys.dues(note).values()) + self._keys.latency
            self._follower.own_note(OwnNote(note.pitch, note.velocity, note.channel, (heard - frame) // self._hop_size + 1))
        return True

    def is_own(self, key: MidiIn) -> bool:
        """Whether a key is one of our notes that has come back."""
        return self._keys.is_own(key)

    def advance(self, frame: int) -> None:
        """The hop that ends at `frame` goes by."""
        self._keys.advance(frame)
