"""Cues as they are written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from rtserver.config import load, parse
from rtserver.config.cues import MAX_CUES
from rtserver.demo import SCORE
from rtserver.errors import ConfigError
from rtserver.preflight import check
from rtserver.show import load_show

FILE = """
[[cue]]
name = "lights"
at = "bar 3 beat 2"
lead_s = 0.5
[[cue]]
name = "mute"
at = "mark B time 2"
parameter = "outputs.harmonic.mute"
value = true
"""


def with_cues(*cues: dict[str, Any]) -> dict[str, Any]:
    return {"score": {"file": str(SCORE)}, "cues": {"cue": list(cues)}}


def a_cue(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "at": "bar 1"} | fields


def test_cues_lie_in_a_file_of_their_own_or_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "cues.toml").write_text(FILE)
    inline = f'[score]\nfile = "{SCORE}"\n[cues]\nfile = "cues.toml"\n[[cues.cue]]\nname = "first"\nat = "bar 1"\n'
    (tmp_path / "show.toml").write_text(inline)
    config = load(tmp_path / "show.toml")
    assert [cue.name for cue in config.cues.cue] == ["first", "lights", "mute"]
    assert config.cues.cue[1].lead_s == 0.5


@pytest.mark.parametrize(
    ("cue", "field"),
    [
        (a_cue(at="soon"), "at"),
        (a_cue(name=""), "name"),
        (a_cue(name="a" * 33), "name"),
        (a_cue(lead_s=-1), "lead_s"),
        (a_cue(value=3), "value"),
        (a_cue(command="dance"), "command"),
        (a_cue(command="panic", value=1), "value"),
        (a_cue(command="tap", value="somewhere"), "value"),
        (a_cue(command="song", value="x" * 49), "value"),
        (a_cue(parameter="outputs.harmonic.gain_bd", value=0), "parameter"),
        (a_cue(parameter="outputs.harmonic.gain_db", value=99), "value"),
        (a_cue(parameter="outputs.harmonic.gain_db"), "value"),
    ],
)
def test_a_wrong_cue_is_refused_with_the_path_of_its_field(cue: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_cues(cue))
    assert caught.value.field == f"cues.cue[0].{field}"


def test_two_cues_of_one_name_too_many_and_cues_without_a_score_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cues\.cue\[1\]\.name: two cues are called 'a'"):
        parse(with_cues(a_cue(), a_cue()))
    with pytest.raises(ConfigError, match=f"at most {MAX_CUES} cues"):
        parse(with_cues(*(a_cue(name=str(n)) for n in range(MAX_CUES + 1))))
    with pytest.raises(ConfigError, match=r"set score\.file"):
        parse({"cues": {"cue": [a_cue()]}})


@pytest.mark.parametrize(
    ("text", "complaint"), [("[[cues]]\n", "unknown key; did you mean 'cue'?"), ("[[cue]]\nname = 3\n", "str"), (None, "no such")]
)
def test_a_file_of_cues_that_is_none_is_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    if text is not None:
        (tmp_path / "cues.toml").write_text(text)
    (tmp_path / "show.toml").write_text(f'[score]\nfile = "{SCORE}"\n[cues]\nfile = "cues.toml"\n')
    with pytest.raises(ConfigError, match=r"cues\.file: cues\.toml: ") as caught:
        load(tmp_path / "show.toml")
    assert complaint in str(caught.value)


def test_a_song_has_its_own_cues_or_the_shows(tmp_path: Path) -> None:
    (tmp_path / "songs").mkdir()
    (tmp_path / "cues.toml").write_text(FILE)
    (tmp_path / "songs" / "cues.toml").write_text(FILE.replace("lights", "fog"))
    (tmp_path / "songs" / "one.toml").write_text("[generation]\nseed = 1\n")
    (tmp_path / "songs" / "two.toml").write_text('[cues]\nfile = "cues.toml"\n')
    show = f'[setlist]\nsongs = ["songs/one.toml", "songs/two.toml"]\n[score]\nfile = "{SCORE}"\n[cues]\nfile = "cues.toml"\n'
    (tmp_path / "show.toml").write_text(show)
    songs = load_show(tmp_path / "show.toml")
    assert [song.config.cues.cue[0].name for song in songs] == ["lights", "fog"]
    assert [len(song.config.cues.cue) for song in songs] == [2, 2]


@pytest.mark.parametrize("cue", [a_cue(at="bar 999"), a_cue(command="seek", value="bar 999")])
def test_a_place_that_the_score_has_not_is_found_before_the_show(tmp_path: Path, cue: dict[str, Any]) -> None:
    config = parse(with_cues(cue))
    with pytest.raises(ConfigError, match=r"cues\.cue\[0\]: 'a': no bar '999'"):
        check(config, tmp_path)


def test_what_is_written_out_is_read_again() -> None:
    config = parse({"score": {"file": "x"}, "cues": tomllib.loads(FILE)})
    assert [(cue.parameter, cue.value) for cue in config.cues.cue] == [("", None), ("outputs.harmonic.mute", True)]
