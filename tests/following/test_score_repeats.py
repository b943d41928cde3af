"""In which order a score is played: the signs alone, and the signs in a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rtserver.following.repeats import EDGES, MAX_STRETCHES, unfold
from rtserver.following.score import load_score
from rtserver.following.written import SIGNS, Sign

from .conftest import FORWARD, REPEAT, attributes, note

Write = Callable[..., Path]
BAR = [note(60 + p, 4) for p in (0, 2, 4, 5, 7, 9, 11)]
BAR += [note(72 + p, 4) for p in (0, 2, 4, 5, 7)]


def played(signs: list[Sign], n_bars: int) -> str:
    """Letters of the bars of one quarter each, in the order in which they are played."""
    way = unfold(signs, float(n_bars))
    return "".join(chr(97 + bar) for k in way.path for bar in range(int(way.nodes[k][0]), int(way.nodes[k][1])))


def forward(at: float) -> Sign:
    return Sign("forward", at)


def back(at: float, times: int = 2) -> Sign:
    return Sign("backward", at, times=times)


def ending(at: float, end: float, *numbers: int) -> Sign:
    return Sign("ending", at, end=end, numbers=numbers)


@pytest.mark.parametrize(
    ("n_bars", "signs", "order"),
    [
        (3, [], "abc"),
        (3, [back(2)], "ababc"),
        (3, [forward(1), back(2)], "abbc"),
        (3, [forward(1), back(2, times=4)], "abbbbc"),
        (3, [back(1), back(2)], "aabbc"),
        (4, [forward(0), forward(1), back(2), back(3)], "abbcabbcd"),  # nested
        (3, [ending(1, 2, 1), back(2), ending(2, 3, 2)], "abac"),
        (5, [forward(1), ending(2, 3, 1), back(3), ending(3, 4, 2)], "abcbde"),
        (5, [ending(1, 2, 1, 2), back(2), ending(2, 3, 3)], "ababacde"),
        (5, [ending(1, 2, 1), back(2), ending(2, 3, 2), back(3), ending(3, 4, 3)], "abacade"),
        (4, [ending(1, 2, 1), ending(2, 3, 2)], "abacd"),  # no repeat sign, and still meant
        (4, [ending(1, 2, 1), back(2)], "abacd"),  # a single bracket is left out the second time
        (4, [ending(1, 2, 1), back(2), ending(2, 3, 2), back(3)], "abacd"),  # the last ending does not go back
        (3, [Sign("dacapo", 3)], "abcabc"),
        (3, [Sign("dacapo", 3, aim="fine"), Sign("fine", 1)], "abca"),
        (4, [back(2), Sign("dacapo", 4), Sign("fine", 2)], "ababcdabab"),  # repeats once more after the leap
        (4, [Sign("segno", 1), Sign("dalsegno", 3), Sign("fine", 2)], "abcb"),
        (5, [Sign("segno", 1), Sign("tocoda", 2), Sign("dalsegno", 3, aim="coda"), Sign("coda", 4)], "abcbe"),
        (5, [Sign("tocoda", 1), Sign("dacapo", 3, aim="coda"), Sign("coda", 3)], "abcade"),
        (6, [Sign("segno", 0, "1"), Sign("segno", 2, "2"), Sign("dalsegno", 4, "2"), Sign("dalsegno", 5, "1")], "abcdcdeabcdef"),
        (4, [Sign("dacapo", 3, aim="coda"), Sign("fine", 1), Sign("tocoda", 2), Sign("coda", 3)], "abcabd"),  # not this fine
    ],
)
def test_the_order_of_bars(n_bars: int, signs: list[Sign], order: str) -> None:
    assert played(signs, n_bars) == order


@pytest.mark.parametrize(
    ("signs", "order", "says"),
    [
        ([forward(1)], "abc", "never closed"),
        ([forward(1), forward(2), back(3)], "abcc", "never closed"),
        ([Sign("dalsegno", 2)], "abc", "no segno"),
        ([Sign("tocoda", 1), Sign("dacapo", 2)], "ababc", "no coda"),
        ([forward(0), forward(1), back(2, 1000), back(3, 1000)], "abc", "as written"),
    ],
)
def test_what_contradicts_itself_is_left_out_and_said(signs: list[Sign], order: str, says: str) -> None:
    assert played(signs, 3) == order
    assert any(says in warning for warning in unfold(signs, 3.0).warnings)


@st.composite
def any_signs(draw: st.DrawFn) -> list[Sign]:
    n = draw(st.integers(0, 12))
    return [
        Sign(
            draw(st.sampled_from(SIGNS)),
            float(draw(st.integers(0, 8))),
            end=float(draw(st.integers(0, 9))),
            numbers=tuple(draw(st.lists(st.integers(1, 4), max_size=3))),
            times=draw(st.integers(2, 5)),
            aim=draw(st.sampled_from(["", "fine", "coda"])),
        )
        for _ in range(n)
    ]


@example([Sign("ending", 8.0, end=9.0, numbers=(1,))])
@given(any_signs())
def test_any_signs_lead_from_the_beginning_to_an_end_along_edges(signs: list[Sign]) -> None:
    way = unfold(signs, 8.0)
    assert way.nodes[0][0] == 0.0
    assert way.nodes[-1][1] == 8.0
    assert all(a[1] == b[0] for a, b in pairwise(way.nodes))
    assert way.path[0] == 0
    assert len(way.path) <= MAX_STRETCHES
    edges = {(a, b) for a, b, _ in way.edges}
    if not any("as written" in warning for warning in way.warnings):
        assert all(step in edges for step in pairwise(way.path))


def test_edges_tell_where_one_may_go() -> None:
    way = unfold([forward(1), ending(2, 3, 1), back(3), ending(3, 4, 2)], 5.0)
    assert way.nodes == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 5.0)]
    named = {(a, b, EDGES[kind]) for a, b, kind in way.edges}
    assert named == {(0, 1, "next"), (1, 2, "next"), (2, 1, "repeat"), (1, 3, "ending"), (3, 4, "next"), (2, 4, "ending")}


@st.composite
def sections(draw: st.DrawFn) -> list[tuple[str, str]]:
    """What stands at the left and at the right of each bar of a score of plain stretches, repeats, and repeats with two endings."""
    bars: list[tuple[str, str]] = []
    for n in range(draw(st.integers(1, 4))):
        kind, length = draw(st.sampled_from(["plain", "repeat", "endings"])), draw(st.integers(1, 3))
        opening = "" if kind == "plain" or (n == 0 and draw(st.booleans())) else '<repeat direction="forward"/>'
        closing = '<repeat direction="backward"/>' if kind == "repeat" else ""
        bars += [(opening if i == 0 else "", closing if i == length - 1 else "") for i in range(length)]
        if kind == "endings":
            bars.append(('<ending number="1" type="start"/>', '<ending number="1" type="stop"/><repeat direction="backward"/>'))
            bars.append(
                ('<ending number="2" type="start"/>', f'<ending number="2" type="{draw(st.sampled_from(["stop", "discontinue"]))}"/>')
            )
    return bars


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bars=sections())
def test_partitura_plays_repeats_and_endings_in_the_same_order(write: Write, bars: list[tuple[str, str]]) -> None:
    import partitura
    import partitura.score as ps

    pitches = [12 * octave + step for octave in (5, 6, 7) for step in (0, 2, 4, 5, 7, 9, 11)]
    texts = [
        f'<barline location="left">{left}</barline>{note(pitches[i], 4)}<barline location="right">{right}</barline>'
        for i, (left, right) in enumerate(bars)
    ]
    if len(texts) < 2:
        return
    path = write(attributes(1) + texts[0], *texts[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = ps.unfold_part_maximal(partitura.load_score(str(path), quiet=True).parts[0])
    assert load_score(path).notes.pitch.tolist() == [n.midi_pitch for n in sorted(part.notes, key=lambda n: n.start.t)]


def sound(**said: str) -> str:
    words = " ".join(f'{key}="{value}"' for key, value in said.items())
    return f"<direction><direction-type><words>x</words></direction-type><sound {words}/></direction>"


def words(text: str) -> str:
    return f"<direction><direction-type><words>{text}</words></direction-type></direction>"


@pytest.mark.parametrize(
    "bars",
    [
        [BAR[0], BAR[1] + sound(fine="yes"), BAR[2] + sound(dacapo="yes")],
        [BAR[0], BAR[1] + words("Fine"), words("D.C. al Fine") + BAR[2]],
        [BAR[0], BAR[1] + words("Fine"), words("Da Capo al Fine") + BAR[2]],
        [BAR[0], sound(fine="yes") + BAR[1], sound(dacapo="yes") + BAR[2]],  # written before the notes, made after them
    ],
)
def test_da_capo_al_fine_by_sound_or_by_words(write: Write, bars: list[str]) -> None:
    score = load_score(write(attributes(1) + bars[0], *bars[1:]))
    assert score.notes.pitch.tolist() == [60, 62, 64, 60, 62]


SEGNO = "<direction><direction-type><segno/></direction-type></direction>"
CODA = "<direction><direction-type><coda/></direction-type></direction>"


@pytest.mark.parametrize(
    "bars",
    [
        [sound(segno="segno") + BAR[1], BAR[2] + sound(tocoda="coda"), BAR[3] + sound(dalsegno="segno"), sound(coda="coda") + BAR[4]],
        [SEGNO + BAR[1], BAR[2] + words("To Coda"), BAR[3] + words("D.S. al Coda"), words("Coda") + BAR[4]],
        [SEGNO + BAR[1], BAR[2] + CODA, BAR[3] + words("Dal Segno al Coda"), CODA + BAR[4]],
    ],
)
def test_dal_segno_al_coda_by_sound_words_or_symbols(write: Write, bars: list[str]) -> None:
    score = load_score(write(attributes(1) + BAR[0], *bars))
    assert score.notes.pitch.tolist() == [60, 62, 64, 65, 62, 64, 67]


def test_a_repeat_within_a_bar(write: Write) -> None:
    middle = '<barline location="middle"><repeat direction="backward"/></barline>'
    score = load_score(write(attributes(1) + note(60, 1) + note(62, 2) + middle + note(64, 1), BAR[3]))
    assert score.notes.pitch.tolist() == [60, 62, 60, 62, 64, 65]
    assert score.notes.onset_quarter.tolist() == [0, 1, 3, 4, 6, 7]


def test_a_leap_within_a_bar_needs_a_bar_line_there(write: Write) -> None:
    """As where a march has its upbeat: the last bar is short, and Fine stands before the upbeat of what follows."""
    fine = sound(fine="yes")
    line = '<barline location="middle"><bar-style>light-light</bar-style></barline>'
    halves = note(62, 2), note(64, 2)
    bars = note(60, 4), note(65, 2) + sound(dacapo="yes")
    with_line = load_score(write(attributes(1) + bars[0], halves[0] + fine + line + halves[1], bars[1]))
    assert with_line.notes.pitch.tolist() == [60, 62, 64, 65, 60, 62]
    without = load_score(write(attributes(1) + bars[0], halves[0] + fine + halves[1], bars[1]))
    assert without.notes.pitch.tolist() == [60, 62, 64, 65, 60, 62, 64]


def test_an_ending_may_have_a_range_of_numbers(write: Write) -> None:
    ending = '<barline location="{}"><ending number="{}" type="{}"/>{}</barline>'
    back = '<repeat direction="backward"/>'
    first = ending.format("left", "1-3", "start", "") + BAR[1] + ending.format("right", "1-3", "stop", back)
    last = ending.format("left", "4", "start", "") + BAR[2] + ending.format("right", "4", "discontinue", "")
    assert load_score(write(attributes(1) + BAR[0], first, last)).notes.pitch.tolist() == [60, 62] * 3 + [60, 64]


def test_a_repeat_is_played_as_often_as_it_says(write: Write) -> None:
    score = load_score(write(attributes(1) + BAR[0] + REPEAT.replace("backward", 'backward" times="3'), BAR[1]))
    assert score.notes.pitch.tolist() == [60, 60, 60, 62]


def test_a_note_may_be_tied_into_both_endings(write: Write) -> None:
    start, stop = '<tie type="start"/>', '<tie type="stop"/>'
    brackets = '<barline location="{}"><ending number="{}" type="{}"/>{}</barline>'
    back = '<repeat direction="backward"/>'
    first = brackets.format("left", 1, "start", "") + note(62, 2, stop) + note(64, 2) + brackets.format("right", 1, "stop", back)
    second = brackets.format("left", 2, "start", "") + note(62, 1, stop) + note(65, 3) + brackets.format("right", 2, "stop", "")
    notes = load_score(write(attributes(1) + note(60, 2) + note(62, 2, start), first, second)).notes
    assert notes.pitch.tolist() == [60, 62, 64, 60, 62, 65]
    assert notes.duration_quarter.tolist() == [2, 4, 2, 2, 3, 3]


def test_a_note_ends_where_the_music_jumps(write: Write) -> None:
    over = '<tie type="start"/>', '<tie type="stop"/>'
    notes = load_score(write(attributes(1) + note(60, 2) + note(62, 2, over[0]) + REPEAT, note(62, 2, over[1]) + note(64, 2))).notes
    assert notes.duration_quarter.tolist() == [2, 2, 2, 4, 2]


def test_the_signs_of_one_part_serve_all(tmp_path: Path) -> None:
    def bars(*texts: str) -> str:
        return "".join(f'<measure number="{i + 1}">{text}</measure>' for i, text in enumerate(texts))

    (tmp_path / "two.musicxml").write_text(
        '<score-partwise><part-list><score-part id="A"><part-name>A</part-name></score-part><score-part id="B"><part-name>B</part-name>'
        f'</score-part></part-list><part id="A">{bars(attributes(1) + BAR[0], FORWARD + BAR[1] + REPEAT)}</part>'
        f'<part id="B">{bars(attributes(1) + BAR[2], BAR[3])}</part></score-partwise>'
    )
    assert load_score(tmp_path / "two.musicxml").notes.pitch.tolist() == [60, 64, 62, 65, 62, 65]


def test_the_graph_is_folded_and_the_order_beside_it(write: Write) -> None:
    score = load_score(write(attributes(1) + BAR[0] + REPEAT, FORWARD + BAR[1] + REPEAT, BAR[2]))
    assert score.nodes.tolist() == [[0, 4], [4, 8], [8, 12]]
    assert score.stretch_node.tolist() == [0, 0, 1, 1, 2]
    assert {(a, b, EDGES[k]) for a, b, k in score.edges.tolist()} == {
        (0, 0, "repeat"),
        (0, 1, "next"),
        (1, 1, "repeat"),
        (1, 2, "next"),
    }
