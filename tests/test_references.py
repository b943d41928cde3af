"""What `[following] reference` names, made before the show, kept, and followed by: the whole way from the configuration to positions."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from rtserver import cli, verdict
from rtserver import preflight as pf
from rtserver.audio.file import write
from rtserver.config import Config, Following, parse, resolve
from rtserver.errors import ConfigError
from rtserver.following.reference import Reference, build_reference
from rtserver.following.rendered import as_midi
from rtserver.following.score import Score, load_score
from rtserver.references import make_reference
from rtserver.render import render
from rtserver.show import load_show
from tests.following.music import study
from tests.support.synthesiser import played

BARS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with score.mid, take.wav of it, and beats.csv."""
    folder = tmp_path_factory.mktemp("piece")
    score = study(4 * BARS)
    (folder / "score.mid").write_bytes(as_midi(score))
    signal, sample_rate = played(score)
    write(folder / "take.wav", signal, sample_rate)
    (folder / "beats.csv").write_text("time_s,quarter\n" + "".join(f"{q / 2},{q}\n" for q in range(4 * BARS)))
    return folder


def song(place: Path, **following: str) -> Config:
    raw = {"score": {"file": "score.mid"}, "following": following, "wire": {"enabled": False}, "generation": {"enabled": False}}
    return resolve(parse(raw), place)


RECORDING = {"reference": "recording", "recording": "take.wav", "recording_beats": "beats.csv"}


@pytest.mark.parametrize("method", ["dixon", "arzt"])
@pytest.mark.parametrize("following", [{"reference": "rendered"}, RECORDING], ids=["rendered", "recording"])
def test_a_render_follows_by_the_reference_that_is_configured(place: Path, tmp_path: Path, method: str, following: dict[str, str]) -> None:
    """The same workers as live, which load what the preflight made."""
    render(place / "take.wav", tmp_path, song(place, method=method, **following))
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    told = [(e["frame"] / 44100, e["quarter"]) for e in events if e["kind"] == "position"]
    t, quarter = np.array(told).T
    inside = (t > 2.0) & (t < 2 * BARS - 0.5)
    assert np.abs(quarter - 2.0 * t)[inside].max() < 0.2


def test_the_preflight_leaves_it_beside_the_score(place: Path, tmp_path: Path) -> None:
    pf.check(song(place, method="arzt", reference="rendered"), tmp_path)
    kept = Reference.from_npz(tmp_path / verdict.REFERENCE_FILE)
    written = build_reference(Score.from_npz(tmp_path / verdict.SCORE_FILE))
    assert len(kept) > 0
    assert not np.array_equal(kept.match[: len(written)], written.match[: len(kept)])


def test_no_reference_is_left_where_the_method_makes_its_own(place: Path, tmp_path: Path) -> None:
    pf.check(song(place, method="arzt"), tmp_path)
    assert not (tmp_path / verdict.REFERENCE_FILE).exists()


def test_it_is_kept_until_the_recording_or_its_beats_change(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "cache_folder", lambda: tmp_path / "cache")
    config = song(place, method="arzt", **RECORDING)
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    verdict.write_verdict(pf.check(config, first), first)
    verdict.keep(config, first)
    assert verdict.recall(config, again)
    assert (again / verdict.REFERENCE_FILE).read_bytes() == (first / verdict.REFERENCE_FILE).read_bytes()
    beats, take = place / "beats.csv", place / "take.wav"
    before, date = beats.read_text(), take.stat().st_mtime_ns
    try:
        beats.write_text(before.replace("0.5,1\n", "0.6,1\n"))
        assert not verdict.recall(config, tmp_path / "third")
        beats.write_text(before)
        assert verdict.recall(config, tmp_path / "fourth")
        os.utime(take, ns=(date, date + 1))
        assert not verdict.recall(config, tmp_path / "fifth")
    finally:
        beats.write_text(before)
        os.utime(take, ns=(date, date))


@pytest.mark.parametrize("method", ["semimarkov", "semimarkov-templates"])
def test_a_method_that_follows_the_score_itself_is_refused(place: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(ConfigError, match=rf"following\.reference: the method '{method}' follows the score itself.*'dixon' or 'arzt'"):
        pf.check(song(place, method=method, reference="rendered"), tmp_path)


@pytest.mark.parametrize(
    ("following", "field", "message"),
    [
        ({"reference": "recording"}, "following.recording", "expected an audio file"),
        ({"reference": "recording", "recording": "take.wav"}, "following.recording_beats", "rtserver align SCORE RECORDING"),
        ({"reference": "wav"}, "following.reference", "Invalid enum value 'wav'"),
        ({"reference": "rendered", "keys": "midi_in"}, "following.reference", "keys are compared with the score"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(following: dict[str, str], field: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse({"following": following})
    assert caught.value.field == field


def test_what_fails_is_told_with_its_field(place: Path, tmp_path: Path) -> None:
    score = load_score(place / "score.mid")
    with pytest.raises(ConfigError, match=r"following\.reference: no such sound font: none\.sf2"):
        make_reference(score, Following("arzt", reference="rendered", sound_font="none.sf2"))
    (tmp_path / "beats.csv").write_text("time_s,quarter\n0,0\n1,x\n")
    beats = str(tmp_path / "beats.csv")
    with pytest.raises(ConfigError, match=r"following\.recording_beats: .*beats\.csv row 3: expected a number for quarter, found 'x'"):
        make_reference(score, Following("arzt", reference="recording", recording=str(place / "take.wav"), recording_beats=beats))


def test_files_count_from_the_configuration_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "show.toml").write_text(
        '[setlist]\nsongs = ["songs/a.toml", "songs/b.toml"]\n[following]\nmethod = "arzt"\nreference = "recording"\n'
        'recording = "take.wav"\nrecording_beats = "take.csv"\n'
    )
    (tmp_path / "songs" / "a.toml").write_text("")
    (tmp_path / "songs" / "b.toml").write_text('[following]\nrecording = "b.wav"\n')
    a, b = (s.config.following for s in load_show(tmp_path / "show.toml"))
    assert (a.recording, a.recording_beats) == (str(tmp_path / "take.wav"), str(tmp_path / "take.csv"))
    assert (b.recording, b.recording_beats) == (str(tmp_path / "songs" / "b.wav"), str(tmp_path / "take.csv"))


def follow(place: Path, tmp_path: Path, *options: str) -> int:
    return cli.main(["follow", str(place / "score.mid"), str(place / "take.wav"), "-o", str(tmp_path / "out.csv"), *options])


@pytest.mark.parametrize("options", [["rendered"], ["take.wav", "--beats", "beats.csv"]], ids=["rendered", "recording"])
def test_follow_takes_it_on_the_command_line(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    monkeypatch.chdir(place)
    assert follow(place, tmp_path, "--method", "arzt", "--reference", *options) == 0
    t, quarter = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1, usecols=(0, 1)).T
    inside = (t > 2.0) & (t < 2 * BARS - 0.5)
    assert np.abs(quarter - 2.0 * t)[inside].max() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reference", "rendered"], "the method 'semimarkov' follows the score itself and takes no rendered reference"),
        (
            ["--method", "arzt", "--reference", "old.wav"],
            r"--beats: expected the beats of the recording old\.wav; rtserver align .*",
        ),
        (["--method", "arzt", "--beats", "beats.csv"], "--beats: belongs to a recording"),
        (["--method", "arzt", "--reference", "rendered", "--sound-font", "none.sf2"], r"no such sound font: none\.sf2"),
    ],
)
def test_follow_refuses_with_one_line_and_2(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert follow(place, tmp_path, *options) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(message, said)
    assert "\n" not in said
