"""The separator role and the engine's side of it, over the shared memory that lies between them; and the ring itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from separators import make

from rtserver.config import parse
from rtserver.errors import ConfigError
from rtserver.pipeline import build, fast_lanes, plan_of
from rtserver.plan import open_session
from rtserver.roles.separator import SeparatorRole
from rtserver.separation.elsewhere import Elsewhere
from rtserver.separation.model import N_BINS
from rtserver.separation.network import BAD, GOOD, MISSING, Heard
from rtserver.shared.maskring import N_HEARD, MaskRing
from rtserver.shared.memory import Block, Layout
from rtserver.shared.session import Session, Setup
from rtserver.wire.bulk import audio_taps

HOP = 128


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    return make(tmp_path_factory.mktemp("model"))


def settings(model: Path, worker_hops: int = 2, block_size: int = HOP) -> dict:
    return {
        "audio": {"block_size": block_size},
        "outputs": {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(("drums", "bass", "other"))},
        "separation": {"preset": "stage", "model": str(model), "where": "worker", "worker_hops": worker_hops},
        "generation": {"enabled": False},
    }


class Pair:
    """An engine's lane and the role, driven by the test."""

    def __init__(self, model: Path, folder: Path, worker_hops: int = 2) -> None:
        config = parse(settings(model, worker_hops))
        plan = plan_of(config, build(config))
        self.session: Session = open_session(Setup(config, str(folder), "", plan.tracks), plan)
        (self.lane,) = fast_lanes(self.session, live=True)
        self.separator = self.lane.graph.node("separator")
        self.begin()
        self.graph = build(config)["main"]  # the same, where nothing is ever late

    def begin(self) -> None:
        """A role begins, or begins again."""
        self.role = SeparatorRole(self.session)
        self.role.prepare()

    def work(self) -> None:
        for desk in self.role.desks:
            desk.work()

    def run(self, x: np.ndarray, works: range = range(1 << 30)) -> np.ndarray:
        """Hop after hop; the role works after those in `works`."""
        out = np.zeros((3, *x.shape), np.float32)
        for k in range(x.shape[1] // HOP):
            piece = slice(k * HOP, (k + 1) * HOP)
            made = np.zeros((3, 1, HOP), np.float32)
            self.lane.graph.process(np.ascontiguousarray(x[:, piece]), k * HOP, made)
            if k in works:
                self.work()
            out[:, :, piece] = made
        return out

    def expected(self, x: np.ndarray) -> np.ndarray:
        out = np.zeros((3, *x.shape), np.float32)
        for k in range(x.shape[1] // HOP):
            made = np.zeros((3, 1, HOP), np.float32)
            self.graph.process(np.ascontiguousarray(x[:, k * HOP : (k + 1) * HOP]), k * HOP, made)
            out[:, :, k * HOP : (k + 1) * HOP] = made
        return out


@pytest.fixture
def pair(model: Path, tmp_path: Path) -> Pair:
    return Pair(model, tmp_path)


def noise(n_hops: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (1, n_hops * HOP)).astype(np.float32)


def test_a_role_in_time_is_the_network_inline_bit_for_bit(pair: Pair) -> None:
    x = noise(60)
    np.testing.assert_array_equal(pair.run(x), pair.expected(x))
    assert pair.separator.n_missing == 0
    assert pair.session.counters("separator")["hops"] == 60


def test_a_role_that_is_behind_shows_that_it_lives(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtserver.roles.separator.WORK_S", -1.0)
    pair.run(noise(3), range(0))
    assert pair.role.turn() and pair.session.counters("separator")["hops"] == 0
    monkeypatch.undo()
    assert pair.role.turn() and pair.session.counters("separator")["hops"] == 3, "without waiting for a hop to come"


def test_each_stem_is_a_topic(pair: Pair) -> None:
    assert [tap.topic for tap in audio_taps(pair.session)] == ["audio.drums", "audio.bass", "audio.other"]


def test_a_role_that_stands_still_is_stood_in_for(pair: Pair) -> None:
    x = noise(150)
    found, expected = pair.run(x, range(40)), pair.expected(x)
    assert pair.separator.n_missing > 100
    np.testing.assert_array_equal(found[:, :, : 40 * HOP], expected[:, :, : 40 * HOP])
    np.testing.assert_allclose(found.sum(axis=0), expected.sum(axis=0), atol=2e-6)


def test_hops_that_came_late_are_heard_all_the_same(pair: Pair) -> None:
    """It works off what has piled up, so its states are those of a role that was in time."""
    x = noise(90)
    works = [k for k in range(90) if k < 30 or k >= 45]  # 15 hops pile up
    found, expected = pair.run(x, works), pair.expected(x)  # type: ignore[arg-type]
    assert 0 < pair.separator.n_missing < 15
    np.testing.assert_array_equal(found[:, :, 60 * HOP :], expected[:, :, 60 * HOP :])


def test_each_stretch_without_masks_is_told_with_its_place_and_length(pair: Pair) -> None:
    """On the engine's way to its events, with the spectrum's own frames: masks of hop k are used at hop k + 2."""
    lane, ring = pair.lane, pair.session.input_ring
    ring.samples[0, : 60 * HOP] = noise(60)[0]
    for k in range(60):
        ring.span[1] = (k + 1) * HOP
        assert lane.run_hop()
        if not 20 <= k < 30 and k != 40:
            pair.work()
    assert lane.unmasked == [(20 * HOP, 9, "late")]


def test_a_role_that_is_too_far_behind_skips_to_the_present(pair: Pair) -> None:
    pair.run(noise(N_HEARD + 20), range(0))
    pair.work()
    counters = pair.session.counters("separator")
    assert counters["skipped_hops"] == N_HEARD + 19
    assert counters["hops"] == 1


def test_a_role_that_comes_back_begins_at_the_present(pair: Pair) -> None:
    x = noise(40)
    pair.run(x)
    pair.run(x, range(0))
    pair.begin()
    pair.work()
    assert pair.session.counters("separator")["hops"] == 40, "what piled up while there was none is gone"
    missing = pair.separator.n_missing
    pair.run(x)
    assert pair.separator.n_missing <= missing + 2


def test_after_a_reset_old_masks_are_not_taken_for_new_ones(pair: Pair) -> None:
    x = noise(40)
    pair.run(x)
    pair.lane.graph.reset()
    pair.graph.reset()
    np.testing.assert_array_equal(pair.run(x), pair.expected(x))
    pair.lane.graph.reset()
    late = pair.run(x, range(0))
    pair.lane.graph.reset()
    assert np.abs(late - pair.run(x)).max() > 1e-3, "without the role the medians separate"


def test_a_role_that_skips_keeps_its_state(pair: Pair) -> None:
    ring, x = MaskRing(pair.session.block, pair.session.deck, 0), noise(N_HEARD + 30)

    def last_masks(n_heard: int) -> np.ndarray:
        pair.lane.graph.reset()
        pair.run(x, range(n_heard))
        pair.work()
        masks = np.zeros((2, N_BINS), np.float32)
        assert ring.collect(ring.count, masks) == GOOD
        return masks

    assert np.abs(last_masks(0) - last_masks(20)).max() > 1e-3


def test_a_state_that_is_rebuilt_comes_too_fast_for_the_role(pair: Pair) -> None:
    pair.session.input_ring.span[:] = (0, 300 * HOP)
    pair.lane.resume_at(200 * HOP, 0)
    pair.work()
    counters = pair.session.counters("separator")
    assert counters["skipped_hops"] > 0 and counters["hops"] + counters["skipped_hops"] == 200


def test_rebuilding_a_state_counts_no_late_masks(pair: Pair) -> None:
    pair.session.input_ring.span[:] = (0, 300 * HOP)
    pair.lane.resume_at(200 * HOP, 0)
    assert pair.separator.n_missing == 0


@pytest.mark.parametrize(("block_size", "worker_hops", "enough"), [(128, 1, True), (256, 1, False), (1024, 7, False), (1024, 8, True)])
def test_a_block_may_not_bring_more_hops_than_the_worker_may_be_late(block_size: int, worker_hops: int, enough: bool, model: Path) -> None:
    config = parse(settings(model, worker_hops, block_size))
    if enough:
        build(config)
        return
    with pytest.raises(ConfigError, match=rf"worker_hops: blocks of {block_size} bring up to {block_size // HOP} hops"):
        build(config)


def test_more_inputs_than_rings_are_refused() -> None:
    inputs = {f"i{k}": {"channels": [k + 1], "separation": {"model": "a", "where": "worker"}} for k in range(5)}
    outputs = {f"o{k}": {"source": "drums", "input": f"i{k}", "channels": [k + 1]} for k in range(5)}
    with pytest.raises(ConfigError, match=r'expected at most 4 with where = "worker", got 5'):
        parse({"inputs": inputs, "outputs": outputs})


@pytest.fixture(scope="module")
def ring() -> MaskRing:
    layout = Layout()
    MaskRing.declare(layout, 0)
    return MaskRing(Block.create(layout), 0, 1)


@given(steps=st.lists(st.sampled_from(["submit", "work", "bad"]), max_size=80))
def test_masks_are_those_of_the_hop_that_is_asked_for_or_missing(ring: MaskRing, steps: list[str]) -> None:
    """Each hop hears its number; the masks say what was heard."""
    heard, taken, masks, given = Heard(), Heard(), np.zeros((2, N_BINS), np.float32), dict[int, int]()
    waiting: list[int] = []
    for step in steps:
        if step == "submit":
            for x in (heard.features, heard.prior, heard.score):
                x[...] = ring.count + 1
            waiting.append(ring.submit(heard, (1, 0, 0, 4)))
        elif waiting:
            number = waiting.pop(0)
            told = ring.take(number, taken)
            if told is not None:
                assert told == (1, 0, 0, 4)
                assert {float(taken.features[0]), float(taken.prior[-1]), float(taken.score[-1])} == {float(number)}
                ring.give(number, np.full_like(masks, number), step == "work")
                given[number] = GOOD if step == "work" else BAD
            else:
                assert number <= ring.count - N_HEARD
        for number in range(max(1, ring.count - 8), ring.count + 1):
            state = ring.collect(number, masks)
            if number in given:
                assert state == given[number] and (masks == number).all()
            elif number in waiting:
                assert state == MISSING


def test_a_hop_that_was_never_handed_over_is_missing(ring: MaskRing) -> None:
    source = Elsewhere(ring, None)  # type: ignore[arg-type]
    source.reset(0)
    assert source.collect(0, np.zeros((2, N_BINS), np.float32)) == MISSING
