"""Networks that are told the score: in a show's settings, in files, in the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from separators import make

from rtserver import cli
from rtserver.audio import file
from rtserver.config import Separation, parse
from rtserver.demo import PERFORMANCE, RECORDING, SCORE
from rtserver.errors import ConfigError
from rtserver.following.score import load_score
from rtserver.render import Stepper, render
from rtserver.separation.graph import separation
from rtserver.separation.model import SeparationModel, prompted, read_model
from rtserver.separation.offline import separate
from rtserver.wire.parameters import table
from rtserver.zoo import manifest

pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
RATE, HOP = 48000, 128
DRY = {"dry": {"source": "dry", "channels": [1]}}
SECONDS = 5


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> SeparationModel:
    """A network that hears a score."""
    return read_model(str(make(tmp_path_factory.mktemp("listening"), "listening", heard=("features", "prior", "score"), gain=0.5)))


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's minuet, mono, its beginning."""
    path = tmp_path_factory.mktemp("take") / "take.wav"
    file.write(path, file.read(RECORDING)[0].mean(axis=0, keepdims=True)[:, : SECONDS * RATE], RATE)
    return path


def show(model: SeparationModel, inputs: tuple[str, ...] = ("main",), score: str = str(SCORE), **settings: Any) -> dict[str, Any]:
    """A show with an output for each stem of each input."""
    outputs: dict[str, Any] = {}
    for name in inputs:
        for stem in model.stems:
            outputs[f"{name}_{stem}"] = {"source": stem, "input": name, "channels": [len(outputs) + 1]}
    return {
        "audio": {"block_size": HOP},
        "inputs": {name: {"channels": [k + 1]} for k, name in enumerate(inputs)},
        "outputs": outputs,
        "separation": {"model": str(model.path), "preset": "stage"} | settings,
        "score": {"file": score},
        "generation": {"enabled": False},
    }


def stems_in(folder: Path) -> list[np.ndarray]:
    return [file.read(path)[0] for path in sorted(folder.glob("*.wav"))]


def test_a_network_that_hears_a_score_is_told_the_followed_inputs(listening: SeparationModel, tiny: SeparationModel) -> None:
    config = parse(show(listening, ("one", "two")) | {"following": {"input": "two"}})
    assert (prompted(config, "one"), prompted(config, "two")) == (False, True)
    assert prompted(parse(show(tiny)), "main") is None, "it has no ears for it"
    assert prompted(parse(show(listening, score="")), "main") is None, "there is none"


@pytest.mark.parametrize("wanted", [True, False])
def test_what_the_settings_say_holds_for_every_input(wanted: bool, listening: SeparationModel) -> None:
    raw = show(listening, ("one", "two"))
    raw["separation"]["score"] = wanted
    config = parse(raw)
    assert [prompted(config, name) for name in ("one", "two")] == [wanted, wanted]
    known = table(config)
    assert [known[f"inputs.{name}.score"].default for name in ("one", "two")] == [wanted, wanted]


def test_it_may_be_set_only_where_it_means_something(tiny: SeparationModel) -> None:
    assert "inputs.main.score" not in table(parse(show(tiny)))


@pytest.mark.parametrize("field", ["separation", "inputs.main.separation"])
def test_a_score_is_wanted_where_there_is_none(field: str, listening: SeparationModel) -> None:
    raw = show(listening, score="")
    told = raw["separation"] | {"score": True}
    if field == "separation":
        raw["separation"] = told
    else:
        raw["inputs"]["main"]["separation"] = told
    with pytest.raises(ConfigError, match=r"there is no score to tell") as error:
        parse(raw)
    assert error.value.field == f"{field}.score"


def test_a_show_with_a_set_list_leaves_it_to_its_songs(listening: SeparationModel) -> None:
    raw = show(listening, score="")
    raw["separation"]["score"] = True
    parse(raw | {"setlist": {"songs": ["a.toml"]}})


def test_a_network_without_ears_cannot_be_told(tiny: SeparationModel) -> None:
    with pytest.raises(ConfigError, match=r"expected a network that hears a score .*'tiny' hears features, prior") as error:
        separation(Separation(model=str(tiny.path), score=True), RATE)
    assert error.value.field == "separation.score"


def test_medians_cannot_be_told(listening: SeparationModel) -> None:
    raw = show(listening)
    raw["separation"] = {"score": True}
    raw["outputs"] = {"harmonic": {"source": "harmonic", "channels": [1]}}
    with pytest.raises(ConfigError, match=r"belongs to a network") as error:
        parse(raw)
    assert error.value.field == "separation.score"


def test_a_file_is_told_the_place_that_the_follower_hears(listening: SeparationModel, take: Path, tmp_path: Path) -> None:
    """What `separate` makes with a score is what a rendered session makes, bit for bit, and not what it makes without."""
    options = Separation("stage", model=str(listening.path), score=True)
    separate(take, tmp_path / "file", options, score=load_score(SCORE))
    separate(take, tmp_path / "deaf", Separation("stage", model=str(listening.path)))
    config = parse(show(listening))
    render(take, tmp_path / "show", config)
    told, deaf, shown = (stems_in(tmp_path / name) for name in ("file", "deaf", "show"))
    for a, b, c in zip(told, deaf, shown, strict=True):
        np.testing.assert_array_equal(a, c)
        assert np.abs(a - b).max() > 1e-3


def test_the_command_line_tells_a_network_the_score(
    listening: SeparationModel, take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "separate",
        str(take),
        "-o",
        str(tmp_path / "out"),
        "--preset",
        "stage",
        "--model",
        str(listening.path),
        "--score",
        str(SCORE),
    ]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / f"{stem}.wav") for stem in listening.stems]
    separate(take, tmp_path / "file", Separation("stage", model=str(listening.path), score=True), score=load_score(SCORE))
    for a, b in zip(stems_in(tmp_path / "out"), stems_in(tmp_path / "file"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_command_line_says_that_a_network_has_no_ears_for_it(
    tiny: SeparationModel, take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["separate", str(take), "-o", str(tmp_path), "--model", str(tiny.path), "--score", str(SCORE)]) == 2
    assert "score: expected a network that hears a score" in capsys.readouterr().err


def test_every_network_that_rtserver_brings_is_told() -> None:
    names = [name for name, entry in manifest().items() if entry["kind"] == "separation"]
    assert names
    for name in names:
        assert prompted(parse({"separation": {"model": name}, "score": {"file": str(SCORE)}, "outputs": DRY}), "main")


def test_with_a_score_but_not_told_it_is_the_network_alone(listening: SeparationModel, take: Path, tmp_path: Path) -> None:
    raw = show(listening)
    raw["separation"]["score"] = False
    render(take, tmp_path / "show", parse(raw))
    separate(take, tmp_path / "deaf", Separation("stage", model=str(listening.path)))
    for a, b in zip(stems_in(tmp_path / "show"), stems_in(tmp_path / "deaf"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_worker_is_told_the_same(listening: SeparationModel, take: Path, tmp_path: Path) -> None:
    render(take, tmp_path / "inline", parse(show(listening)))
    render(take, tmp_path / "worker", parse(show(listening, where="worker", worker_hops=3)))
    for a, b in zip(stems_in(tmp_path / "inline"), stems_in(tmp_path / "worker"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("followed", ["one", "two"])
@pytest.mark.parametrize("block_size", [128, 1024])
def test_inputs_that_hear_the_same_are_told_the_same(
    followed: str, block_size: int, listening: SeparationModel, take: Path, tmp_path: Path
) -> None:
    """Whichever of them is followed, and though all hops of a block of one are run before those of the other."""
    both = np.repeat(file.read(take)[0][:, : 3 * RATE], 2, axis=0)
    file.write(tmp_path / "both.wav", both, RATE)
    raw = show(listening, ("one", "two"))
    raw["separation"]["score"] = True
    raw |= {"following": {"input": followed}, "audio": {"block_size": block_size}}
    render(tmp_path / "both.wav", tmp_path / "out", parse(raw))
    for stem in listening.stems:
        one, two = (file.read(tmp_path / "out" / f"{name}_{stem}.wav")[0] for name in ("one", "two"))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_follower_tells_the_engine_where_it_wants_to_know(
    wanted: bool, listening: SeparationModel, tiny: SeparationModel, tmp_path: Path
) -> None:
    stepper = Stepper(parse(show(listening if wanted else tiny)), tmp_path)
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (HOP, 1)).astype(np.float32)
    for _ in range(100):
        stepper.exchange(sound, np.zeros((HOP, len(stepper.plan.outputs)), np.float32))
        stepper.work()
    assert bool(stepper.session.ring("follower", "engine").written[0]) == wanted


def test_what_is_told_lies_where_the_music_is(listening: SeparationModel, take: Path, tmp_path: Path) -> None:
    """In the demo's minuet, whose notes are known: the keys that are told sound, and nothing else does."""
    import mido

    stepper = Stepper(parse(show(listening)), tmp_path)
    (lane,) = stepper.lanes
    score = lane.graph.node("separator").score
    down, now, changes = set[int](), 0.0, list[tuple[float, frozenset[int]]]()
    for message in mido.MidiFile(str(PERFORMANCE)):
        now += message.time
        if message.type in ("note_on", "note_off"):
            (down.add if message.type == "note_on" and message.velocity else down.discard)(message.note)
            changes.append((now, frozenset(down)))
    signal, right, told = file.read(take)[0], 0, 0
    for start in range(0, signal.shape[1] - HOP, HOP):
        stepper.exchange(np.ascontiguousarray(signal[:, start : start + HOP].T), np.zeros((HOP, len(stepper.plan.outputs)), np.float32))
        stepper.work()
        keys = np.flatnonzero(score[:88] > 0.5) + 21
        if score[-1] == 1.0 and len(keys):
            at = (start + HOP) / RATE
            near = frozenset().union(*(held for when, held in changes if at - 0.1 <= when <= at + 0.1))
            near |= next((held for when, held in reversed(changes) if when <= at), frozenset())
            told += len(keys)
            right += sum(bool(near & {key, key + 1, key + 2}) for key in keys)  # at 48 kHz keys are told 1.47 lower
    assert told > 2000
    assert right / told > 0.9
