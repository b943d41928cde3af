"""A show: the songs of a set list, each a whole configuration, in the order in which they are played.

The configuration of the show names files of songs; a song's file says what differs: what it listens to and plays (`SONG_TABLES`). A
table of inputs or of outputs replaces the show's, any other is laid over it. What belongs to the device or to the world outside (audio,
midi, wire) is the show's alone, so that a song can follow another without a gap. A show without a set list is one song.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rtserver.config import Config, parse, read, resolve
from rtserver.config.midi import check_maps
from rtserver.config.reading import FOLLOWING_FILES
from rtserver.errors import ConfigError

SONG_TABLES = ("inputs", "outputs", "separation", "score", "following", "cues", "generation", "click")
REPLACED = ("inputs", "outputs", "cues")  # a song's outputs are its own, not more of the show's


@dataclass(frozen=True)
class Song:
    """A song and all its settings."""

    name: str
    config: Config


def load_show(path: Path | str) -> list[Song]:
    """The songs of the configuration at `path`, at least one. Raises `ConfigError` with the file and the path of the field."""
    path = Path(path)
    raw = read(path)
    config = resolve(parse(raw, with_map=False), path.parent)
    if not config.setlist.songs:
        check_maps([config])
        return [Song(path.stem, config)]
    songs = [_song(raw, config, path.parent / file) for file in config.setlist.songs]
    names = [song.name for song in songs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError("setlist.songs", f"two songs are called {name!r}; a song is called as its file")
    check_maps([song.config for song in songs])
    return songs


def _song(raw_show: dict[str, Any], show: Config, path: Path) -> Song:
    """The song in `path`, over the show's settings."""
    try:
        raw = read(path)
        for table in raw:
            if table not in SONG_TABLES:
                raise ConfigError(table, f"a song cannot set this, the show does; a song may set {', '.join(SONG_TABLES)}")
        merged = {key: value for key, value in raw_show.items() if key not in ("setlist", "cues")}
        for table, values in raw.items():
            merged[table] = values if table in REPLACED else {**merged.get(table, {}), **values}
        config = resolve(parse(merged, with_map=False), path.parent)
    except ConfigError as error:
        raise ConfigError(": ".join(filter(None, (path.name, error.field))), error.message) from None
    if "file" not in raw.get("score", {}):  # then the score is the show's, and lies beside the show's file
        config = msgspec.structs.replace(config, score=msgspec.structs.replace(config.score, file=show.score.file))
    for key in ("model", "other_model"):
        if key not in raw.get("separation", {}):
            separation = msgspec.structs.replace(config.separation, **{key: getattr(show.separation, key)})
            config = msgspec.structs.replace(config, separation=separation)
    if "inputs" not in raw:
        config = msgspec.structs.replace(config, inputs=show.inputs)
    for key in FOLLOWING_FILES:
        if key not in raw.get("following", {}):
            following = msgspec.structs.replace(config.following, **{key: getattr(show.following, key)})
            config = msgspec.structs.replace(config, following=following)
    if "cues" not in raw:
        config = msgspec.structs.replace(config, cues=show.cues)
    return Song(path.stem, config)
