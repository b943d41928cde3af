"""What semitone spectra say of chords, on features that are written down from notes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.dsp.layout import N_SEMITONES, SEMITONES
from rtserver.following import odds
from rtserver.following.chords import chords_of
from rtserver.following.heard import ONSET, Heard
from rtserver.following.reference import features_of

from .music import score_of

SCORE = score_of([(float(k), 1.0, p) for k, chord in enumerate([(60,), (62, 65, 69), (48, 64), (71,), (53, 57, 60)]) for p in chord])
CHORDS = chords_of(SCORE.events())
SPECTRA: npt.NDArray[np.float32] = np.ascontiguousarray(
    features_of(
        SCORE.notes.onset_quarter + 0.5, SCORE.notes.onset_quarter + 1.5, SCORE.notes, 600, np.ones(len(SCORE.notes))
    )[:, SEMITONES:].astype(np.float32)
)  # fmt: skip


EVENTS = np.arange(len(CHORDS.chord), dtype=np.int32)


def after(hops: int, heard: Heard | None = None) -> Heard:
    heard = heard or Heard(CHORDS)
    for spectrum in SPECTRA[:hops]:
        heard.process(spectrum)
    return heard


def begun(heard: Heard) -> npt.NDArray[np.float64]:
    nats = heard.elsewhere()
    assert nats is not None
    return nats


def test_the_chord_that_begins_is_heard() -> None:
    for k in range(len(CHORDS.chord)):
        nats = begun(after(100 * k + 50 + 4))
        assert np.argmax(nats) == CHORDS.chord[k]
        assert nats[CHORDS.chord[k]] > 0.5


def test_between_onsets_nothing_begins() -> None:
    heard = after(50 + 70)
    assert heard.strength < ONSET
    assert heard.elsewhere() is None
    heard.tell(EVENTS)
    assert heard.evidence[:, : odds.N_AGES].sum(axis=1).max() <= 0.0


def test_what_is_told_does_not_depend_on_who_was_asked_for_before() -> None:
    """A moment that nobody believed in until now is worked out anew, and comes out the same."""
    always, late = after(0), after(0)
    for spectrum in SPECTRA[: 50 + 105]:
        always.process(spectrum)
        always.tell(EVENTS)
        late.process(spectrum)
        late.tell(EVENTS[:1])
    late.tell(EVENTS)
    np.testing.assert_allclose(late.evidence, always.evidence, atol=1e-6)


def test_what_is_told_of_an_onset_adds_up_to_what_is_said_elsewhere() -> None:
    heard = after(150)
    total = np.zeros(len(CHORDS))
    for age, spectrum in enumerate(SPECTRA[150 : 150 + odds.SINCE + 1]):
        heard.process(spectrum)
        heard.tell(EVENTS)
        total += heard.evidence[:, age]
    nats = begun(heard)
    np.testing.assert_allclose(nats[nats > 0.0], total[nats > 0.0], atol=1e-6)
    assert (total[nats <= 0.0] <= 1e-6).all()


def test_the_fit_tells_what_sounds() -> None:
    held = np.zeros(len(CHORDS.chord))
    for k in range(1, len(held)):
        best = after(100 * k + 50 + 30).fit(np.arange(len(held), dtype=np.int32), held)
        assert best > 0.0
        assert np.argmax(held) == k
        assert held.max() == 0.0


def test_silence_says_nothing_odd() -> None:
    heard = Heard(CHORDS)
    for _ in range(50):
        heard.process(np.zeros(N_SEMITONES, np.float32))
        heard.tell(EVENTS)
    assert heard.strength == 0.0
    assert np.isfinite(heard.evidence).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e3]))
def test_no_hop_says_too_much(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    heard = Heard(CHORDS)
    for _ in range(20):
        heard.process((size * random.random(N_SEMITONES)).astype(np.float32))
        heard.tell(EVENTS)
        assert np.abs(heard.evidence).max() <= 2.0 * odds.LIMIT
        assert 0.0 <= heard.strength <= 1.0


def test_reset_is_as_fresh() -> None:
    used, fresh = after(400), after(0)
    used.reset()
    for heard in (used, fresh):
        after(180, heard).tell(EVENTS)
    assert np.array_equal(used.evidence, fresh.evidence)
