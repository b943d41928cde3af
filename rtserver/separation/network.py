"""A separation network on fixed arrays, its states swapped A/B; and two of them, of which one is heard."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rtserver import zoo
from rtserver.errors import ModelError
from rtserver.separation.model import HEARD, MASKS, N_BINS, N_FEATURES, N_SCORE, OUT, SeparationModel

F32 = npt.NDArray[np.float32]
FADE_S = 0.02  # from the network's masks to those that stand in for them, and back; from one network to another
MISSING, GOOD, BAD = range(3)  # what became of a hop's masks; bad: not finite
BUDGET = 0.5  # of a hop: a network in the engine that takes longer leaves too little for everything else
WARM_UP_RUNS = 20  # ONNX Runtime's first runs plan memory and are up to a hundred times slower


def fade_hops(hop_s: float) -> int:
    """How many hops a crossfade takes."""
    return max(1, round(FADE_S / hop_s))


def _zeros(n: int) -> F32:
    return np.zeros(n, np.float32)


@dataclass(frozen=True)
class Heard:
    """What a network is told of one hop: features (440,), prior (1025,), score (177,), float32."""

    features: F32 = field(default_factory=lambda: _zeros(N_FEATURES))
    prior: F32 = field(default_factory=lambda: _zeros(N_BINS))
    score: F32 = field(default_factory=lambda: _zeros(N_SCORE))


class SeparationNetwork:
    """One network, warmed up, with nothing copied and nothing made in a run but what it is told.

    Parameters
    ----------
    model : SeparationModel
    n_phases : int
        Sets of states that take turns, so that each sees every `n_phases`-th hop.

    Attributes
    ----------
    masks : float32 (n_stems − 1, 1025)
        What the last run gave.
    fastest_s : float
        What a run takes when nothing else is in its way, as far as warming up could tell.

    Raises
    ------
    ModelError
        If the file cannot be read, or its inputs and outputs are not those of its manifest.
    """

    def __init__(self, model: SeparationModel, n_phases: int = 1) -> None:
        self.model = model
        self.n_phases = n_phases
        path, _ = zoo.load_model(model.entry, model.folder)
        session = zoo.open_session(path)
        self._heard = {name: np.zeros((1, HEARD[name]), np.float32) for name in model.heard}
        self.masks: F32 = np.zeros((len(model.stems) - 1, N_BINS), np.float32)
        self._states = [[{k: np.zeros(n, np.float32) for k, n in model.states.items()} for _ in "AB"] for _ in range(n_phases)]
        self._runs = [
            [
                zoo.bind(session, self._heard | of[a], {MASKS: self.masks} | {k + OUT: x for k, x in of[1 - a].items()})
                for a in range(len(of))
            ]
            for of in self._states
        ]
        self._now = [0] * n_phases  # which of A and B holds the state of each phase
        try:
            spent: list[float] = []
            for k in range(WARM_UP_RUNS):
                start = time.perf_counter()
                self.run(k % n_phases, Heard())
                spent.append(time.perf_counter() - start)
        except Exception as error:  # ONNX Runtime raises a class of its own for each way in which a graph can fail
            raise ModelError(f"{path} cannot be run: {error} — export the model anew") from error
        self.fastest_s = min(spent)
        self.reset()

    def run(self, phase: int, heard: Heard) -> None:
        """Hear one hop of `phase`; writes `masks` and goes on to the state after it."""
        for name, x in self._heard.items():
            np.copyto(x[0], getattr(heard, name))
        a = self._now[phase]
        self._runs[phase][a]()
        self._now[phase] = 1 - a

    def reset(self) -> None:
        """Forget the past in every phase."""
        for of in self._states:
            for states in of:
                for x in states.values():
                    x.fill(0.0)


class Slots:
    """One network, or two of the same stems: one is heard, and a change from one to the other is a crossfade of their masks.

    While it fades both run. The one that comes in begins without a past.

    Parameters
    ----------
    models : sequence of SeparationModel
        One or two.
    n_phases : int
    fade_hops : int
        Hops that a change takes.

    Raises
    ------
    ModelError
    """

    def __init__(self, models: Sequence[SeparationModel], n_phases: int, fade_hops: int) -> None:
        self.networks = [SeparationNetwork(model, n_phases) for model in models]
        self.n_phases, self.fade_hops = n_phases, fade_hops
        self.chosen = 0
        self._left = 0  # hops until only the chosen one is heard
        self._fading = np.zeros_like(self.networks[0].masks)

    def select(self, index: int) -> None:
        """Let number `index` be heard from the next hop on, by and by."""
        if index != self.chosen:
            if self._left == 0:
                self.networks[index].reset()
            self.chosen, self._left = index, self.fade_hops - self._left  # in the middle of a change it turns back from where it is

    def run(self, hop: int, heard: Heard, out: F32) -> bool:
        """Write the masks of hop number `hop` into `out`, ``(n_stems − 1, n_bins)``. False if they are not finite; then the past is
        forgotten."""
        phase = hop % self.n_phases
        network = self.networks[self.chosen]
        network.run(phase, heard)
        np.copyto(out, network.masks)
        if self._left > 0:
            self._left -= 1
            other = self.networks[1 - self.chosen]
            other.run(phase, heard)
            share = np.float32(self._left / self.fade_hops)
            np.multiply(out, np.float32(1.0) - share, out=out)
            np.multiply(other.masks, share, out=self._fading)
            np.add(out, self._fading, out=out)
        if math.isfinite(float(out.sum())):
            return True
        for network in self.networks:
            network.reset()
        return False

    def reset(self, chosen: int = 0) -> None:
        """Forget the past, and hear number `chosen` from now on, without a fade."""
        self.chosen, self._left = chosen, 0
        for network in self.networks:
            network.reset()
