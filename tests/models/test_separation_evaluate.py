"""What is wrong with a measurement is said before it begins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import stemclips

from rtserver import zoo

pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

from models.export import to_toml
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


def at_96_khz(folder: Path) -> Path:
    """A clip of MUSDB18-HQ's form, at a rate that no network here is made for."""
    clip = stemclips.write(folder, stemclips.stems(0.5, 0), mixture=True)
    for path in clip.iterdir():
        soundfile.write(path, soundfile.read(path)[0], 96000)
    return clip


def test_a_clip_at_a_rate_that_a_model_is_not_made_for(refused, tmp_path: Path) -> None:
    clip = at_96_khz(tmp_path / "clips" / "made_a")
    told = refused("hp-int8", "--clips", str(tmp_path / "clips"))
    assert told == f"{clip} is at 96000 Hz: expected 44100 or 48000 Hz, which hp-int8 is made for: convert its files"


def test_a_track_at_a_rate_that_a_model_is_not_made_for(refused, tmp_path: Path) -> None:
    track = at_96_khz(tmp_path / "test" / "A - One")
    assert refused("hp-int8", "--musdb", str(tmp_path)).startswith(f"{track} is at 96000 Hz")


def with_facts(folder: Path, **facts: Any) -> str:
    """hp-int8 with something else in its manifest."""
    entry = zoo.manifest()["hp-int8"] | facts
    folder.mkdir(exist_ok=True)
    (folder / zoo.MANIFEST).write_text(to_toml({"hp-int8": entry}))
    (folder / entry["file"]).write_bytes((zoo.FOLDER / entry["file"]).read_bytes())
    return str(folder / "hp-int8")


def test_the_rates_of_a_model_are_those_of_its_manifest(tmp_path: Path) -> None:
    assert evaluate.estimates.load(with_facts(tmp_path, sample_rates=[96000])).sample_rates == (96000,)


def test_a_hop_that_a_model_is_not_made_for(refused, tmp_path: Path) -> None:
    stemclips.write(tmp_path / "test" / "A - One", stemclips.stems(0.5, 0), mixture=True)
    model = with_facts(tmp_path / "zoo", hops=[256])
    told = refused(model, "--musdb", str(tmp_path), "--hop", "128")
    assert told == f"--hop 128: {model} is made for hops of 256 frames: choose another --hop, or another model"


@pytest.mark.parametrize("kept", [("bass", "other"), ("drums",), ()])
def test_a_clip_that_lacks_a_stem(refused, tmp_path: Path, kept: tuple[str, ...]) -> None:
    sounds = stemclips.stems(1.0, 0)
    stemclips.write(tmp_path / "made_a", sounds)
    clip = stemclips.write(tmp_path / "made_b", {name: sounds[name] for name in kept})
    told = refused("hp-int8", "--clips", str(tmp_path))
    assert told == f"{clip}: expected drums and at least one other stem (.flac or .wav), found {', '.join(kept) or 'none'}"


def test_a_mixture_that_is_shorter_than_its_stems(refused, tmp_path: Path) -> None:
    track = stemclips.write(tmp_path / "test" / "A - One", stemclips.stems(1.0, 0), mixture=True)
    soundfile.write(track / "mixture.wav", np.zeros((100, 2)), 44100)
    assert refused("hp-int8", "--musdb", str(tmp_path)).startswith(f"{track}: expected stems of one length")


def test_a_folder_that_is_missing(refused, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    stemclips.write(tmp_path / "clips" / "made_a", stemclips.stems(1.0, 0))
    with_clips = ("stems3", "--clips", str(tmp_path / "clips"))
    assert refused(*with_clips, "--musdb", gone).startswith(f"{gone}: expected test/TRACK/mixture.wav and stems, as in MUSDB18-HQ")
    assert refused(*with_clips, "--pool", gone).startswith(f"{gone}/excerpts.jsonl is missing")
    assert refused("stems3", "--clips", gone) == f"{gone}: no clip folders found"
