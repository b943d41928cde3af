"""A model is refused with its reason unless file, manifest and contract agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from separators import SIZES, make

from rtserver import zoo
from rtserver.errors import ModelError
from rtserver.separation import features, model
from rtserver.separation.model import HEARD, place_of, read_model
from rtserver.separation.network import Heard, SeparationNetwork, Slots

pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")


def heard_of(seed: int) -> Heard:
    rng = np.random.default_rng(seed)
    return Heard(*(rng.standard_normal(n).astype(np.float32) for n in SIZES.values()))


def test_the_contract_is_what_the_features_are() -> None:
    assert (model.N_FEATURES, model.N_BINS) == (features.N_FEATURES, features.N_BINS)
    assert (model.WINDOW_SIZE, model.NETWORK_HOP) == (features.WINDOW_SIZE, features.NETWORK_HOP)


def test_a_manifest_is_read_for_what_the_graph_needs(tiny: model.SeparationModel) -> None:
    assert tiny.stems == ("drums", "bass", "other")
    assert (tiny.hops, tiny.sample_rates, tiny.n_past, tiny.past_step, tiny.n_around) == ((128, 256), (44100, 48000), 5, 1, 5)
    assert (tiny.heard, tiny.states, tiny.percussive) == (("features", "prior"), {"h": (1, 8)}, 0)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"kind": "note_events"}, "expected 'separation' — is"),
        ({"stems": None}, "missing required field `stems`"),
        ({"stems": ["drums"]}, "expected 2 to 8 stems, got 1"),
        ({"stems": ["a", "b", "dry"]}, "no stem can be called 'dry'"),
        ({"stems": ["a", "b", "b"]}, "no stem can be called 'b'"),
        ({"stems": ["a", "b", "c d"]}, "no stem can be called 'c d'"),
        ({"stems": ["drums", "other"]}, r"output masks of 2 stems: expected float32\[1,1025\], got float32\[2,1025\]"),
        ({"window_size": 4096}, "expected window_size = 2048 and network_hop = 256, got 4096 and 256"),
        ({"hops": [100]}, "hops that divide 256"),
        ({"hops": []}, "hops that divide 256"),
        ({"sample_rates": []}, "sample_rates in Hz, at least one"),
        ({"sample_rates": ["fast"]}, r"Expected `int`, got `str` - at `\$.sample_rates"),
        ({"blend": 1.5}, r"expected blend in 0..1, got 1.5"),
        ({"hpss": {"n_past": 4, "n_around": 5}}, "odd n_past and n_around"),
        ({"hpss": {"n_past": 5, "n_around": 65}}, "at most 63"),
        ({"hpss": {"n_past": 5, "n_around": 5, "past_step": 0}}, "past_step >= 1"),
        ({"hpss": {"n_past": 5, "n_around": 5, "past_step": 100_000_000}}, "at most 2048 .*, got 5 times 100000000"),
        ({"hpss": {"n_past": 1_000_001, "n_around": 5}}, "at most 2048 .*, got 1000001 times 1"),
        ({"sha256": 3}, "sha256: expected a text in quotes, got 3"),
        ({"inputs": 3}, "inputs: expected {.*}, got 3"),
        ({"outputs": ["masks"]}, r"outputs: expected {.*}, got \['masks'\]"),
        ({"outputs": {"masks": 3}}, "outputs.masks: expected a text in quotes, got 3"),
        ({"golden": 3}, "golden: expected a text in quotes, got 3"),
        ({"golden_within": "x"}, "golden_within: expected a number, 0 or above, got 'x'"),
        ({"kind": None}, "is a model of kind None, expected 'separation'"),
    ],
)
def test_a_manifest_out_of_the_contract_is_refused(facts: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = make(tmp_path, facts=facts)
    with pytest.raises(ModelError, match=said):
        read_model(str(path))


MASKS = "float32[2,1025]"


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({"h": "float32[1,8]"}, {"masks": MASKS, "h_out": "float32[1,8]"}, "at least one input of features, prior, score, got h"),
        ({"prior": "float32[1,513]"}, {"masks": MASKS}, r"input prior: expected float32\[1,1025\], got float32\[1,513\]"),
        ({"prior": "float64[1,1025]"}, {"masks": MASKS}, r"expected float32\[1,1025\], got float64"),
        ({"prior": "float32[batch,1025]"}, {"masks": MASKS}, r"expected float32\[1,1025\], got float32\[batch"),
        ({"prior": "float32[1,1025]"}, {"mask": MASKS}, "an output 'masks', got mask"),
        ({"prior": "float32[1,1025]", "h": "float32[1,8]"}, {"masks": MASKS}, "expects an output 'h_out', got none"),
        ({"prior": "float32[1,1025]", "h": "float32[n,8]"}, {"masks": MASKS, "h_out": "float32[n,8]"}, "float32 of a fixed shape"),
        ({"prior": "float32[1,1025]", "h": "int64[1]"}, {"masks": MASKS, "h_out": "int64[1]"}, "float32 of a fixed shape"),
        ({"prior": "float32[1,1025]", "h": "float32[1,8]"}, {"masks": MASKS, "h_out": "float32[1,9]"}, "output h_out: expected"),
        ({"prior": "float32[1,1025]"}, {"masks": MASKS, "loss": "float32[1]"}, "outputs loss belong to no input"),
    ],
)
def test_ends_out_of_the_contract_are_refused(inputs: dict[str, str], outputs: dict[str, str], said: str, tmp_path: Path) -> None:
    path = make(tmp_path, facts={"inputs": inputs, "outputs": outputs})
    with pytest.raises(ModelError, match=said):
        read_model(str(path))


def test_a_manifest_that_promises_another_graph_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    path = make(tmp_path, facts={"inputs": {"prior": "float32[1,1025]", "h": "float32[1,8]"}})
    with pytest.raises(ModelError, match="its inputs are not those of the manifest"):
        SeparationNetwork(read_model(str(path)))


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="expected sha256"):
        read_model(str(path))


def test_a_file_without_an_entry_says_how_to_make_one(tmp_path: Path) -> None:
    make(tmp_path).rename(tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=re.escape(f"rtserver models describe {tmp_path / 'mine.onnx'}")):
        read_model(str(tmp_path / "mine.onnx"))


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"mine\.onnx: no such file"):
        read_model(str(tmp_path / "mine.onnx"))


@pytest.mark.parametrize("lines", ["mine = 3\n", 'file = "tiny.onnx"\n'])
def test_a_manifest_without_tables_is_refused(lines: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    (tmp_path / zoo.MANIFEST).write_text(lines)
    with pytest.raises(ModelError, match="expected a table for each model"):
        read_model(str(path))


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ModelError, match="is a model of kind 'note_events', expected 'separation'"):
        read_model("performer")


def test_a_name_is_looked_up_in_the_zoo_and_a_path_beside_the_file(tmp_path: Path) -> None:
    path = make(tmp_path, "mine")
    assert place_of("hp") == ("hp", zoo.FOLDER)
    assert place_of(str(path)) == ("mine", tmp_path)


@pytest.mark.parametrize("heard", [("prior",), ("features",), ("score",), tuple(HEARD)])
def test_each_input_alone_is_enough(heard: tuple[str, ...], tmp_path: Path) -> None:
    network = SeparationNetwork(read_model(str(make(tmp_path, heard=heard))))
    network.run(0, heard_of(1))
    first = network.masks.copy()
    network.reset()
    network.run(0, heard_of(2))
    assert np.abs(network.masks - first).max() > 0.01, "it hears what it is told"


def test_a_network_begins_as_if_it_had_never_been_warmed_up(tiny: model.SeparationModel) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tiny.path))
    h, network = np.zeros((1, 8), np.float32), SeparationNetwork(tiny)
    for k in range(3):
        heard = heard_of(k)
        masks, h = session.run(["masks", "h_out"], {"features": heard.features[None], "prior": heard.prior[None], "h": h})
        network.run(0, heard)
        np.testing.assert_allclose(network.masks, masks, atol=1e-6)


def test_phases_know_nothing_of_each_other(tiny: model.SeparationModel) -> None:
    both, alone = SeparationNetwork(tiny, 2), SeparationNetwork(tiny)
    for k in range(8):
        both.run(k % 2, heard_of(k))
        if k % 2:
            alone.run(0, heard_of(k))
            np.testing.assert_array_equal(both.masks, alone.masks)


def test_a_change_of_networks_is_a_fade_from_one_to_the_other(tiny: model.SeparationModel, other: model.SeparationModel) -> None:
    slots, a, b = Slots((tiny, other), 1, 4), SeparationNetwork(tiny), SeparationNetwork(other)
    out, shares = np.zeros_like(a.masks), []
    for k in range(8):
        if k == 2:
            slots.select(1)
        assert slots.run(k, heard_of(k), out)
        a.run(0, heard_of(k))
        if k >= 2:
            b.run(0, heard_of(k))
            step = b.masks - a.masks
            shares.append(float(((out - a.masks) * step).sum() / (step * step).sum()))
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0], atol=1e-5)


def test_a_change_that_is_taken_back_fades_back_from_where_it_is(tiny: model.SeparationModel, other: model.SeparationModel) -> None:
    slots, a = Slots((tiny, other), 1, 4), SeparationNetwork(tiny)
    out, distances = np.zeros_like(a.masks), []
    for k in range(6):
        slots.select(int(k in {1, 2}))
        slots.run(k, heard_of(k), out)
        a.run(0, heard_of(k))
        distances.append(float(np.abs(out - a.masks).max()))
    assert distances[0] == 0.0 and distances[1] > 0.0
    assert distances[4] == distances[5] == 0.0


def test_masks_that_are_not_finite_are_told_and_forgotten(tmp_path: Path) -> None:
    poisoned = read_model(str(make(tmp_path, poison=True)))
    slots, fresh = Slots((poisoned,), 1, 4), Slots((poisoned,), 1, 4)
    out, expected = np.zeros((2, 1025), np.float32), np.zeros((2, 1025), np.float32)
    quiet, loud = heard_of(1), heard_of(2)
    quiet.features[0], loud.features[0] = -1.0, 1.0
    assert slots.run(0, quiet, out)
    assert not slots.run(1, loud, out)
    assert slots.run(2, quiet, out) and fresh.run(0, quiet, expected)
    np.testing.assert_array_equal(out, expected)


def test_weights_in_a_file_of_their_own_are_refused(tmp_path: Path) -> None:
    import onnx

    path = make(tmp_path / "net")
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="weights.bin")
    text = (path.parent / zoo.MANIFEST).read_text()
    (path.parent / zoo.MANIFEST).write_text(re.sub(r'sha256 = "\w+"', f'sha256 = "{zoo.sha256_of(path)}"', text))
    with pytest.raises(ModelError, match="keeps weights in files beside it, which no hash of the manifest covers"):
        zoo.load_model("tiny", path.parent)
