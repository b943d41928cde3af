"""Embedding models, built here and run by ONNX Runtime: a projection of the last hops, and an LSTM that carries its state."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtserver import zoo
from rtserver.dsp.cqt import N_CQT, Cqt
from rtserver.dsp.layout import LEVEL, N_FEATURES
from rtserver.errors import ModelError, SpecError
from rtserver.following import follower as followers
from rtserver.following.embedding import FrameEmbedding
from rtserver.following.oltw import OnlineTimeWarping
from rtserver.following.reference import features_of
from rtserver.following.warping import Warping
from rtserver.node import Spec

from .music import SPEC, score_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
F32 = np.float32


def tensor(name: str, *shape: int) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def write(
    folder: Path, nodes: list[Any], ends: tuple[list[Any], list[Any]], constants: dict[str, np.ndarray], facts: dict[str, Any]
) -> Path:
    """A zoo of one model, ``made``, with its manifest; what `facts` say replaces or adds to the entry, None takes away."""
    folder.mkdir(exist_ok=True)
    initialisers = [onnx.numpy_helper.from_array(x, name) for name, x in constants.items()]
    graph = onnx.helper.make_graph(nodes, "made", *ends, initialisers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "made.onnx"
    onnx.save(model, str(path))
    session = zoo.open_session(path)
    entry = {
        "file": path.name,
        "sha256": zoo.sha256_of(path),
        "kind": "frame_embedding",
        "inputs": zoo.signature(session.get_inputs()),
        "outputs": zoo.signature(session.get_outputs()),
    } | facts
    lines = []
    for key, value in entry.items():
        if isinstance(value, dict):
            lines.append(f"{key} = {{ {', '.join(f'{k} = {v!r}' for k, v in value.items())} }}".replace("'", '"'))
        elif value is not None:
            lines.append(f"{key} = {value!r}".replace("'", '"'))
    (folder / zoo.MANIFEST).write_text("[made]\n" + "\n".join(lines) + "\n")
    return folder


def weights(n: int, size: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, size)) / np.sqrt(n)).astype(F32)


def projection(
    folder: Path, n: int = N_FEATURES, size: int = 48, activation: str = "Identity", facts: dict[str, Any] | None = None
) -> Path:
    """embedding = activation(frames, one behind the other, times a matrix), which does not look at the level."""
    n_hops = 3
    w = weights(n_hops * n, size)
    if n == N_FEATURES:
        w[LEVEL::N_FEATURES] = 0.0
    nodes = [
        onnx.helper.make_node("Reshape", ["frames", "flat_shape"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["product"]),
        onnx.helper.make_node(activation, ["product"], ["embedding"]),
    ]
    constants = {"flat_shape": np.array([1, n_hops * n]), "w": w}
    said = {"feature": "features", "n_hops": n_hops, "embedding_size": size, "distance": "euclidean"} | (facts or {})
    return write(folder, nodes, ([tensor("frames", 1, n_hops, n)], [tensor("embedding", 1, size)]), constants, said)


def lstm(folder: Path, size: int = 40) -> Path:
    """One LSTM cell with weights by chance, its state explicit: the same past gives the same vector, and like pasts alike ones."""
    n = N_FEATURES
    w = 3.0 * weights(n, 4 * size, 1).T[None]
    w[:, :, LEVEL] = 0.0
    constants = {"w": np.ascontiguousarray(w), "r": np.ascontiguousarray(weights(size, 4 * size, 2).T[None]), "s": np.array([1, size])}
    nodes = [
        onnx.helper.make_node("LSTM", ["frames", "w", "r", "", "", "h", "c"], ["", "h_out", "c_out"], hidden_size=size),
        onnx.helper.make_node("Reshape", ["h_out", "s"], ["embedding"]),
    ]
    state = [tensor(name, 1, 1, size) for name in ("h", "c", "h_out", "c_out")]
    said = {"feature": "features", "n_hops": 1, "embedding_size": size, "distance": "cosine"}
    return write(folder, nodes, ([tensor("frames", 1, 1, n), *state[:2]], [tensor("embedding", 1, size), *state[2:]]), constants, said)


MODELS: dict[str, Callable[..., Path]] = {"projection": projection, "lstm": lstm}
both = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def melody(n: int = 40, seed: int = 0) -> list[tuple[float, float, int]]:
    """Quarters of two notes each, by chance."""
    rng = np.random.default_rng(seed)
    return [(float(i), 1.0, int(p)) for i in range(n) for p in rng.choice(np.arange(48, 84), 2, replace=False)]


def sung(written: list[tuple[float, float, int]], second_of: Callable[[float], float]) -> np.ndarray:
    """Features of a performance that plays quarter q at second ``second_of(q)``."""
    notes = score_of(written).notes
    onset = np.array([second_of(q) for q in notes.onset_quarter])
    release = np.array([second_of(q) for q in notes.onset_quarter + notes.duration_quarter])
    return features_of(onset, release, notes, int(release.max() / 0.01) + 20)


# What it computes


def test_a_projection_is_what_numpy_makes_of_the_last_hops(tmp_path: Path) -> None:
    embedding = FrameEmbedding("made", projection(tmp_path))
    x = sung(melody(4), lambda q: 0.5 * q)
    w = weights(3 * N_FEATURES, 48)
    w[LEVEL::N_FEATURES] = 0.0
    for t, row in enumerate(x):
        embedding.process(row)
        if t >= 2:
            np.testing.assert_allclose(embedding.embedding, x[t - 2 : t + 1].reshape(-1) @ w, atol=1e-4)


def test_an_lstm_carries_its_state(tmp_path: Path) -> None:
    """Written out in numpy, gate by gate (ONNX has them in the order i, o, f, c)."""
    size = 40
    embedding = FrameEmbedding("made", lstm(tmp_path, size))
    w = 3.0 * weights(N_FEATURES, 4 * size, 1).T
    w[:, LEVEL] = 0.0
    r, h, c = weights(size, 4 * size, 2).T, np.zeros(size), np.zeros(size)

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-z))

    for row in sung(melody(3), lambda q: 0.5 * q):
        i, o, f, g = (w @ row + r @ h).reshape(4, size)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        embedding.process(row)
        np.testing.assert_allclose(embedding.embedding, h / max(np.linalg.norm(h), 1e-12), atol=1e-4)


@both
def test_a_whole_sequence_at_once_is_the_same_hop_by_hop(tmp_path: Path, make: Callable[..., Path]) -> None:
    embedding = FrameEmbedding("made", make(tmp_path))
    x = sung(melody(6), lambda q: 0.5 * q)
    embedding.process(x[3])  # what was heard before does not count
    whole = embedding.embed(x)
    for row, expected in zip(x, whole, strict=True):
        embedding.process(row)
        np.testing.assert_array_equal(embedding.embedding, expected)


@both
def test_reset_equals_fresh(tmp_path: Path, make: Callable[..., Path]) -> None:
    used, fresh = (FrameEmbedding("made", make(tmp_path)) for _ in range(2))
    x = sung(melody(6), lambda q: 0.5 * q)
    for row in x[::7]:
        used.process(row)
    used.reset()
    for row in x[:50]:
        used.process(row)
        fresh.process(row)
        np.testing.assert_array_equal(used.embedding, fresh.embedding)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_distances_are_those_of_the_manifest(tmp_path: Path, distance: str) -> None:
    embedding = FrameEmbedding("made", projection(tmp_path, facts={"distance": distance}))
    x = sung(melody(6), lambda q: 0.5 * q)[20:]
    reference = embedding.embed(x)
    for row in x[:120]:
        embedding.process(row)
    a, b = embedding.embedding.astype(float), reference[40:90].astype(float)
    expected = 1.0 - b @ a if distance == "cosine" else np.linalg.norm(b - a, axis=1)
    out = np.zeros(50, F32)
    embedding.distances(reference, 40, out)
    np.testing.assert_allclose(out, expected, atol=1e-3)
    if distance == "cosine":
        np.testing.assert_allclose(np.linalg.norm(reference, axis=1), 1.0, atol=1e-5)


def test_beyond_the_reference_distances_are_infinite(tmp_path: Path) -> None:
    embedding = FrameEmbedding("made", projection(tmp_path))
    reference = embedding.embed(sung(melody(2), lambda q: 0.5 * q))
    out = np.zeros(20, F32)
    embedding.distances(reference, -5, out)
    assert np.isinf(out).tolist() == [True] * 5 + [False] * 15
    embedding.distances(reference, len(reference) - 5, out)
    assert np.isinf(out).tolist() == [False] * 5 + [True] * 15


@both
def test_a_hop_keeps_nothing_and_borrows_little(tmp_path: Path, make: Callable[..., Path]) -> None:
    embedding = FrameEmbedding("made", make(tmp_path))
    x = sung(melody(4), lambda q: 0.5 * q)
    reference, out = embedding.embed(x), np.zeros(150, F32)
    rows = list(x[:100])
    for row in rows[:20]:
        embedding.process(row)
        embedding.distances(reference, 0, out)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for row in rows:
            embedding.process(row)
            embedding.distances(reference, 0, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 512
    assert peak - before < 2048


# Warping with it


@both
@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_time_warping_aligns_by_embeddings_alone(tmp_path: Path, make: Callable[..., Path], speed: float) -> None:
    """`OnlineTimeWarping` takes embeddings where it takes features: another tempo is followed to a third of a note, which lasts 50 hops."""
    embedding = FrameEmbedding("made", make(tmp_path))
    written = melody()
    path = OnlineTimeWarping(window=200, distance=embedding.local_distance)
    path.prepare(embedding.embed(sung(written, lambda q: 0.5 * q)))
    heard = sung(written, lambda q: 0.5 * q / speed)
    errors = []
    for t, row in enumerate(heard[: int(len(heard) * 0.95)]):
        embedding.process(row)
        errors.append(path.process(embedding.embedding) - t * speed)
    assert np.percentile(np.abs(errors), 95) <= 16


def test_another_melody_does_not_align(tmp_path: Path) -> None:
    """The bound above is one that a wrong reference does not keep."""
    embedding = FrameEmbedding("made", projection(tmp_path))
    path = OnlineTimeWarping(window=200, distance=embedding.local_distance)
    path.prepare(embedding.embed(sung(melody(seed=1), lambda q: 0.5 * q)))
    errors = []
    for t, row in enumerate(sung(melody(seed=2), lambda q: 0.5 * q / 0.8)):
        embedding.process(row)
        errors.append(path.process(embedding.embedding) - 0.8 * t)
    assert np.percentile(np.abs(errors), 95) > 50


@both
def test_a_follower_follows_by_an_embedding(tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(followers.METHODS, "embedded", lambda: Warping(embedding=FrameEmbedding("made", make(tmp_path))))
    written = melody()
    follower = followers.Follower(score_of(written), "embedded")
    follower.prepare(SPEC)
    errors, events = [], []
    for t, row in enumerate(sung(written, lambda q: 0.6 * q)):
        follower.process(row, (t + 1) * SPEC.hop_size, events.append)
        if events and 2.0 < t * 0.01 < 0.6 * 38:
            errors.append(events[-1].quarter - t * 0.01 / 0.6)
    assert np.percentile(np.abs(errors), 90) < 0.15  # quarters, of 0.6 s
    assert events[-1].state == "LOCKED"


def test_a_score_has_no_other_features_than_its_own(tmp_path: Path) -> None:
    embedding = FrameEmbedding("made", projection(tmp_path, n=N_CQT, facts={"feature": "cqt"}))
    with pytest.raises(SpecError, match="wants 'cqt'"):
        Warping(embedding=embedding)


def test_it_aligns_recordings_by_their_constant_q_transform(tmp_path: Path) -> None:
    """From sound to places: two recordings of the same melody at different tempos."""
    embedding = FrameEmbedding("made", projection(tmp_path, n=N_CQT, facts={"feature": "cqt", "distance": "cosine"}))
    rng = np.random.default_rng(3)
    pitches = rng.choice(np.arange(60, 90), 12)

    def recording(note_s: float) -> np.ndarray:
        node = embedding.node(22050)
        assert isinstance(node, Cqt)
        spec = Spec.signal(22050, 1, node.hop_size)
        out, rows = node.prepare(spec).empty(), []
        n = np.arange(int(note_s * 22050))
        notes = [0.2 * np.exp(-n / 22050 / 0.5) * np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * n / 22050) for p in pitches]
        x = np.concatenate(notes).astype(F32)
        for start in range(0, len(x) - node.hop_size + 1, node.hop_size):
            node.process(x[None, start : start + node.hop_size].copy(), out)
            rows.append(out.copy())
        return np.array(rows)

    path = OnlineTimeWarping(window=200, distance=embedding.local_distance)
    path.prepare(embedding.embed(recording(0.4)))
    errors = []
    for t, row in enumerate(recording(0.5)):
        embedding.process(row)
        errors.append(path.process(embedding.embedding) - 0.8 * t)
    assert np.percentile(np.abs(errors), 90) <= 8


# What is refused


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"kind": "onset_odds"}, "of kind 'onset_odds': expected 'frame_embedding'"),
        ({"feature": None}, "feature must be one of"),
        ({"feature": "cqtt"}, "did you mean 'cqt'"),
        ({"feature": "cqt"}, "168 values of 'cqt'"),
        ({"feature": "mel"}, "8 to 160 values of 'mel'"),
        ({"n_hops": 4}, r"expected frames float32\[1,4,N\]"),
        ({"n_hops": "three"}, "n_hops must be a whole number"),
        ({"embedding_size": 32}, "embedding.*float32"),
        ({"embedding_size": 0}, "embedding_size must be"),
        ({"distance": "manhattan"}, "distance must be one of euclidean, cosine"),
        ({"inputs": {"frames": "float32[1,3,208]", "h": "float32[1,8]"}}, "inputs are not those of the manifest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, facts: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        FrameEmbedding("made", projection(tmp_path, facts=facts))


def identity(folder: Path, source: list[Any], target: list[Any]) -> Path:
    nodes = [onnx.helper.make_node("Identity", [a.name], [b.name]) for a, b in zip(source, target, strict=True)]
    return write(folder, nodes, (source, target), {}, {"feature": "features", "n_hops": 1, "embedding_size": 8, "distance": "cosine"})


def test_another_name_of_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no input 'frames'"):
        FrameEmbedding("made", identity(tmp_path, [tensor("spectra", 1, 8)], [tensor("embedding", 1, 8)]))


def test_state_that_does_not_come_back_is_refused(tmp_path: Path) -> None:
    frames, h, kept = tensor("frames", 1, 1, N_FEATURES), tensor("h", 1, 8), tensor("kept", 1, 1, N_FEATURES)
    with pytest.raises(ModelError, match="h_out"):
        FrameEmbedding("made", identity(tmp_path, [frames, h], [kept, tensor("embedding", 1, 8)]))


def test_dynamic_shapes_are_refused(tmp_path: Path) -> None:
    frames, h = tensor("frames", 1, 1, N_FEATURES), onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["batch", 8])
    with pytest.raises(ModelError, match="fixed shape"):
        FrameEmbedding("made", identity(tmp_path, [frames, h], [tensor("kept", 1, 1, N_FEATURES), tensor("embedding", 1, 8)]))


@pytest.mark.parametrize("activation", ["Log", "Reciprocal", "Sqrt"])
def test_a_model_that_gives_what_is_not_finite_is_refused(tmp_path: Path, activation: str) -> None:
    with pytest.raises(ModelError, match="not finite at hop"):
        FrameEmbedding("made", projection(tmp_path, activation=activation))


def test_one_altered_byte_is_refused(tmp_path: Path) -> None:
    folder = projection(tmp_path)
    data = bytearray((folder / "made.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "made.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="expected sha256"):
        FrameEmbedding("made", folder)


@pytest.mark.parametrize("shape", [(0, N_FEATURES), (10, 168), (N_FEATURES,)])
def test_features_of_another_size_are_not_embedded(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="embed expects 'features'"):
        FrameEmbedding("made", projection(tmp_path)).embed(np.zeros(shape, F32))


# What goes wrong while it runs


@both
def test_input_that_is_not_finite_counts_as_zero(tmp_path: Path, make: Callable[..., Path]) -> None:
    embedding = FrameEmbedding("made", make(tmp_path))
    x = sung(melody(4), lambda q: 0.5 * q)[:60]
    x[30, 5:9] = 0.0
    clean = embedding.embed(x)
    x[30, 5:9] = (np.nan, np.inf, -np.inf, np.nan)
    np.testing.assert_array_equal(embedding.embed(x), clean)


def test_an_embedding_that_overflows_is_counted_and_the_last_one_stays(tmp_path: Path) -> None:
    embedding = FrameEmbedding("made", projection(tmp_path, activation="Exp"))
    x = sung(melody(4), lambda q: 0.5 * q)
    for row in x[:50]:
        embedding.process(row)
    last = embedding.embedding.copy()
    embedding.process(1e6 * x[50])
    np.testing.assert_array_equal(embedding.embedding, last)
    assert embedding.n_nonfinite == 1
    for row in x[50:60]:
        embedding.process(row)
    assert not np.array_equal(embedding.embedding, last)
