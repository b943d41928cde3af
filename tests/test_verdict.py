"""A song that passed the preflight is not looked at again until something of it changes."""

import os
import shutil
from pathlib import Path

import pytest

from rtserver import preflight as pf
from rtserver import verdict
from rtserver.config import Config, parse
from rtserver.demo import SCORE
from rtserver.errors import ConfigError, ModelError
from rtserver.show import Song


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own place for verdicts; the kernels are where they always are."""
    monkeypatch.setattr(verdict, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def score(tmp_path: Path) -> Path:
    return Path(shutil.copy(SCORE, tmp_path / "piece.musicxml"))


def song_of(score: Path, **tables: dict[str, object]) -> Config:
    return parse({"score": {"file": str(score)}, "wire": {"enabled": False}, **tables})


def passed(config: Config, folder: Path) -> Path:
    """Where a song was checked and its verdict kept."""
    folder.mkdir()
    verdict.write_verdict(pf.check(config, folder), folder)
    verdict.keep(config, folder)
    return folder


def test_a_kept_verdict_is_recalled_whole(cache: Path, score: Path, tmp_path: Path) -> None:
    first, again = passed(song_of(score), tmp_path / "first"), tmp_path / "again"
    assert verdict.recall(song_of(score), again)
    assert verdict.read_verdict(again) == verdict.read_verdict(first) is not None
    assert (again / verdict.SCORE_FILE).read_bytes() == (first / verdict.SCORE_FILE).read_bytes()


@pytest.mark.parametrize(
    "table", [{"separation": {"preset": "quality"}}, {"audio": {"sample_rate": 44100}}, {"following": {"input": "main"}}]
)
def test_another_setting_is_another_song(cache: Path, score: Path, tmp_path: Path, table: dict[str, dict[str, object]]) -> None:
    passed(song_of(score), tmp_path / "first")
    assert not verdict.recall(song_of(score, **table), tmp_path / "again")


def test_a_setting_that_the_check_does_not_look_at_changes_nothing(cache: Path, score: Path, tmp_path: Path) -> None:
    passed(song_of(score), tmp_path / "first")
    assert verdict.recall(song_of(score, wire={"control": "ipc:///tmp/elsewhere"}), tmp_path / "again")


def test_an_edited_score_is_looked_at_again(cache: Path, score: Path, tmp_path: Path) -> None:
    passed(song_of(score), tmp_path / "first")
    score.write_text(score.read_text() + "\n")
    assert not verdict.recall(song_of(score), tmp_path / "again")


def test_without_the_cache_there_is_no_verdict(cache: Path, score: Path, tmp_path: Path) -> None:
    passed(song_of(score), tmp_path / "first")
    shutil.rmtree(cache)
    assert not verdict.recall(song_of(score), tmp_path / "again")


def test_half_a_verdict_is_none(cache: Path, score: Path, tmp_path: Path) -> None:
    passed(song_of(score), tmp_path / "first")
    (kept,) = (cache / "verdicts").iterdir()
    (kept / verdict.VERDICT_FILE).write_bytes(b'{"plan"')
    assert not verdict.recall(song_of(score), tmp_path / "again")


def test_only_the_last_used_are_kept(cache: Path, tmp_path: Path) -> None:
    shows = [parse({"audio": {"block_size": size}}) for size in (32, 64, 96, 128)]
    source = tmp_path / "source"
    source.mkdir()
    verdict.write_verdict(pf.check(shows[0], source), source)
    for age, show in enumerate(shows[:3]):
        verdict.keep(show, source)
        place = verdict._place(show)
        assert place is not None
        os.utime(place, (1000.0 + age, 1000.0 + age))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "KEEP", 2)
        verdict.keep(shows[3], source)
    assert [verdict.recall(show, tmp_path / str(i)) for i, show in enumerate(shows)] == [False, False, True, True]


def test_a_song_that_passed_needs_no_process(score: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    songs = [Song("piece", song_of(score))]
    first = pf.preflight(songs, tmp_path / "first")
    monkeypatch.setattr(pf.subprocess, "Popen", None)  # calling it would fail
    again = pf.preflight(songs, tmp_path / "again")
    assert [p.plan for p in again] == [p.plan for p in first]


def test_a_damaged_model_is_found_though_the_song_has_passed(score: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    songs = [Song("piece", song_of(score))]
    pf.preflight(songs, tmp_path / "first")

    def damaged(name: str) -> None:
        raise ModelError(f"{name} is not what its manifest says")

    monkeypatch.setattr(pf, "verified_file", damaged)
    with pytest.raises(ModelError, match="manifest"):
        pf.preflight(songs, tmp_path / "again")


def test_what_did_not_pass_is_looked_at_every_time(score: Path, tmp_path: Path) -> None:
    songs = [Song("piece", song_of(score, following={"method": "nobody"}))]
    for folder in ("first", "again"):
        with pytest.raises(ConfigError, match="no method 'nobody'"):
            pf.preflight(songs, tmp_path / folder)
