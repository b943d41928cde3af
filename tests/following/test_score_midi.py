"""MIDI files as scores."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest

from rtserver.errors import ScoreError
from rtserver.following.score import Score, load_score

On, Off, Meta = "note_on", "note_off", mido.MetaMessage


def loaded(path: Path, *tracks: list[mido.Message], division: int = 480, parts: tuple[str | int, ...] = ()) -> Score:
    file = mido.MidiFile(ticks_per_beat=division)
    for track in tracks:
        file.add_track().extend(track)
    file.save(path / "score.mid")
    return load_score(path / "score.mid", parts)


def line(*pitches: int, channel: int = 0, ticks: int = 480) -> list[mido.Message]:
    both = ((On, 0), (Off, ticks))
    return [mido.Message(kind, note=p, channel=channel, time=after) for p in pitches for kind, after in both]


def test_channels_and_tracks_are_parts(tmp_path: Path) -> None:
    upper = [Meta("track_name", name="Violin"), *line(72, 74)]
    score = loaded(tmp_path, upper, [*line(48), *line(50, channel=3)])
    assert score.parts == ("Violin", "track 2 channel 1", "track 2 channel 4")
    assert loaded(tmp_path, upper, line(48, 50), parts=("Violin",)).notes.pitch.tolist() == [72, 74]


def test_drums_are_left_out(tmp_path: Path) -> None:
    assert loaded(tmp_path, line(60, 62), line(36, 38, channel=9)).notes.pitch.tolist() == [60, 62]


def test_drums_alone_are_no_score(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="no pitched notes"):
        loaded(tmp_path, line(36, 38, channel=9))


def test_a_note_struck_again_while_it_sounds_is_two(tmp_path: Path) -> None:
    track = [mido.Message(On, note=60, time=0), mido.Message(On, note=60, time=480), mido.Message(Off, note=60, time=480)]
    score = loaded(tmp_path, track)
    assert (score.notes.onset_quarter.tolist(), score.notes.duration_quarter.tolist()) == ([0, 1], [1, 1])


def test_a_note_that_is_never_released_lasts_to_the_end(tmp_path: Path) -> None:
    track = [mido.Message(On, note=60, time=0), *line(62, 64)]
    assert loaded(tmp_path, track).notes.duration_quarter.tolist() == [2, 1, 1]


def test_a_note_of_no_length_was_struck(tmp_path: Path) -> None:
    score = loaded(tmp_path, [*line(60, ticks=0), *line(62)], [mido.Message(On, note=64, time=960), mido.Message(Off, note=64, time=9)])
    assert not score.notes.is_grace.any()
    assert len(score.notes) == 3


def test_bars_follow_the_time_signatures(tmp_path: Path) -> None:
    head = [Meta("time_signature", numerator=3, denominator=4), Meta("time_signature", numerator=6, denominator=8, time=6 * 480)]
    score = loaded(tmp_path, head, line(*range(60, 72)))
    assert score.bar_quarter.tolist() == [0, 3, 6, 9]
    assert score.metre.tolist() == [[3, 4], [6, 8]]
    assert score.quarter_of_bar(3, 4) == 7.5


def test_markers_are_rehearsal_marks(tmp_path: Path) -> None:
    score = loaded(tmp_path, [Meta("marker", text="Trio", time=960)], line(60, 62, 64, 65))
    assert score.quarter_of_mark("Trio") == 2


def test_keys_are_read(tmp_path: Path) -> None:
    head = [Meta("key_signature", key="Bbm"), Meta("key_signature", key="F#", time=480), Meta("key_signature", key="C", time=480)]
    assert loaded(tmp_path, head, line(60, 62, 64)).key.tolist() == [[-5, 1], [6, 0], [0, 0]]


def test_tempi_of_any_track_count(tmp_path: Path) -> None:
    score = loaded(tmp_path, line(60, 62), [Meta("set_tempo", tempo=1_000_000), Meta("set_tempo", tempo=500_000, time=480), *line(64)])
    assert (score.tempo_quarter.tolist(), score.tempo_bpm.tolist()) == ([0, 1], [60, 120])


@pytest.mark.parametrize("division", [1, 7, 96, 480, 32767])
def test_ticks_are_exact(tmp_path: Path, division: int) -> None:
    assert loaded(tmp_path, line(60, 62, 64, ticks=division), division=division).notes.onset_quarter.tolist() == [0, 1, 2]
