"""What the follower compares its input with, made before the show from what `[following]` names: a synthesiser or a recording."""

from __future__ import annotations

from rtserver.config import Following
from rtserver.errors import ConfigError, ScoreError, SynthesisError
from rtserver.following.reference import Reference
from rtserver.following.score import Score


def check_method(following: Following) -> None:
    """Whether the method can use the reference. Raises `ConfigError`."""
    from rtserver.following.follower import REFERENCED

    if following.reference != "score" and following.method not in REFERENCED:
        takes = " or ".join(repr(name) for name in REFERENCED)
        raise ConfigError(
            "following.reference",
            f"the method {following.method!r} follows the score itself and takes no {following.reference} reference; "
            f"choose the method {takes}, or the reference 'score'",
        )


def make_reference(score: Score, following: Following) -> Reference | None:
    """The reference of `score`; None where the method makes its own from the score.

    Takes seconds to a minute. Raises `ConfigError` where the method has no use for one, or the synthesiser or the beats fail, and
    `AudioFileError` for a recording that cannot be read.
    """
    check_method(following)
    if following.reference == "rendered":
        from rtserver.following.rendered import as_midi, rendered_reference
        from rtserver.synthesis import synthesise

        try:
            return rendered_reference(score, *synthesise(as_midi(score), following.sound_font))
        except SynthesisError as error:
            raise ConfigError("following.reference", str(error)) from error
    if following.reference == "recording":
        from rtserver.audio.file import read
        from rtserver.following.recorded import read_beats, recorded_reference

        try:
            beats = read_beats(following.recording_beats)
            return recorded_reference(score, *read(following.recording), beats)
        except ScoreError as error:
            raise ConfigError("following.recording_beats", str(error)) from error
    return None
