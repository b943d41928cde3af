"""From a MIDI file, or from nothing, to a MIDI file."""

from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from rtserver.errors import ConfigError, ScoreError
from rtserver.generation.constraints import Constraints
from rtserver.generation.offline import perform, read_midi


def sounding(track: mido.MidiTrack) -> list[tuple[int, int, int]]:
    """(onset, pitch, duration) in MIDI ticks; fails on a key struck twice or never let go."""
    now, down, notes = 0, {}, []
    for message in track:
        now += message.time
        if message.type == "note_on":
            assert message.note not in down
            down[message.note] = now
        elif message.type == "note_off":
            on = down.pop(message.note)
            notes.append((on, message.note, now - on))
    assert not down
    return sorted(notes)


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    midi = mido.MidiFile(ticks_per_beat=96)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(90))])
    for pitch in (60, 62, 64, 65):
        track += [mido.Message("note_on", note=pitch, velocity=70), mido.Message("note_on", note=pitch, velocity=0, time=96)]
    midi.tracks.append(track)
    path = tmp_path / "prompt.mid"
    midi.save(str(path))
    return path


def test_as_many_notes_as_asked_for_all_released(tmp_path: Path) -> None:
    out = tmp_path / "out.mid"
    perform(out, notes=50, seed=2)
    assert len(sounding(mido.MidiFile(str(out)).tracks[-1])) == 50


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mid", "b.mid"):
        perform(tmp_path / name, notes=30, seed=9)
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()


def test_a_prompt_is_kept_and_continued_after_its_end(prompt: Path) -> None:
    midi = perform(notes=20, prompt=prompt)
    given, made = sounding(midi.tracks[1]), sounding(midi.tracks[2])
    assert [p for _, p, _ in given] == [60, 62, 64, 65]
    assert made[0][0] >= 4 * 480


def test_the_tempo_is_the_prompts_unless_said_otherwise(prompt: Path) -> None:
    def tempo(midi: mido.MidiFile) -> float:
        return mido.tempo2bpm(next(m.tempo for m in midi.tracks[0] if m.type == "set_tempo"))

    assert tempo(perform(notes=1, prompt=prompt)) == pytest.approx(90)
    assert tempo(perform(notes=1, prompt=prompt, tempo_bpm=60)) == pytest.approx(60)
    assert tempo(perform(notes=1)) == pytest.approx(120)


def test_constraints_reach_the_file() -> None:
    limits = Constraints("D minor pentatonic", 50, 74, 2, grid=12)
    made = sounding(perform(notes=60, constraints=limits).tracks[-1])
    assert all(limits.pitches[p] and on % (12 * 20) == 0 for on, p, _ in made)
    assert max(sum(on <= t < on + d for on, _, d in made) for t, _, _ in made) <= 2


def test_progress_is_told_note_by_note() -> None:
    told: list[int] = []
    perform(notes=5, progress=told.append)
    assert told == [1] * 5


def test_read_midi_takes_ticks_of_a_24th_quarter(prompt: Path) -> None:
    notes, tempo_bpm, metre = read_midi(prompt)
    assert [note[:3] for note in notes] == [(0, 60, 24), (24, 62, 24), (48, 64, 24), (72, 65, 24)]
    assert tempo_bpm == pytest.approx(90)
    assert metre == ""


@pytest.mark.parametrize(("written", "metre"), [([(3, 4)], "3/4"), ([(6, 8), (6, 8)], "6/8"), ([(3, 4), (4, 4)], "")])
def test_the_metre_is_read_where_it_does_not_change(prompt: Path, written: list[tuple[int, int]], metre: str) -> None:
    midi = mido.MidiFile(str(prompt))
    midi.tracks[0][:0] = [mido.MetaMessage("time_signature", numerator=n, denominator=d) for n, d in written]
    midi.save(str(prompt))
    assert read_midi(prompt)[2] == metre


def test_a_part_of_a_score_is_written_as_it_is_and_its_rests_are_filled(duet_file: Path) -> None:
    midi = perform(score=duet_file, parts=["Piano"], notes=1000)
    names = [track[0].name for track in midi.tracks[1:]]
    assert names == ["score 1", "performer"]
    piano, own = sounding(midi.tracks[1]), sounding(midi.tracks[2])
    assert [(on // 480, pitch) for on, pitch, _ in piano] == [(0, 48), (2, 55), (16, 50), (20, 50)]
    assert own
    assert all(on >= 4 * 480 and on + length <= 16 * 480 for on, _, length in own)


def test_without_a_part_it_plays_along_to_the_end(duet_file: Path) -> None:
    own = sounding(perform(score=duet_file, notes=10_000).tracks[-1])
    assert 10 < len(own) < 10_000
    assert max(on for on, _, _ in own) < 24 * 480


def test_a_score_and_a_prompt_are_too_much(prompt: Path, duet_file: Path) -> None:
    with pytest.raises(ConfigError, match="no prompt"):
        perform(score=duet_file, prompt=prompt)


def test_a_part_that_the_score_has_not_is_refused(duet_file: Path) -> None:
    with pytest.raises(ScoreError, match="Flute"):
        perform(score=duet_file, parts=["Tuba"])


def test_what_is_no_midi_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mid"
    path.write_text("not MIDI at all")
    with pytest.raises(ScoreError, match=r"x\.mid cannot be read"):
        perform(prompt=path)


def test_a_midi_file_without_notes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.mid"
    mido.MidiFile(type=1, tracks=[mido.MidiTrack()]).save(str(path))
    with pytest.raises(ScoreError, match="holds no notes"):
        perform(prompt=path)


@pytest.mark.parametrize(
    "wrong", [{"notes": 0}, {"tempo_bpm": 0.0}, {"temperature": -1.0}, {"part": "fiddle"}, {"density": 0.0}, {"register": 128.0}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        perform(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("less", "more"), [({"part": "lower"}, {"part": "upper"}), ({"register": 48.0}, {"register": 76.0})])
def test_part_and_register_are_heard(less: dict[str, Any], more: dict[str, Any]) -> None:
    low, high = (np.mean([p for _, p, _ in sounding(perform(notes=80, **wish).tracks[-1])]) for wish in (less, more))
    assert low < high


def test_density_is_heard() -> None:
    few, many = (sounding(perform(notes=80, density=d).tracks[-1])[-1][0] for d in (1.0, 6.0))
    assert few > many, "the same notes take longer"
