"""What is read of a page: times, pitches, ties, ornaments, marks; what is left out; and parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtserver.errors import ScoreError
from rtserver.following.parsed import parsed_score
from rtserver.following.score import Score, load_score
from rtserver.following.written import HINTS, ORNAMENTS

from .conftest import attributes, document, note, rest

Write = Callable[..., Path]
FOUR = note(60, 1) + note(62, 1) + note(64, 1) + note(65, 1)
START, STOP = '<tie type="start"/>', '<tie type="stop"/>'
PITCHES = (60, 62, 64, 65, 67, 69, 71, 72)


def direction(inside: str, after: str = "") -> str:
    return f"<direction><direction-type>{inside}</direction-type>{after}</direction>"


def words(text: str) -> str:
    return direction(f"<words>{text}</words>")


def two_parts(upper: str, lower: str, names: tuple[str, str] = ("Violin", "Cello"), head: str = "") -> str:
    """A score of two parts, from the inside of their measures."""
    heads = f'<score-part id="A"><part-name>{names[0]}</part-name></score-part>'
    heads += f'<score-part id="B"><part-name>{names[1]}</part-name>{head}</score-part>'
    return f'<score-partwise><part-list>{heads}</part-list><part id="A">{upper}</part><part id="B">{lower}</part></score-partwise>'


def measures(*bars: str) -> str:
    return "".join(f'<measure number="{i + 1}">{bar}</measure>' for i, bar in enumerate(bars))


@st.composite
def bars_of_any_divisions(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Bars as (divisions of the quarter, lengths of their notes in divisions)."""
    return [
        (draw(st.integers(1, 840)), draw(st.lists(st.integers(1, 2000), min_size=1, max_size=5)))
        for _ in range(draw(st.integers(1, 8)))
    ]  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bars=bars_of_any_divisions())
def test_any_divisions_are_exact(write: Write, bars: list[tuple[int, list[int]]]) -> None:
    """Against ratios of whole numbers: to the last bit or two of the largest place."""
    texts, true, at = [], list[Fraction](), Fraction(0)
    for divisions, lengths in bars:
        texts.append(attributes(divisions) + "".join(note(60, n) for n in lengths))
        for n in lengths:
            true.append(at)
            at += Fraction(n, divisions)
    if len(true) < 2:
        return
    score = load_score(write(*texts))
    exact = np.array([float(t) for t in true])
    assert np.abs(score.notes.onset_quarter - exact).max() <= 4 * np.spacing(float(at))
    assert np.abs(score.notes.onset_quarter + score.notes.duration_quarter - [*exact[1:], float(at)]).max() <= 8 * np.spacing(float(at))
    assert score.beat_at(exact) - score.beat_at(0.0) == pytest.approx(exact, abs=1e-9)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bars=bars_of_any_divisions())
def test_partitura_reads_the_same_notes(write: Write, bars: list[tuple[int, list[int]]]) -> None:
    import partitura

    path = write(*(attributes(d) + "".join(note(PITCHES[n % 8], n) for n in lengths) for d, lengths in bars))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = partitura.load_score(str(path), quiet=True).parts[0]
    if len(part.notes) < 2:
        return
    ours = load_score(path).notes
    onsets = part.quarter_map([n.start.t for n in part.notes])
    assert ours.onset_quarter == pytest.approx(onsets - onsets[0], rel=1e-12, abs=1e-9)
    assert ours.pitch.tolist() == [n.midi_pitch for n in part.notes]


def test_divisions_may_change_within_a_bar(write: Write) -> None:
    score = load_score(write(attributes(2) + note(60, 2) + "<attributes><divisions>3</divisions></attributes>" + note(62, 1) + note(64, 8)))
    assert score.notes.onset_quarter == pytest.approx([0.0, 1.0, 4 / 3], abs=1e-15)
    assert score.notes.duration_quarter == pytest.approx([1.0, 1 / 3, 8 / 3], abs=1e-15)


def test_parts_that_count_differently_meet_exactly(tmp_path: Path) -> None:
    def thirds(d: int) -> str:
        return measures(attributes(3 * d) + "".join(note(60, d) for _ in range(12)), attributes(3 * d) + note(62, 12 * d))

    (tmp_path / "s.musicxml").write_text(two_parts(thirds(1), thirds(7)))
    assert len(np.unique(load_score(tmp_path / "s.musicxml").notes.onset_quarter)) == 13


def test_a_bar_is_as_long_as_its_longest_part(tmp_path: Path) -> None:
    (tmp_path / "s.musicxml").write_text(two_parts(measures(attributes(1) + note(60, 1), FOUR), measures(attributes(1) + FOUR, FOUR)))
    notes = load_score(tmp_path / "s.musicxml").notes
    assert notes.onset_quarter[notes.part == 0].tolist() == [0, 4, 5, 6, 7]


def test_an_empty_bar_is_a_bar_of_rest(write: Write) -> None:
    assert load_score(write(attributes(1, 3) + note(60, 3), "", note(62, 3))).notes.onset_quarter.tolist() == [0, 6]


def test_voices_go_back_and_forward(write: Write) -> None:
    go = "<backup><duration>4</duration></backup><forward><duration>1</duration></forward>"
    score = load_score(write(attributes(1) + note(60, 4) + go + note(64, 2) + note(67, 1, before="<chord/>")))
    assert list(zip(score.notes.onset_quarter, score.notes.pitch, score.notes.duration_quarter, strict=True)) == [
        (0, 60, 4),
        (1, 64, 2),
        (1, 67, 2),
    ]


def test_timewise_scores_are_read(tmp_path: Path) -> None:
    bars = "".join(f'<measure number="{n}"><part id="A">{bar}</part></measure>' for n, bar in ((7, attributes(1) + FOUR), (8, FOUR)))
    names = '<part-list><score-part id="A"><part-name>Oboe</part-name></score-part></part-list>'
    (tmp_path / "s.musicxml").write_text(f"<score-timewise>{names}{bars}</score-timewise>")
    score = load_score(tmp_path / "s.musicxml")
    assert score.notes.onset_quarter.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert score.bar_text == ("7", "8")


def test_a_tie_may_begin_in_a_voice_that_is_written_later(write: Write) -> None:
    back = "<backup><duration>4</duration></backup>"
    score = load_score(write(attributes(1) + rest(2) + note(60, 2, STOP) + back + note(60, 2, START) + rest(2), FOUR))
    assert list(zip(score.notes.onset_quarter[:2], score.notes.duration_quarter[:2], strict=True)) == [(0, 4), (4, 1)]


def test_a_tie_that_leads_nowhere_leaves_the_notes(write: Write) -> None:
    score = load_score(write(attributes(1) + note(60, 1, START) + note(62, 1) + note(60, 2, STOP)))
    assert score.notes.onset_quarter.tolist() == [0, 1, 2]


def test_ties_over_several_bars_are_one_note(write: Write) -> None:
    score = load_score(write(attributes(1) + note(60, 4, START), note(60, 4, STOP + START), note(60, 2, STOP) + note(62, 2)))
    assert score.notes.duration_quarter.tolist() == [10, 2]


@pytest.mark.parametrize(
    "silent",
    [
        "<note><cue/><pitch><step>B</step><octave>4</octave></pitch><duration>1</duration></note>",
        "<note><unpitched><display-step>B</display-step></unpitched><duration>1</duration></note>",
        rest(1),
    ],
)
def test_cues_and_unpitched_notes_take_time_and_are_left_out(write: Write, silent: str) -> None:
    score = load_score(write(attributes(1) + note(60, 1) + silent + note(62, 2)))
    assert score.notes.pitch.tolist() == [60, 62]
    assert score.notes.onset_quarter.tolist() == [0, 2]


def test_a_percussion_clef_leaves_its_staff_out(write: Write) -> None:
    clef = attributes(1).replace("</attributes>", '<clef number="2"><sign>percussion</sign></clef></attributes>')
    drum = note(60, 4, "<staff>2</staff>")
    assert load_score(write(clef + FOUR + "<backup><duration>4</duration></backup>" + drum)).notes.pitch.tolist() == [60, 62, 64, 65]


def test_a_part_on_channel_10_is_left_out(tmp_path: Path) -> None:
    drums = '<midi-instrument id="x"><midi-channel>10</midi-channel></midi-instrument>'
    (tmp_path / "s.musicxml").write_text(two_parts(measures(attributes(1) + FOUR), measures(attributes(1) + note(72, 4)), head=drums))
    assert 72 not in load_score(tmp_path / "s.musicxml").notes.pitch


def test_octaves_of_transposing_instruments(write: Write) -> None:
    bass = attributes(1).replace(
        "</attributes>", "<transpose><chromatic>0</chromatic><octave-change>-1</octave-change></transpose></attributes>"
    )
    assert load_score(write(bass + FOUR)).notes.pitch.tolist() == [48, 50, 52, 53]


def test_ornaments_have_a_place_a_pitch_and_a_kind(write: Write) -> None:
    def with_(inside: str) -> str:
        return note(60, 1, f"<notations>{inside}</notations>")

    score = load_score(
        write(
            attributes(1)
            + with_("<ornaments><trill-mark/></ornaments>")
            + with_("<ornaments><inverted-turn/></ornaments>")
            + with_("<ornaments><mordent/></ornaments>")
            + with_("<ornaments><tremolo>3</tremolo></ornaments>"),
            note(64, 1, "<notations><arpeggiate/></notations>") + note(67, 3),
        )
    )
    assert [(q, p, ORNAMENTS[k]) for q, p, k in zip(score.ornament_quarter, score.ornament_pitch, score.ornament_kind, strict=True)] == [
        (0, 60, "trill"),
        (1, 60, "turn"),
        (2, 60, "mordent"),
        (3, 60, "tremolo"),
        (4, 64, "arpeggio"),
    ]


def test_fermatas_of_notes_and_bar_lines(write: Write) -> None:
    held = note(64, 1, "<notations><fermata/></notations>")
    line = "<barline><fermata/></barline>"
    assert load_score(write(attributes(1) + note(60, 3) + held, note(62, 4) + line, FOUR)).fermata_quarter.tolist() == [3, 8]


def test_a_metronome_mark_counts_its_unit(write: Write) -> None:
    mark = "<metronome><beat-unit>{}</beat-unit>{}<per-minute>ca. {}</per-minute></metronome>"
    score = load_score(
        write(
            attributes(1) + direction(mark.format("quarter", "", 90)) + FOUR,
            direction(mark.format("half", "", 60)) + FOUR,
            direction(mark.format("quarter", "<beat-unit-dot/>", 60)) + FOUR,
        )
    )
    assert score.tempo_bpm.tolist() == [90, 120, 90]
    assert score.tempo_quarter.tolist() == [0, 4, 8]


def test_what_sounds_wins_over_what_is_printed(write: Write) -> None:
    mark = "<metronome><beat-unit>quarter</beat-unit><per-minute>90</per-minute></metronome>"
    assert load_score(write(attributes(1) + direction(mark, '<sound tempo="100"/>') + FOUR)).tempo_bpm.tolist() == [100]


def test_a_tempo_mark_at_the_very_end_is_no_trouble(write: Write) -> None:
    assert load_score(write(attributes(1) + FOUR + '<sound tempo="50"/>')).tempo_bpm.tolist() == [50]


@pytest.mark.parametrize(
    ("metre", "text", "bpm"), [((4, 4), "Adagio", 66), ((2, 2), "Presto", 352), ((6, 8), "Andante con moto", 120), ((3, 8), "Largo", 25)]
)
def test_words_give_the_tempo_where_no_number_does(write: Write, metre: tuple[int, int], text: str, bpm: float) -> None:
    score = load_score(write(attributes(2, *metre) + words(text) + note(60, 2) + note(62, 2)))
    assert score.tempo_bpm.tolist() == pytest.approx([bpm])


def test_words_change_no_tempo_that_is_marked(write: Write) -> None:
    assert load_score(write(attributes(1) + '<sound tempo="70"/>' + words("Presto") + FOUR)).tempo_bpm.tolist() == [70]


def test_words_about_tempo_are_hints(write: Write) -> None:
    score = load_score(
        write(attributes(1) + words("Allegro") + FOUR, words("poco rit.") + FOUR, words("a tempo") + FOUR, words("dolce") + FOUR)
    )
    assert [(q, HINTS[k], t) for q, k, t in zip(score.hint_quarter, score.hint_kind, score.hint_text, strict=True)] == [
        (0, "tempo", "Allegro"),
        (4, "ritardando", "poco rit."),
        (8, "a tempo", "a tempo"),
    ]


def test_signatures(write: Write) -> None:
    key = "<key><fifths>{}</fifths><mode>{}</mode></key>"
    score = load_score(
        write(
            attributes(1, 3).replace("</divisions>", "</divisions>" + key.format(-3, "minor")) + note(60, 3),
            attributes(2, 5, 8).replace("</divisions>", "</divisions>" + key.format(2, "major")) + note(62, 5),
        )
    )
    assert (score.metre_quarter.tolist(), score.metre.tolist()) == ([0, 3], [[3, 4], [5, 8]])
    assert (score.key_quarter.tolist(), score.key.tolist()) == ([0, 3], [[-3, 1], [2, 0]])


def test_a_sum_of_beats_is_a_metre(write: Write) -> None:
    score = load_score(write(attributes(2, 5, 8).replace("<beats>5", "<beats>3+2") + note(60, 3) + note(62, 2), ""))
    assert score.metre.tolist() == [[5, 8]]
    assert score.bar_quarter.tolist() == [0, 2.5]


@pytest.fixture
def duo(tmp_path: Path) -> Path:
    path = tmp_path / "duo.musicxml"
    path.write_text(two_parts(measures(attributes(1) + FOUR), measures(attributes(1) + note(48, 2) + note(50, 2))))
    return path


@pytest.mark.parametrize(
    ("parts", "pitches"),
    [
        ((), [48, 60, 62, 50, 64, 65]),
        (("Violin",), [60, 62, 64, 65]),
        (("cello",), [48, 50]),
        ((2,), [48, 50]),
        (("2",), [48, 50]),
        (("Cello", 1), [48, 60, 62, 50, 64, 65]),
    ],
)
def test_parts_by_name_or_number(duo: Path, parts: tuple[str | int, ...], pitches: list[int]) -> None:
    assert load_score(duo, parts).notes.pitch.tolist() == pitches


@pytest.mark.parametrize("part", ["Violn", "Oboe", 0, 3, "-1"])
def test_an_unknown_part_is_refused_with_those_there_are(duo: Path, part: str | int) -> None:
    with pytest.raises(ScoreError, match=f"no part {part!r}.*1 'Violin', 2 'Cello'"):
        load_score(duo, [part])


def test_a_part_that_is_nearly_named_is_guessed_aloud(duo: Path) -> None:
    with pytest.raises(ScoreError, match="did you mean 'Violin'"):
        load_score(duo, ["Violn"])


def test_parts_of_one_score_are_kept_apart(duo: Path, tmp_path: Path) -> None:
    pitches = [parsed_score(duo, tmp_path / "kept", parts).notes.pitch.tolist() for parts in ((), (1,), ("Cello",), (1,), ())]
    assert pitches == [[48, 60, 62, 50, 64, 65], [60, 62, 64, 65], [48, 50], [60, 62, 64, 65], [48, 60, 62, 50, 64, 65]]


def test_a_capo_and_a_tuning(write: Write, tmp_path: Path) -> None:
    trill = note(60, 1, "<notations><ornaments><trill-mark/></ornaments></notations>")
    path = write(attributes(1) + trill + note(62, 3))
    score = load_score(path, tuning_hz=442.0, transpose=2, cents=50.0)
    assert score.notes.pitch.tolist() == score.written.pitch.tolist() == [62, 64]
    assert score.ornament_pitch.tolist() == [62]
    assert score.tuning_hz == pytest.approx(442.0 * 2 ** (1 / 24))
    kept = parsed_score(path, tmp_path / "kept", tuning_hz=442.0, transpose=2, cents=50.0)
    assert (kept.notes.pitch.tolist(), kept.tuning_hz) == (score.notes.pitch.tolist(), score.tuning_hz)
    assert load_score(path).tuning_hz == 440.0


def test_a_transposition_beyond_midi_is_refused(write: Write) -> None:
    with pytest.raises(ScoreError, match=r"score\.transpose"):
        load_score(write(attributes(1) + FOUR), transpose=70)


def test_the_tuning_is_kept_in_a_parsed_score(write: Write, tmp_path: Path) -> None:
    load_score(write(attributes(1) + FOUR), tuning_hz=415.0).to_npz(tmp_path / "s.npz")
    assert Score.from_npz(tmp_path / "s.npz").tuning_hz == 415.0


def test_what_could_not_be_read_is_said(write: Write) -> None:
    score = load_score(write(attributes(1) + note(60, 1) + note(62, 1).replace("<octave>4", "<octave>x") + note(64, 2)))
    assert score.notes.pitch.tolist() == [60, 64]
    assert score.warnings == ("Flute: a note in bar 1 has no readable pitch; it is left out",)


def test_a_title_is_found(tmp_path: Path) -> None:
    (tmp_path / "study.musicxml").write_text(document(attributes(1) + FOUR).replace("<work-title>Study", "<work-title>"))
    assert load_score(tmp_path / "study.musicxml").title == "study"
