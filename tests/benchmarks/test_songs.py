"""The songs that separation is measured with: the score that is given away and the truth about the sound are about the same notes."""

from __future__ import annotations

import numpy as np
import pytest
import songs

from rtserver.errors import SynthesisError


@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_of_a_song_has_its_notes_at_its_quarters(seed: int) -> None:
    song = songs.made_up(seed, 12.0)
    score = songs.parsed(songs.as_midi(song.notes, song.notes[:, songs.ONSET], song.notes[:, songs.END], songs.TICKS, song.tempo_bpm))
    pitched = song.notes[song.notes[:, songs.CHANNEL] != songs.DRUMS]
    expected = sorted({(round(onset - pitched[0, songs.ONSET], 3), int(key)) for onset, _, key, *_ in pitched})
    assert sorted({(round(onset, 3), int(p)) for onset, p in zip(score.notes.onset_quarter, score.notes.pitch, strict=True)}) == expected
    np.testing.assert_allclose(score.tempo_bpm, song.tempo_bpm, rtol=1e-5)


def test_the_truth_is_where_the_sound_is() -> None:
    try:
        clip = songs.performed(songs.made_up(3, 8.0), 6.0, 3)
    except SynthesisError as error:
        pytest.skip(str(error))
    sound = np.abs(clip.stems[1:].sum(axis=(0, 1)))
    begins = int(np.argmax(sound > 0.02 * sound.max())) / clip.sample_rate
    assert abs(clip.quarter_at(begins)) < 0.1
    assert (np.diff(clip.quarter) > 0.0).all() and abs(clip.tempo_at(3.0) / clip.score.tempo_bpm[0] - 1.0) < 0.1
