"""Facts about shows and their songs."""

from pathlib import Path

import pytest

from rtserver.errors import ConfigError
from rtserver.show import load_show

SHOW = """
[audio]
block_size = 256
[setlist]
songs = ["opening.toml", "solo/second.toml"]
[outputs.main]
source = "harmonic"
channels = [1, 2]
[score]
file = "show.mid"
[generation]
seed = 5
temperature = 0.5
"""


@pytest.fixture
def write(tmp_path):
    def put(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path / "show.toml"

    return put


def test_a_configuration_without_a_set_list_is_a_show_of_one_song(write):
    (song,) = load_show(write({"show.toml": '[audio]\nblock_size = 64\n[score]\nfile = "a.mid"'}))
    assert (song.name, song.config.audio.block_size) == ("show", 64)
    assert Path(song.config.score.file).is_absolute()


def test_songs_come_in_order_each_over_the_shows_settings(write):
    path = write({"show.toml": SHOW, "opening.toml": "[generation]\nseed = 7", "solo/second.toml": '[score]\nfile = "x.mid"'})
    opening, second = load_show(path)
    assert (opening.name, second.name) == ("opening", "second")
    assert (opening.config.generation.seed, second.config.generation.seed) == (7, 5)
    assert opening.config.generation.temperature == 0.5
    assert opening.config.audio.block_size == 256
    assert opening.config.score.file == str(path.parent / "show.mid")
    assert second.config.score.file == str(path.parent / "solo" / "x.mid")


MAPPED = SHOW + '[midi.map.level]\nmessage = "cc"\nnumber = 7\nparameter = "outputs.click.gain_db"'


def test_a_rule_of_the_midi_map_must_be_possible_in_one_song(write):
    click = '[outputs.click]\nsource = "dry"\nchannels = [4]'
    assert len(load_show(write({"show.toml": MAPPED, "opening.toml": "", "solo/second.toml": click}))) == 2
    with pytest.raises(ConfigError, match=r"midi.map.level.parameter: unknown parameter 'outputs.click.gain_db'"):
        load_show(write({"show.toml": MAPPED, "opening.toml": "", "solo/second.toml": ""}))


def test_a_songs_outputs_replace_the_shows(write):
    song = '[outputs.click]\nsource = "dry"\nchannels = [4]'
    _, second = load_show(write({"show.toml": SHOW, "opening.toml": "", "solo/second.toml": song}))
    assert list(second.config.outputs) == ["click"]


@pytest.mark.parametrize(
    ("song", "field", "says"),
    [
        ("[audio]\nblock_size = 64", "opening.toml: audio", "a song cannot set this"),
        ('[separation]\npresett = "stage"', "opening.toml: separation.presett", "did you mean 'preset'"),
        ("[separation", "opening.toml", "not readable TOML"),
    ],
)
def test_a_wrong_song_is_refused_by_file_and_field(write, song, field, says):
    with pytest.raises(ConfigError, match=says) as caught:
        load_show(write({"show.toml": SHOW, "opening.toml": song, "solo/second.toml": ""}))
    assert caught.value.field == field


def test_a_missing_song_is_refused_by_its_path(write):
    with pytest.raises(ConfigError, match=r"no such configuration file: .*opening\.toml"):
        load_show(write({"show.toml": SHOW}))


def test_two_songs_of_one_name_are_refused(write):
    show = SHOW.replace("opening.toml", "second.toml")
    with pytest.raises(ConfigError, match="two songs are called 'second'"):
        load_show(write({"show.toml": show, "second.toml": "", "solo/second.toml": ""}))
