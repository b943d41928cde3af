"""What is loaded and written: wrong files are refused before anything sounds, a full disk ends the recording alone."""

import resource
import shutil
from pathlib import Path

import pytest
from faults import Trial

from rtserver import zoo
from rtserver.config import load, parse
from rtserver.errors import ConfigError, ModelError, RtserverError, ScoreError
from rtserver.following.score import load_score
from rtserver.preflight import preflight
from rtserver.show import Song

REFUSED = "does not start: nothing is running yet"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cut off in the middle", '[audio]\ndevice = "sys', "not readable TOML"),
        ("an unknown key", "[audio]\nblock_sise = 64\n", "audio.block_sise: unknown key; did you mean 'block_size'"),
        ("a value of another type", '[audio]\nblock_size = "big"\n', "audio.block_size"),
        ("a value out of range", "[audio]\nblock_size = 4\n", "audio.block_size"),
        ("an output of nothing", '[outputs.left]\nsource = "vocals"\nchannels = [1]\n', "outputs.left.source"),
        ("not text at all", "\0\1\2\3", "not readable TOML"),
    ],
    ids=lambda value: value if " " in value and len(value) < 25 else "",
)
def test_a_wrong_configuration(row, tmp_path, name, text, says):
    row.fault = f"configuration: {name}"
    (tmp_path / "show.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "show.toml")
    assert says in str(refused.value)
    row.audio, row.learned = REFUSED, f"exit code 2, the field and why: “{says}”"


XML = (Path(zoo.__file__).parent.parent / "demo" / "score.musicxml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("cut off in the middle", "score.musicxml", XML[: len(XML) // 2]),
        ("empty", "score.musicxml", ""),
        ("of one note", "score.musicxml", None),
        ("missing", "", ""),
    ],
)
def test_a_wrong_score(row, tmp_path, name, file, text):
    row.fault = f"score: {name}"
    path = tmp_path / (file or "nowhere.musicxml")
    if file:
        path.write_text(one_note() if text is None else text, encoding="utf-8")
    with pytest.raises(ScoreError) as refused:
        load_score(str(path))
    assert path.name in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1, "one clear line"
    row.audio, row.learned = REFUSED, "exit code 1, one line that names the file"


def one_note() -> str:
    head, _, rest = XML.partition("<measure")
    attributes = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    note = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration><type>whole</type></note>"
    return f'{head}<measure number="1">{attributes}{note}</measure></part></score-partwise>' if rest else ""


@pytest.mark.parametrize("name", ["cut off in the middle", "missing", "of other shapes than its manifest says", "with dynamic axes"])
def test_a_wrong_model(row, tmp_path, name):
    """The checks that every model passes before it is used; each kind of damage has its own test in tests/generation/test_zoo.py."""
    row.fault = f"model: {name}"
    entry = zoo.manifest()["performer"]
    model, manifest = tmp_path / entry["file"], tmp_path / zoo.MANIFEST
    shutil.copy(zoo.FOLDER / entry["file"], model)
    shutil.copy(zoo.FOLDER / zoo.MANIFEST, manifest)
    if name.startswith("cut"):
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    elif name == "missing":
        model.unlink()
    else:
        shape = next(iter(entry["inputs"].values()))
        other = shape.replace("[1", "[N" if "dynamic" in name else "[7", 1)
        manifest.write_text(manifest.read_text(encoding="utf-8").replace(shape, other), encoding="utf-8")
    with pytest.raises(ModelError) as refused:
        zoo.load_model("performer", tmp_path)
    assert model.name in str(refused.value)
    row.audio, row.learned = REFUSED, "one line: what was expected, what was found"


def test_a_model_that_is_not_there_keeps_the_show_from_starting(row, tmp_path):
    row.fault = "model: not in the zoo"
    with pytest.raises(RtserverError, match="no model 'nobody'") as refused:
        preflight([Song("solo", parse({"generation": {"model": "nobody"}, "wire": {"enabled": False}}))], tmp_path)
    assert len(str(refused.value).splitlines()) == 1, "one clear line"
    row.audio, row.learned = REFUSED, "exit code 1, one line with the models that there are"


def test_the_disk_is_full(stage, row):
    row.fault = "recording: the disk is full (no file may grow any more)"
    recorder = stage.server.process("recorder").pid
    limits = resource.prlimit(recorder, resource.RLIMIT_FSIZE)
    try:
        with Trial(stage, 4.0, note_s=0.5) as trial:
            trial.strike(lambda: resource.prlimit(recorder, resource.RLIMIT_FSIZE, (1 << 16, limits[1])))
            assert stage.wait(lambda: trial.events("recording"), 20.0), "subscribers are told"
    finally:
        resource.prlimit(recorder, resource.RLIMIT_FSIZE, limits)
    row.take(trial)
    row.audio = "yes"
    row.lost = "the recording from there on; what was written before can be read"
    row.learned = "`recording` failed, and why"
    assert trial.events("recording")[0]["state"] == "failed"
    assert trial.went_on()
    assert trial.let_go()
    assert trial.told() == [], "the recorder itself lives on"
    files = list((stage.server.folder / "record").rglob("*.wav"))
    assert files
    assert stage.wait(lambda: all(file.stat().st_size > 1000 for file in files))
