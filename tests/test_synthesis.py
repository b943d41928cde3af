"""FluidSynth and its sound fonts: what is missing is named, with the packages that bring it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver import synthesis
from rtserver.errors import SynthesisError
from rtserver.following.rendered import as_midi
from rtserver.synthesis import font_of, synthesise
from tests.following.music import score_of
from tests.support.synthesiser import played

TUNE = score_of([(0.0, 1.0, 60), (1.0, 1.0, 64), (3.0, 1.0, 67)])


def test_notes_are_heard_when_they_are_written() -> None:
    signal, sample_rate = played(TUNE)
    hop = sample_rate // 100
    power = (signal[0, : len(signal[0]) // hop * hop] ** 2).reshape(-1, hop).mean(axis=1)
    for onset_s in (0.0, 0.5, 1.5):
        n = round(100 * onset_s)
        assert power[n : n + 5].max() > 3.0 * max(power[max(n - 5, 0) : n].max(initial=0.0), 1e-9)


def test_a_rendering_is_the_same_each_time() -> None:
    played(TUNE)
    first, again = (synthesise(as_midi(TUNE))[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_a_missing_program_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    font = tmp_path / "some.sf2"
    font.write_bytes(b"RIFF" + bytes(4) + b"sfbk")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SynthesisError, match=r"FluidSynth is not installed.*apt-get install fluidsynth fluid-soundfont-gm"):
        synthesise(as_midi(TUNE), str(font))


def test_missing_fonts_are_told_with_their_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synthesis, "FONTS", (str(tmp_path / "none.sf2"),))
    with pytest.raises(
        SynthesisError, match=r"no sound font found; expected one of .*none\.sf2.*fluid-soundfont-gm.*following\.sound_font"
    ):
        font_of()
    with pytest.raises(SynthesisError, match=r"no such sound font: .*mine\.sf2"):
        font_of(str(tmp_path / "mine.sf2"))


def test_a_damaged_font_is_not_replaced_by_another(tmp_path: Path) -> None:
    played(TUNE)
    font = tmp_path / "cut.sf2"
    font.write_bytes(b"RIFF" + bytes(4) + b"sfbk" + bytes(100))
    with pytest.raises(SynthesisError, match=r"cut\.sf2 cannot be loaded by FluidSynth"):
        synthesise(as_midi(TUNE), str(font))


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    font = tmp_path / "text.sf2"
    font.write_text("not a font")
    with pytest.raises(SynthesisError, match=r"text\.sf2: not a sound font; expected SF2 or SF3"):
        synthesise(as_midi(TUNE), str(font))
