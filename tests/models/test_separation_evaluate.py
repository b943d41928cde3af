"""What is wrong with a measurement is said before it begins."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import stemclips

pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from models.separation import evaluate


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # a call that has to be refused
    for work in ("on_clips", "on_pool"):
        monkeypatch.setattr(evaluate, work, lambda *_: pytest.fail("it measures"))
    monkeypatch.setattr(evaluate.musdb, "measure", lambda *_: pytest.fail("it measures"))

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            evaluate.main(evaluate.parser().parse_args(arguments))
        return stopped.value.code if isinstance(stopped.value.code, str) else capsys.readouterr().err.splitlines()[-1]

    return call


def test_a_model_that_is_unknown(refused) -> None:
    for where in ("--musdb", "--pool", "--clips"):
        assert "nope" in refused("nope", where, "somewhere")


def test_nothing_to_measure_on(refused) -> None:
    assert refused("stems3") == "nothing to measure on: name --clips, --pool or --musdb"


@pytest.mark.parametrize("option", ["--each=0", "--each=-1", "--blends=3", "--blends=-0.1", "--blends=nan"])
def test_an_option_that_makes_no_sense(refused, option: str) -> None:
    assert f"argument {option.split('=', maxsplit=1)[0]}: expected" in refused("stems3", option)


def test_figures_that_could_not_be_written(refused, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "figures.json"):
        assert refused("stems3", "--musdb", "ROOT", "--json", str(path)).startswith(f"--json {path} cannot be written")


@pytest.mark.parametrize(("n", "rate", "channels"), [(44000, 44100, 2), (44100, 48000, 2), (44100, 44100, 1)])
def test_a_clip_whose_stems_differ(refused, tmp_path: Path, n: int, rate: int, channels: int) -> None:
    clip = stemclips.write(tmp_path / "made_a", stemclips.stems(1.0, 0))
    soundfile.write(clip / "bass.wav", np.zeros((n, channels)), rate)
    told = refused("stems3", "--clips", str(tmp_path))
    assert told.startswith(f"{clip}: expected stems of one length") and f"bass.wav {n} frames, {rate} Hz, {channels} channels" in told


def test_a_clip_that_is_no_sound(refused, tmp_path: Path) -> None:
    clip = stemclips.write(tmp_path / "made_a", stemclips.stems(1.0, 0))
    (clip / "bass.wav").write_text("no sound")
    assert refused("stems3", "--clips", str(tmp_path)).startswith(f"{clip / 'bass.wav'} cannot be read as audio")


def test_a_part_of_other_may_have_one_channel(tmp_path: Path) -> None:
    clip = stemclips.write(tmp_path / "made_a", stemclips.stems(1.0, 0))
    soundfile.write(clip / "guitar.wav", np.zeros(44100), 44100)
    evaluate.alike(clip)
