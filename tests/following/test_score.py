"""What is read from a score file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import mido
import numpy as np
import pytest

from rtserver.errors import ScoreError
from rtserver.following.score import Notes, Score, load_score, unfoldings

from .conftest import FORWARD, REPEAT, attributes, note, rest

Write = Callable[..., Path]
FOUR = note(60, 1) + note(62, 1) + note(64, 1) + note(65, 1)
OTHER = note(67, 1) + note(69, 1) + note(71, 1) + note(72, 1)


def test_varying_divisions_keep_quarters_exact(write: Write) -> None:
    thirds = "".join(note(p, 8) for p in (60, 62, 64))  # triplet quarters: 2/3 of a quarter at 12 divisions
    score = load_score(write(attributes(1) + FOUR, attributes(12) + thirds + note(65, 24), attributes(7) + note(67, 28)))
    assert score.notes.onset_quarter == pytest.approx([0, 1, 2, 3, 4, 4 + 2 / 3, 4 + 4 / 3, 6, 8], abs=1e-9)
    assert score.notes.duration_quarter == pytest.approx([1, 1, 1, 1, 2 / 3, 2 / 3, 2 / 3, 2, 4], abs=1e-9)


def test_a_pick_up_has_negative_beats_and_quarter_0(write: Write) -> None:
    score = load_score(write(attributes(1) + note(60, 1), FOUR, first=0))
    assert score.notes.onset_quarter[0] == 0.0
    assert score.beat_at([0.0, 1.0, 2.0]) == pytest.approx([-1.0, 0.0, 1.0])


def test_beats_are_those_of_the_metre(write: Write) -> None:
    eighths = "".join(note(60, 1) for _ in range(6))
    score = load_score(write(attributes(2, 6, 8) + eighths, eighths))
    assert score.beat_at(3.0) == pytest.approx(6.0)


def test_rests_at_the_start_do_not_count(write: Write) -> None:
    score = load_score(write(attributes(1) + rest(4), rest(2) + note(60, 1) + note(62, 1)))
    assert score.notes.onset_quarter.tolist() == [0.0, 1.0]
    assert score.bar_at(0.0) == 2


def test_tied_notes_are_one(write: Write) -> None:
    begin, end = '<tie type="start"/>', '<tie type="stop"/>'
    score = load_score(write(attributes(1) + rest(2) + note(60, 2, begin), note(60, 3, end) + note(62, 1)))
    assert score.notes.duration_quarter.tolist() == [5.0, 1.0]


def test_a_grace_note_has_no_duration(write: Write) -> None:
    grace = "<note><grace/><pitch><step>D</step><octave>4</octave></pitch><voice>1</voice></note>"
    score = load_score(write(attributes(1) + note(60, 1) + grace + note(64, 3)))
    assert dict(zip(score.notes.pitch.tolist(), score.notes.duration_quarter.tolist(), strict=True)) == {60: 1.0, 62: 0.0, 64: 3.0}


def test_a_transposing_instrument_is_at_concert_pitch(write: Write) -> None:
    clarinet = attributes(1).replace(
        "</attributes>", "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>"
    )
    assert load_score(write(clarinet + FOUR)).notes.pitch.tolist() == [58, 60, 62, 63]


def test_a_repeat_is_unfolded_and_may_be_skipped(write: Write) -> None:
    score = load_score(write(attributes(1) + FOUR + REPEAT, OTHER))
    assert score.notes.pitch.tolist() == [60, 62, 64, 65, 60, 62, 64, 65, 67, 69, 71, 72]
    assert len(score.written) == 8
    assert score.skips.tolist() == [[4.0, 8.0]]
    assert [score.bar_at(q) for q in (0.0, 4.0, 8.0)] == [1, 1, 2]


def test_the_first_ending_is_skipped_with_its_repeat(write: Write) -> None:
    ending = '<barline location="{}"><ending number="{}" type="{}"/>{}</barline>'
    back = '<repeat direction="backward"/>'
    first = ending.format("left", 1, "start", "") + note(67, 4) + ending.format("right", 1, "stop", back)
    second = ending.format("left", 2, "start", "") + note(69, 4) + ending.format("right", 2, "stop", "")
    score = load_score(write(attributes(1) + FOUR, first, second))
    assert score.notes.pitch.tolist() == [60, 62, 64, 65, 67, 60, 62, 64, 65, 69]
    assert score.skips.tolist() == [[4.0, 12.0]]


def test_unfoldings_map_to_the_maximal_one(write: Write) -> None:
    score = load_score(write(attributes(1) + FOUR + REPEAT, FORWARD + OTHER + REPEAT, FOUR))
    ways = unfoldings(score)
    assert [way.length_quarter for way in ways] == [20.0, 12.0, 16.0, 16.0]
    assert ways[0].to_maximal([0.0, 7.0, 19.0]).tolist() == [0.0, 7.0, 19.0]
    assert ways[1].to_maximal([3.0, 4.0, 7.0, 8.0]).tolist() == [3.0, 8.0, 11.0, 16.0]


def test_there_are_at_most_as_many_unfoldings_as_asked_for(write: Write) -> None:
    bars = [attributes(1) + FOUR + REPEAT, *(FORWARD + FOUR + REPEAT for _ in range(4))]
    assert len(unfoldings(load_score(write(*bars)), limit=8)) == 8


def test_tempo_marks_give_nominal_seconds(write: Write) -> None:
    score = load_score(write('<sound tempo="60"/>' + attributes(1) + FOUR, '<sound tempo="120"/>' + OTHER))
    assert score.seconds_at([0.0, 4.0, 6.0]) == pytest.approx([0.0, 4.0, 5.0])
    assert score.quarter_at([4.0, 5.0]) == pytest.approx([4.0, 6.0])


def test_a_compressed_score_is_the_same(write: Write) -> None:
    a, b = load_score(write(attributes(1) + FOUR)), load_score(write(attributes(1) + FOUR, suffix=".mxl"))
    assert (a.title, a.notes.pitch.tolist()) == (b.title, b.notes.pitch.tolist()) == ("Study", [60, 62, 64, 65])


def test_a_midi_score_has_the_same_quarters(tmp_path: Path) -> None:
    file = mido.MidiFile(ticks_per_beat=480)
    track = file.add_track()
    track.append(mido.MetaMessage("set_tempo", tempo=1_000_000, time=0))
    for pitch in (60, 62, 64):
        track += [mido.Message("note_on", note=pitch, time=240), mido.Message("note_off", note=pitch, time=240)]
    file.save(tmp_path / "score.mid")
    score = load_score(tmp_path / "score.mid")
    assert score.notes.onset_quarter == pytest.approx([0.0, 1.0, 2.0])
    assert score.tempo_bpm.tolist() == [60.0]


def test_a_parsed_score_comes_back_as_it_was(write: Write, tmp_path: Path) -> None:
    score = load_score(write(attributes(1) + FOUR + REPEAT, OTHER))
    score.to_npz(tmp_path / "score.npz")
    again = Score.from_npz(tmp_path / "score.npz")
    for f in fields(Score):
        a, b = getattr(score, f.name), getattr(again, f.name)
        if isinstance(a, Notes):
            a, b = np.stack([getattr(a, g.name) for g in fields(a)]), np.stack([getattr(b, g.name) for g in fields(b)])
        assert np.array_equal(a, b), f.name


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.musicxml", None, "no such file"),
        ("song.pdf", b"%PDF", "MusicXML or MIDI"),
        ("empty.musicxml", b"", "empty"),
        ("broken.musicxml", b"<score-partwise><part-list>", "cannot be read"),
        ("noise.mid", b"\x00\xff\x12" * 9, "cannot be read"),
        ("noise.mxl", b"PK\x03\x04" + b"\x07" * 40, "cannot be read"),
        ("other.xml", b"<html><body/></html>", "expected MusicXML"),
    ],
)
def test_what_is_no_score_is_refused_with_a_reason(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ScoreError, match=says) as error:
        load_score(tmp_path / name)
    assert name in str(error.value)


@pytest.mark.parametrize("bar", [rest(4), note(60, 4)])
def test_a_score_without_two_onsets_is_refused(write: Write, bar: str) -> None:
    with pytest.raises(ScoreError, match=r"nothing to follow|at least two onsets"):
        load_score(write(attributes(1) + bar))


def test_a_file_that_is_no_parsed_score_is_refused(tmp_path: Path) -> None:
    (tmp_path / "score.npz").write_bytes(b"nothing")
    with pytest.raises(ScoreError, match="to_npz"):
        Score.from_npz(tmp_path / "score.npz")
