"""The sections `setlist`, `score`, `following` and `generation`: what is played, and who plays along."""

from __future__ import annotations

from typing import Literal

import msgspec

from rtserver.config.bounds import within
from rtserver.errors import ConfigError
from rtserver.generation.metre import Metre


class Setlist(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The songs of a show: TOML files beside this one, in the order in which they are played. Empty: the show is one song."""

    songs: list[str] = msgspec.field(default_factory=list[str])


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score to follow: MusicXML or MIDI; a relative path counts from the configuration file. Empty: nothing is followed."""

    file: str = ""
    parts: list[str | int] = msgspec.field(default_factory=list[str | int])  # by name, or by number from 1; empty: all
    tuning_hz: float = 440.0  # A4 of the instrument
    transpose: int = 0  # semitones by which it sounds above the notation at concert pitch: a capo
    cents: float = 0.0  # the same in cents

    @property
    def a4_hz(self) -> float:
        """What the A4 of the notation sounds like, cents included."""
        return self.tuning_hz * 2.0 ** (self.cents / 1200.0)


class Following(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the score is followed, and by which input; empty means the first.

    `keys` names a MIDI input port: then the keys struck there are followed, and not the sound. The methods that warp time compare the input
    with a reference: written down from the `score`, `rendered` from it by FluidSynth before the show, or a `recording` with known beats.
    What our own MIDI ports play may come back, by the microphone or as keys: with own_notes ``ignore`` it is not followed.
    `return_latency_s` is the time from when a note is due until it is heard at the input, as far as that is known; what is unknown of
    it, up to 0.1 s, is learnt.
    """

    method: str = "semimarkov"
    input: str = ""
    keys: str = ""
    reference: Literal["score", "rendered", "recording"] = "score"
    recording: str = ""  # WAV, FLAC or Ogg; a relative path counts from the configuration file, here and below
    recording_beats: str = ""  # CSV with the columns time_s and quarter, as `rtserver align` writes it
    sound_font: str = ""  # SF2 or SF3; empty: FluidR3, where Debian puts it
    own_notes: Literal["ignore", "hear"] = "ignore"
    return_latency_s: float = 0.0  # 0 to 1
    echo_s: float = 0.05  # so long after that a key of the same pitch is taken for our own come back: 0 to 0.5

    @property
    def model(self) -> str:
        """The model of the zoo that the method needs; empty: none."""
        return "onsets" if self.method == "semimarkov" else ""


# What may be set while it plays, too.
GENERATION_LIMITS = {
    "pitch_low": (0.0, 127.0),
    "pitch_high": (0.0, 127.0),
    "polyphony": (1.0, 16.0),
    "grid": (1.0, 96.0),
    "min_dt": (0.0, 96.0),
    "max_dt": (1.0, 96.0),
    "min_duration": (1.0, 96.0),
    "max_duration": (1.0, 96.0),
    "temperature": (0.01, 5.0),
    "top_p": (0.01, 1.0),
    "density": (0.0, 16.0),
    "register": (0.0, 127.0),
    "higher": (-3.0, 3.0),
    "sooner": (-3.0, 3.0),
    "patience": (0.0, 16.0),
}


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The performer: the network that plays along."""

    enabled: bool = True
    model: str = "performer"
    mode: Literal["accompany", "continue", "call_response", "along", "free"] = "accompany"
    start: Literal["at_once", "first_note"] = "at_once"  # of the clock, where neither a score nor a MIDI clock drives it
    listen: Literal["auto", "keys", "sound"] = "auto"  # auto: to the keys, once one has been struck, and to the sound until then
    harmony: Literal["whole", "harmonic"] = "whole"  # of which sound: all of it, or what separation calls its harmonic part
    patience: float = 1.0  # quarters of silence of the player before the performer takes its turn
    parts: list[str | int] = msgspec.field(default_factory=list[str | int])  # of the score, played as written; empty: those not followed
    fill: bool = True  # along: whether the performer plays in the long rests of these parts
    scale: str = "chromatic"
    chord: str = "any"
    pitch_low: int = 48  # MIDI pitch
    pitch_high: int = 84
    polyphony: int = 3  # notes sounding at once
    grid: int = 12  # onsets fall on multiples of this many ticks of 1/24 quarter: 12 = eighths, 6 = sixteenths
    min_dt: int = 0  # ticks between two onsets, here and below: 1 forbids chords
    max_dt: int = 96
    min_duration: int = 1  # ticks for which a key is down
    max_duration: int = 96
    temperature: float = 0.9
    top_p: float = 0.95
    part: Literal["unknown", "upper", "inner", "lower", "all"] = "unknown"  # which part of the whole the model is to take
    density: float = 0.0  # notes a quarter that are wished for; 0: as the model likes
    register: float = 0.0  # MIDI pitch around which to play; 0: as the model likes
    higher: float = 0.0  # leans the odds: each octave up is likelier by e to this power
    sooner: float = 0.0  # the same of each halving of the wait for the next note
    tempo_bpm: float = 100.0  # quarters a minute, where nothing is followed
    metre: str = "4/4"  # where no score is followed
    velocity: int = 72
    channel: int = 1  # MIDI channel from 1
    seed: int = 0


def check_score(score: Score) -> None:
    """Raises `ConfigError` with the path of the field."""
    within("score.tuning_hz", score.tuning_hz, 350, 500)
    within("score.transpose", score.transpose, -36, 36)
    within("score.cents", score.cents, -100, 100)
    for part in score.parts:
        if part == "" or (isinstance(part, int) and part < 1):
            raise ConfigError("score.parts", f"expected names of parts, or their numbers from 1, got {part!r}")


def check_following(following: Following) -> None:
    """Raises `ConfigError` with the path of the field."""
    if following.reference == "recording":
        if not following.recording:
            raise ConfigError("following.recording", 'expected an audio file, as following.reference is "recording"')
        if not following.recording_beats:
            raise ConfigError(
                "following.recording_beats",
                "expected a CSV file of time_s,quarter for the recording; rtserver align SCORE RECORDING -o BEATS.csv makes one",
            )
    if following.reference != "score" and following.keys:
        raise ConfigError(
            "following.reference", f"keys are compared with the score, not with sound; leave it out, or keys = {following.keys!r}"
        )
    within("following.return_latency_s", following.return_latency_s, 0, 1)
    within("following.echo_s", following.echo_s, 0, 0.5)


def check_generation(generation: Generation) -> None:
    """Raises `ConfigError` with the path of the field."""
    within("generation.pitch_high", generation.pitch_high, generation.pitch_low, 127)
    try:
        Metre.fixed(generation.metre)
    except ConfigError as error:
        raise ConfigError("generation.metre", error.message) from None
    within("generation.tempo_bpm", generation.tempo_bpm, 20, 400)
    within("generation.velocity", generation.velocity, 1, 127)
    within("generation.channel", generation.channel, 1, 16)
    for name, (low, high) in GENERATION_LIMITS.items():
        within(f"generation.{name}", getattr(generation, name), low, high)
    for part in generation.parts:
        if part == "" or (isinstance(part, int) and part < 1):
            raise ConfigError("generation.parts", f"expected names of parts, or their numbers from 1, got {part!r}")
