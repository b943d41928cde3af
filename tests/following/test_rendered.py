"""A score as a MIDI file, and the reference that its rendering makes."""

from __future__ import annotations

import io
from dataclasses import replace

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.following.follower import Follower
from rtserver.following.offline import follow_audio
from rtserver.following.reference import Reference, build_reference
from rtserver.following.rendered import as_midi, rendered_reference
from tests.following.music import score_of, study
from tests.support.synthesiser import played


def notes_of(midi: bytes) -> list[tuple[float, float, int]]:
    """Onset, end and pitch of what a MIDI file plays; a note that ends twice or never fails."""
    down: dict[int, float] = {}
    found: list[tuple[float, float, int]] = []
    now = 0.0
    for message in mido.MidiFile(file=io.BytesIO(midi)):
        now += message.time
        if message.type == "note_on" and message.velocity:
            assert message.note not in down
            down[message.note] = now
        elif message.type == "note_on":
            found.append((down.pop(message.note), now, message.note))
    assert not down
    return sorted(found)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 127)), min_size=2, max_size=30))
def test_every_note_is_struck_and_released_once(rows: list[tuple[int, int, int]]) -> None:
    score = score_of([(a / 4, d / 4, p) for a, d, p in rows])
    struck = notes_of(as_midi(score))
    assert sorted((round(8 * a), p) for a, _, p in struck) == sorted({(a, p) for a, _, p in rows})  # 120 quarters a minute
    assert all(b > a for a, b, _ in struck)


def test_a_long_note_ends_where_it_is_struck_again() -> None:
    score = score_of([(0.0, 4.0, 60), (2.0, 1.0, 60), (3.0, 1.0, 62)])
    assert notes_of(as_midi(score)) == [pytest.approx(row, abs=1e-3) for row in [(0.0, 1.0, 60), (1.0, 1.5, 60), (1.5, 2.0, 62)]]


def test_it_has_the_axis_of_the_reference_that_is_written_down() -> None:
    score = study(16)
    rendered, written = rendered_reference(score, *played(score)), build_reference(score)
    n = min(len(rendered), len(written))
    assert abs(len(rendered) - len(written)) <= 2
    np.testing.assert_allclose(rendered.quarter[:n], written.quarter[:n], atol=1e-6)
    assert rendered.onset.tolist() == written.onset.tolist()
    assert set(rendered.tempo_bpm) == {120.0}


def test_its_notes_rise_where_the_written_ones_do() -> None:
    score = study(16)
    rendered, written = rendered_reference(score, *played(score)), build_reference(score)
    n = min(len(rendered), len(written)) - 20
    rise = [np.linalg.norm(r.match[:, 12:], axis=1) for r in (rendered, written)]
    alike = [np.corrcoef(rise[0][10 + lag : n + lag], rise[1][10:n])[0, 1] for lag in range(-5, 6)]
    assert -1 <= int(np.argmax(alike)) - 5 <= 2  # hops; the attack of a piano takes one
    assert max(alike) > 0.8


@pytest.mark.parametrize("method", ["dixon", "arzt"])
@pytest.mark.parametrize("tempo", [0.8, 1.25])
def test_a_performance_at_another_tempo_is_followed(method: str, tempo: float) -> None:
    score = study(32)
    reference = rendered_reference(score, *played(score))
    rows = follow_audio(Follower(score, method, reference), *played(replace(score, tempo_bpm=score.tempo_bpm * tempo)))
    t, quarter = np.array([row[:2] for row in rows]).T
    inside = (t > 3.0) & (t < 32 * 0.5 / tempo - 0.5)
    assert np.abs(quarter - 2.0 * tempo * t)[inside].max() < 0.25


def test_a_file_holds_all_that_a_follower_needs(tmp_path) -> None:
    score = study(8)
    made = rendered_reference(score, *played(score))
    made.to_npz(tmp_path / "reference.npz")
    kept = Reference.from_npz(tmp_path / "reference.npz")
    sound = played(score)
    assert len(kept.features) == 0
    assert follow_audio(Follower(score, "arzt", kept), *sound) == follow_audio(Follower(score, "arzt", made), *sound)
