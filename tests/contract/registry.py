"""Every node and tracker of rtserver, small enough to test, with what the laws need to know of it."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from separators import make

from rtserver.deferred import Deferred
from rtserver.dsp.chroma import Chroma
from rtserver.dsp.cqt import Cqt
from rtserver.dsp.features import Features
from rtserver.dsp.hpss import PRESETS, Hpss
from rtserver.dsp.kam import Kam
from rtserver.dsp.masks import SOFT, Masks
from rtserver.dsp.mel import Mel
from rtserver.dsp.stft import Istft, Stft
from rtserver.node import Spec
from rtserver.reblock import Reblock
from rtserver.separation.model import SeparationModel, read_model
from rtserver.separation.separator import Separator
from rtserver.separation.wiener import Wiener

RATE = 48000


@dataclass(frozen=True)
class Entry:
    """A node under test.

    make : a fresh node; spec : what it is prepared with; memory : hops after which it has forgotten any input; scratch : bytes that
    one `process` may borrow and must give back; sums : whether its parts sum to the input, `latency` frames later; feed : turns a
    signal hop into the node's input (spectra for those that take spectra).
    """

    name: str
    make: Callable[[], Any]
    spec: Spec
    memory: int
    scratch: int = 2048
    sums: bool = False
    feed: Callable[[], Any] | None = None
    covers: tuple[type, ...] = field(default=())


class Chain:
    """Several nodes as one: what a preset is."""

    def __init__(self, *nodes: Any) -> None:
        self.nodes = nodes
        self.hop_size = nodes[0].hop_size

    @property
    def latency(self) -> int:
        return sum(node.latency for node in self.nodes)

    def prepare(self, spec: Spec) -> Spec:
        self.buffers = []
        for node in self.nodes:
            spec = node.prepare(spec)
            self.buffers.append(spec.empty())
        return spec

    def process(self, x: Any, out: Any) -> None:
        for node, buffer in zip(self.nodes, self.buffers, strict=True):
            node.process(x, buffer)
            x = buffer
        np.copyto(out, x)

    def reset(self) -> None:
        for node in self.nodes:
            node.reset()


def spectra() -> Stft:
    """What stands before a node that takes spectra."""
    return Stft(512, 128, 256)


def small(masks: Masks = SOFT) -> Chain:
    """A preset in small."""
    stft = spectra()
    return Chain(stft, Hpss(5, 5, masks=masks), Istft(stft))


_folder = tempfile.TemporaryDirectory()  # for as long as the tests run


@cache
def network() -> SeparationModel:
    """A small one."""
    return read_model(str(make(Path(_folder.name))))


def loud_spectra() -> Stft:
    """What a network takes."""
    return Stft(2048, 128, 256)


def stereo_parts() -> Chain:
    """What stands before the Wiener filter."""
    return Chain(spectra(), Hpss(5, 5))


def kam(masks: Masks = SOFT, iterations: int = 3) -> Kam:
    """Places forget in a tenth of a second: law 3 and what is forgotten would take a minute else."""
    return Kam(5, 5, masks=masks, iterations=iterations, time_constant_s=0.01)


def small_kam(masks: Masks) -> Chain:
    """`small` with kernel additive modelling."""
    stft = spectra()
    return Chain(stft, kam(masks), Istft(stft))


SIGNAL = Spec.signal(RATE, 2, 128)
SPECTRUM = Spec(RATE, 128, (2, 257), np.dtype(np.complex64))
HARD = Masks("hard")
WITH_RESIDUAL = Masks("soft", 1.5, 2.0, 3.0)

# A network remembers for 40 hops or so: it keeps a half of its state in each hop of its phase.
LOUD = Spec(RATE, 128, (2, 1025), np.dtype(np.complex64))
SEPARATORS = [
    Entry("separator", lambda: Separator(network()), LOUD, memory=100, feed=loud_spectra, covers=(Separator,)),
    Entry("separator blended", lambda: Separator(network(), blend=0.5), LOUD, memory=100, feed=loud_spectra),
    Entry("separator later", lambda: Separator(network(), 2), LOUD, memory=102, feed=loud_spectra),
]

NODES = [
    *(SEPARATORS if importlib.util.find_spec("onnx") is not None else []),
    Entry("wiener", lambda: Wiener(0.02), replace(SPECTRUM, shape=(2, 2, 257)), memory=160, feed=stereo_parts, covers=(Wiener,)),
    Entry("stft", spectra, SIGNAL, memory=4, covers=(Stft,)),
    Entry("hpss", lambda: Hpss(5, 5), SPECTRUM, memory=13, feed=spectra, covers=(Hpss,)),
    Entry("hpss stepped", lambda: Hpss(5, 5, past_step=2), SPECTRUM, memory=18, feed=spectra),
    Entry("hpss long", lambda: Hpss(23, 5), SPECTRUM, memory=31, feed=spectra),
    Entry("hpss hard", lambda: Hpss(5, 5, masks=HARD), SPECTRUM, memory=13, feed=spectra),
    Entry("hpss residual", lambda: Hpss(5, 5, masks=WITH_RESIDUAL), SPECTRUM, memory=13, feed=spectra),
    Entry("kam", kam, SPECTRUM, memory=100, feed=spectra, covers=(Kam,)),
    Entry("kam residual", lambda: kam(WITH_RESIDUAL, 4), SPECTRUM, memory=140, feed=spectra),
    Entry("parts kam", lambda: small_kam(SOFT), SIGNAL, memory=100, sums=True),
    Entry("parts kam residual", lambda: small_kam(WITH_RESIDUAL), SIGNAL, memory=100, sums=True),
    Entry("parts hard", lambda: small(HARD), SIGNAL, memory=18, sums=True),
    Entry("parts residual", lambda: small(WITH_RESIDUAL), SIGNAL, memory=18, sums=True),
    Entry("parts residual hard", lambda: small(replace(WITH_RESIDUAL, mask="hard")), SIGNAL, memory=18, sums=True),
    Entry("istft", lambda: Istft(512, 128, 256), SPECTRUM, memory=8, feed=spectra, covers=(Istft,)),
    Entry("features", lambda: Features(RATE), Spec.signal(RATE, 2, 480), memory=14, covers=(Features,)),
    Entry("cqt", lambda: Cqt(RATE), Spec.signal(RATE, 2, 480), memory=68, covers=(Cqt,)),
    Entry("mel", lambda: Mel(RATE), Spec.signal(RATE, 2, 480), memory=6, covers=(Mel,)),
    Entry("chroma", lambda: Chroma(RATE), Spec.signal(RATE, 2, 480), memory=11, covers=(Chroma,)),
    Entry("reblock", lambda: Reblock(small(), 128), Spec.signal(RATE, 2, 100), memory=20, scratch=8192, sums=True, covers=(Reblock,)),
    Entry("deferred", lambda: Deferred(small(), 2), SIGNAL, memory=14, scratch=8192, sums=True, covers=(Deferred,)),
    *(
        Entry(
            f"preset {name}",
            lambda preset=preset: Chain(*preset.nodes()),
            Spec.signal(RATE, 1, preset.hop_size),
            memory=2 * preset.window_size // preset.hop_size + preset.n_past * preset.past_step + 4,
            sums=True,
        )
        for name, preset in PRESETS.items()
    ),
]
