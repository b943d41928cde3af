"""Facts about the lockstep of callback, engine and workers: measured latency, equality, files."""

import json

import numpy as np
import pytest

from rtserver.audio import file as audio_file
from rtserver.audio import table as t
from rtserver.config import Config, parse
from rtserver.demo import RECORDING, SCORE
from rtserver.dsp.hpss import PRESETS
from rtserver.errors import AudioFileError, ConfigError, RtserverError
from rtserver.events import Late, Note, Position
from rtserver.pipeline import build
from rtserver.render import Stepper, fit, render

QUIET = {"generation": {"enabled": False}}


def settings(preset="default", block_size=128, spare=1, **more):
    audio = {"block_size": block_size, "spare_blocks": spare}
    return parse({**QUIET, "separation": {"preset": preset}, "audio": audio, **more})


def play(stepper, x):
    """Blocks of mono `x` through a stepper; returns (frames, device channels)."""
    size = stepper.plan.block_size
    out = np.zeros((len(x) // size * size, stepper.plan.device_out), np.float32)
    for start in range(0, len(out), size):
        stepper.exchange(np.ascontiguousarray(x[start : start + size, None]), out[start : start + size])
        stepper.work()
    return out


@pytest.mark.parametrize("block_size", [64, 128, 256, 480, 1024])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_measured_latency_is_stated_latency(tmp_path, preset, block_size):
    """Harmonic and percussive sum to the input, so an impulse comes out whole, at the stated frame."""
    stepper = Stepper(settings(preset, block_size), tmp_path)
    x = np.zeros(16384, np.float32)
    x[1234] = 1.0
    both = play(stepper, x).sum(axis=1)
    for output in stepper.plan.outputs:
        assert int(np.argmax(np.abs(both))) - 1234 == output.latency
    assert stepper.session.block["audio.table"][t.MISSES] == 0


def test_latency_cannot_be_less(tmp_path):
    """With one frame less of delay the mixer would miss: the stated latency holds no slack that is not named."""
    stepper = Stepper(settings("default", 480, spare=0), tmp_path)
    table = stepper.session.block["audio.table"]
    for o in range(2):
        table[t.OUTPUTS + o * t.OUTPUT_WIDTH + t.DELAY] -= 1
    play(stepper, np.ones(48000, np.float32))
    assert table[t.MISSES] > 0


def test_the_mixed_outputs_are_the_graphs(tmp_path):
    config = settings("stage", 100)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 20000).astype(np.float32)
    stepper = Stepper(config, tmp_path)
    out = play(stepper, x)
    expected = build(config)["main"].freewheel(x[None])
    for output in stepper.plan.outputs:
        got = out[output.latency :, output.channels[0]]
        np.testing.assert_array_equal(got, expected[output.name][0, : len(got)])


def test_a_resumed_lane_goes_on_as_if_it_had_never_died(tmp_path):
    config = settings("default", 128)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 96000).astype(np.float32)
    whole = play(Stepper(config, tmp_path), x)
    stepper = Stepper(config, tmp_path)
    first = play(stepper, x[: 128 * 500])
    (lane,) = stepper.lanes
    lane.graph.reset()  # the engine dies, and all it knew
    lane.position = 0
    frame, _ = lane.resume()
    rest = play(stepper, x[128 * 500 :])
    again = np.concatenate([first, rest])
    served = frame + stepper.plan.outputs[0].latency + t.FADE
    np.testing.assert_array_equal(again[served:], whole[served : len(again)])


@pytest.fixture
def stereo(tmp_path):
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 30001)).astype(np.float32)
    audio_file.write(tmp_path / "take.wav", x, 44100)
    return tmp_path / "take.wav", x


def test_render_writes_aligned_files_of_the_same_length(stereo, tmp_path):
    path, x = stereo
    done = render(path, tmp_path / "out", parse(QUIET))
    names = sorted(p.name for p in done.files)
    assert names == ["events.jsonl", "harmonic.wav", "percussive.wav"]
    harmonic, rate = audio_file.read(tmp_path / "out" / "harmonic.wav")
    percussive, _ = audio_file.read(tmp_path / "out" / "percussive.wav")
    assert rate == 44100
    np.testing.assert_allclose(harmonic + percussive, x, atol=2e-5)


def test_render_plays_along_and_says_so(tmp_path):
    x = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * 48000) / 48000).astype(np.float32)[None]
    audio_file.write(tmp_path / "take.wav", x, 48000)
    render(tmp_path / "take.wav", tmp_path / "a", Config())
    render(tmp_path / "take.wav", tmp_path / "b", Config())
    lines = (tmp_path / "a" / "events.jsonl").read_text()
    assert lines == (tmp_path / "b" / "events.jsonl").read_text()
    notes = [e for e in map(json.loads, lines.splitlines()) if e["kind"] == "note"]
    assert notes
    assert all(e["duration"] > 0 and e["frame"] >= e["available_frame"] for e in notes)


def test_a_configuration_that_wants_more_channels_than_the_file_has_is_refused():
    config = parse({"inputs": {"main": {"channels": [3]}}})
    with pytest.raises(ConfigError, match="uses channel 3, the file has 2"):
        fit(config, 2, 48000)


def test_inputs_are_separated_each_on_its_own(tmp_path):
    inputs = {"guitar": {"channels": [1]}, "voice": {"channels": [2, 3], "separation": {"preset": "stage"}}}
    outputs = {
        "guitar": {"source": "harmonic", "input": "guitar", "channels": [1]},
        "voice": {"source": "percussive", "input": "voice", "channels": [2, 3]},
        "rest": {"source": "residual", "input": "voice", "channels": [4, 5]},
    }
    config = parse({**QUIET, "inputs": inputs, "outputs": outputs})
    stepper = Stepper(config, tmp_path)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (20480, 3)).astype(np.float32)
    out = np.zeros((len(x), 5), np.float32)
    for start in range(0, len(x), 128):
        stepper.exchange(x[start : start + 128], out[start : start + 128])
        stepper.work()
    graphs = build(config)
    expected = {
        "guitar": graphs["guitar"].freewheel(np.ascontiguousarray(x[:, :1].T))["harmonic"],
        "voice": graphs["voice"].freewheel(np.ascontiguousarray(x[:, 1:].T))["percussive"],
    }
    for output in stepper.plan.outputs[:2]:
        got = out[output.latency :, list(output.channels)].T
        np.testing.assert_array_equal(got, expected[output.name][:, : got.shape[1]])
    assert not out[:, 3:].any(), "without margins nothing is left over"


def test_a_setting_holds_from_the_first_hop_at_its_frame(tmp_path):
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 40000).astype(np.float32)
    plain = play(Stepper(settings("stage"), tmp_path), x)
    stepper = Stepper(settings("stage"), tmp_path)
    (lane,) = stepper.lanes
    lane.schedule(20001, "mask", "hard")
    changed = play(stepper, x)
    assert lane.applied == [(20096, "mask", "hard")]
    first = int(np.argmax((plain != changed).any(axis=1)))
    assert abs(first - (20096 + stepper.plan.outputs[0].delay)) <= 128, "the first hop with the new mask"


def test_follower_and_performer_know_of_each_other_alike_however_blocks_are_cut(tmp_path):
    """The performer goes by positions, and the follower by the performer's notes, two hops later each, also within one block."""
    x = audio_file.read(RECORDING)[0].mean(axis=0)[: 10 * 48000]
    told = []
    for block_size in (128, 2048):
        folder = tmp_path / str(block_size)
        folder.mkdir()
        more = {"score": {"file": str(SCORE)}, "generation": {"scale": "G major", "grid": 6, "seed": 3}}
        stepper = Stepper(settings("default", block_size, **more), folder)
        play(stepper, x)
        events = list(stepper.events())
        assert not [event for event in events if isinstance(event, Late)]
        assert stepper.session.counters("follower")["own_notes"] > 10
        told.append([event for event in events if isinstance(event, Position | Note) and event.available_frame < 9 * 48000])
    assert sorted(told[0], key=repr) == sorted(told[1], key=repr)


def test_the_input_is_never_written_over(tmp_path):
    own = tmp_path / "harmonic.wav"
    audio_file.write(own, np.zeros((1, 4800), np.float32), 48000)
    before = own.read_bytes()
    with pytest.raises(AudioFileError, match=r"harmonic\.wav: would be written over"):
        render(own, tmp_path, settings())
    assert own.read_bytes() == before
    assert not (tmp_path / "events.jsonl").exists()


def test_events_that_the_disk_did_not_take_are_an_error_and_no_file_is_replaced(tmp_path):
    audio_file.write(tmp_path / "in.wav", np.zeros((1, 96000), np.float32), 48000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "harmonic.wav").write_bytes(b"of an earlier run")
    (tmp_path / "out" / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(RtserverError, match=r"events\.jsonl: cannot be written .* is the disk full\?"):
        render(tmp_path / "in.wav", tmp_path / "out", Config())
    assert (tmp_path / "out" / "harmonic.wav").read_bytes() == b"of an earlier run"


def test_a_render_that_ends_early_leaves_the_files_of_an_earlier_one(tmp_path):
    audio_file.write(tmp_path / "in.wav", np.zeros((1, 96000), np.float32), 48000)
    render(tmp_path / "in.wav", tmp_path / "out", settings())
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}

    def interrupt(n_frames):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "in.wav", tmp_path / "out", settings(), interrupt)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
