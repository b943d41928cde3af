"""Learned frame embeddings: a network that turns the last hops of a feature into a vector in which the same music lies near, hop by hop.

The network is an ONNX model of the zoo, of kind ``frame_embedding``. Its manifest entry says which feature it takes (`feature`), how many
hops of it (`n_hops`), how long its vector is (`embedding_size`) and how two of them are compared (`distance`)::

    kind = "frame_embedding"
    feature = "cqt"
    n_hops = 15
    embedding_size = 64
    distance = "cosine"
    inputs = { frames = "float32[1,15,168]", h = "float32[1,1,64]" }
    outputs = { embedding = "float32[1,64]", h_out = "float32[1,1,64]" }

`frames` holds the hops, oldest first; before the first there was silence. Every other input is state, 0 at the beginning; the output of
its name with ``_out`` is what it is in the next hop. A time-warping method compares embeddings where it would compare features:
`OnlineTimeWarping` takes them as they are.

R. Agrawal and S. Dixon, "Learning frame similarity using Siamese networks for audio-to-score alignment", EUSIPCO 2020, is such a network.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver import zoo
from rtserver.dsp.chroma import Chroma
from rtserver.dsp.cqt import N_CQT, Cqt
from rtserver.dsp.features import Features
from rtserver.dsp.layout import N_CHROMA, N_FEATURES
from rtserver.dsp.mel import MAX_MELS, MIN_MELS, Mel
from rtserver.errors import ModelError
from rtserver.following.oltw import EUCLIDEAN, HALF_SQUARE, local_distance
from rtserver.kernels import jit
from rtserver.node import Node, Spec

F32 = npt.NDArray[np.float32]

KIND = "frame_embedding"
WARM_UP_RUNS = 20  # ONNX Runtime's first runs plan memory and are up to a hundred times slower
_WARM_UP_RATE = 48000  # any would do
LOCAL_DISTANCES = {"euclidean": EUCLIDEAN, "cosine": HALF_SQUARE}  # of unit vectors half the square is 1 - cosine


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature that embeddings are made of: how many values it may have, and what makes it of (sample_rate, tuning_hz, n_values)."""

    sizes: range
    make: Callable[[int, float, int], Node]


FEATURES = {
    "features": Feature(range(N_FEATURES, N_FEATURES + 1), lambda rate, tuning_hz, _: Features(rate, tuning_hz)),
    "chroma": Feature(range(N_CHROMA, N_CHROMA + 1), lambda rate, tuning_hz, _: Chroma(rate, tuning_hz)),
    "cqt": Feature(range(N_CQT, N_CQT + 1), lambda rate, tuning_hz, _: Cqt(rate, tuning_hz)),
    "mel": Feature(range(MIN_MELS, MAX_MELS + 1), lambda rate, _, n: Mel(rate, n)),
}


@jit("int64(float32[:,::1], float32[::1])")
def push(frames: F32, x: F32) -> int:
    """Move `frames` on by one and put `x` at the end; returns how many of its values were not finite, and taken as 0."""
    n_hops, n = frames.shape
    for i in range(n_hops - 1):
        for k in range(n):
            frames[i, k] = frames[i + 1, k]
    n_nonfinite = 0
    for k in range(n):
        finite = abs(x[k]) <= np.float32(3.4028235e38)
        n_nonfinite += not finite
        frames[n_hops - 1, k] = x[k] if finite else np.float32(0.0)
    return n_nonfinite


@jit("boolean(float32[::1], float32[::1], boolean)")
def accept(raw: F32, embedding: F32, unit: bool) -> bool:
    """Copy `raw` to `embedding`, scaled to length 1 if `unit`; False, and nothing is copied, where it is not finite or too large."""
    square = np.float32(0.0)
    for i in range(len(raw)):
        square += raw[i] * raw[i]
    if not square <= np.float32(1e37):  # also where it is not a number
        return False
    scale = np.float32(1.0)
    if unit:
        scale = np.float32(1.0) / np.sqrt(square) if square > np.float32(1e-24) else np.float32(0.0)
    for i in range(len(raw)):
        embedding[i] = scale * raw[i]
    return True


@jit("void(float32[::1], float32[:,::1], int64, int64, float32[::1])")
def distance_row(x: F32, reference: F32, first: int, distance: int, out: F32) -> None:
    """``out[i]``: the distance of `x` to element ``first + i`` of `reference`; infinite where there is none."""
    for i in range(len(out)):
        k = first + i
        out[i] = local_distance(x, reference[k], distance) if 0 <= k < len(reference) else np.float32(np.inf)


class FrameEmbedding:
    """One embedding model of the zoo, warmed up.

    Input    ``(n_features,)`` float32, a vector of the feature that the model names, every 10 ms
    Output   `embedding`, ``(size,)`` float32, of unit length where the distance is ``cosine``
    Latency  0 frames: the embedding of a hop is made of that hop and those before it

    Raises `ModelError` where the model is missing, altered, of another kind or vocabulary, or gives what is not finite.

    Parameters
    ----------
    model : str
        Name in the manifest of `folder`.

    Attributes
    ----------
    feature, n_features, n_hops : str, int, int
        What it takes; `node` makes it.
    size : int
    distance : str
        ``euclidean`` or ``cosine``.
    local_distance : int
        The same for `OnlineTimeWarping`.
    embedding : float32 (size,)
        Of the last hop; 0 before the first.
    n_nonfinite : int
        Hops since `reset` whose embedding was not finite: the one before stays, and the state begins anew.
    """

    def __init__(self, model: str, folder: Path = zoo.FOLDER) -> None:
        path, entry = zoo.load_model(model, folder)
        if entry.get("kind") != KIND:
            raise ModelError(f"{path} is a model of kind {entry.get('kind')!r}: expected {KIND!r} — is {model!r} the right name?")
        self.n_hops, self.size = (_whole(path, entry, key) for key in ("n_hops", "embedding_size"))
        self.feature = _one_of(path, entry, "feature", FEATURES)
        self.distance = _one_of(path, entry, "distance", LOCAL_DISTANCES)
        self.local_distance = LOCAL_DISTANCES[self.distance]
        self.n_features = _n_features(path, entry, self.feature, self.n_hops)
        frames, raw = np.zeros((1, self.n_hops, self.n_features), np.float32), np.zeros((1, self.size), np.float32)
        self._frames, self._raw = frames[0], raw[0]
        self.embedding = np.zeros(self.size, np.float32)
        self.n_nonfinite = 0
        shapes = {name: _shape(path, name, text) for name, text in entry["inputs"].items() if name != "frames"}
        self._states = [{name: np.zeros(shape, np.float32) for name, shape in shapes.items()} for _ in range(2)]
        session = zoo.open_session(path)
        self._runs: list[Callable[[], None]] = []
        for before, after in (self._states, self._states[::-1]):
            inputs: zoo.Arrays = {"frames": frames, **before}
            outputs: zoo.Arrays = {"embedding": raw, **{f"{name}_out": x for name, x in after.items()}}
            zoo.expect(path, entry, inputs, outputs)
            self._runs.append(zoo.bind(session, inputs, outputs))
        self._a = 0
        self._warm_up(path)

    def _warm_up(self, path: Path) -> None:
        """Silence, then white noise, as the feature's node hears them: what comes out must be finite."""
        node = self.node(_WARM_UP_RATE)
        spec = Spec.signal(_WARM_UP_RATE, 1, _WARM_UP_RATE // 100)
        x, y = spec.empty(), node.prepare(spec).empty()
        node.process(x, y)
        self._silence = y.copy()
        noise = np.random.default_rng(0)
        for n in range(WARM_UP_RUNS):
            self.process(y)
            if self.n_nonfinite or not all(np.isfinite(state).all() for state in self._states[self._a].values()):
                raise ModelError(
                    f"{path} gives embeddings or state that are not finite at hop {n} of its warm-up, silence and then noise: "
                    "expected finite numbers — does it divide by a length, or take a logarithm, that may be 0?"
                )
            if n >= WARM_UP_RUNS // 2:
                x[:] = noise.uniform(-1.0, 1.0, x.shape)
            node.process(x, y)
        self.reset()

    def node(self, sample_rate: int, tuning_hz: float = 440.0) -> Node:
        """The node that makes the feature from a signal. (Mel bands are not tuned.)"""
        return FEATURES[self.feature].make(sample_rate, tuning_hz, self.n_features)

    def reset(self) -> None:
        """As if there had been silence: `frames` holds what the feature is then, all state is 0."""
        self._frames[:] = self._silence
        self.embedding.fill(0.0)
        self.n_nonfinite = 0
        self._clear()

    def _clear(self) -> None:
        for state in self._states:
            for x in state.values():
                x.fill(0.0)

    def process(self, x: F32) -> None:
        """Take one hop of the feature, ``(n_features,)``; sets `embedding`. A value that is not finite is taken as 0."""
        push(self._frames, x)
        self._runs[self._a]()
        self._a = 1 - self._a
        if not accept(self._raw, self.embedding, self.distance == "cosine"):
            self.n_nonfinite += 1
            self._clear()

    def distances(self, reference: F32, first: int, out: F32) -> None:
        """Fill `out` with the distances of the last embedding to elements ``first``, ``first + 1``, … of `reference`.

        Allocates nothing. `reference`, ``(n_reference, size)`` float32, is what `embed` gives; infinite where it has no such element.
        """
        distance_row(self.embedding, reference, first, self.local_distance, out)

    def embed(self, features: F32) -> F32:
        """The embeddings ``(n_frames, size)`` of a whole sequence ``(n_frames, n_features)``, by the same code; forgets the past.

        For references, ahead of time. Raises `ModelError` if there is nothing, or something of another size, or an embedding is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.n_features or not len(features):
            raise ModelError(f"embed expects {self.feature!r} (n_frames, {self.n_features}), got {features.shape} — is it another feature?")
        self.reset()
        out = np.zeros((len(features), self.size), np.float32)
        for x, y in zip(features.astype(np.float32), out, strict=True):
            self.process(x)
            y[:] = self.embedding
        if self.n_nonfinite:
            raise ModelError(
                f"{self.n_nonfinite} of {len(features)} embeddings are not finite — are the features what the model was made for?"
            )
        self.reset()
        return out


def _whole(path: Path, entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"the manifest entry of {path}: {key} must be a whole number from 1 on, got {value!r} — export the model anew")
    return value


def _one_of(path: Path, entry: dict[str, Any], key: str, known: dict[str, Any]) -> str:
    value = entry.get(key)
    if value not in known:
        near = difflib.get_close_matches(str(value), known, 1)
        hint = f" — did you mean {near[0]!r}?" if near else " — export the model anew"
        raise ModelError(f"the manifest entry of {path}: {key} must be one of {', '.join(known)}, got {value!r}{hint}")
    return str(value)


def _shape(path: Path, name: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"float32\[\d+(,\d+)*\]", text):
        raise ModelError(f"{path}: {name!r} must be float32 of a fixed shape, got {text} — export the model without dynamic axes")
    return tuple(int(n) for n in text[len("float32[") : -1].split(","))


def _n_features(path: Path, entry: dict[str, Any], feature: str, n_hops: int) -> int:
    sizes = FEATURES[feature].sizes
    wanted = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    if "frames" not in entry["inputs"]:
        raise ModelError(f"{path} has no input 'frames', only {', '.join(entry['inputs'])} — export the model with that name")
    shape = _shape(path, "frames", entry["inputs"]["frames"])
    if len(shape) != 3 or shape[:2] != (1, n_hops) or shape[2] not in sizes:
        raise ModelError(
            f"{path} speaks another vocabulary: expected frames float32[1,{n_hops},N], N = {wanted} values of {feature!r}, got "
            f"{entry['inputs']['frames']} — does the manifest name the feature and the hops that it was trained on?"
        )
    return shape[2]
