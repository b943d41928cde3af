"""The network that hears, for every pitch, how many hops ago a note began.

It sees the last nine semitone spectra around a pitch, at the intervals of partials and neighbours, and has the same weights for all
pitches; it remembers what sounds at each, and the spectrum as a whole. Unlike a template it has learned what a rise of neighbours, of
partials, of noise and of a hall looks like. Made by ``models/following``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtserver import zoo
from rtserver.dsp.layout import N_SEMITONES
from rtserver.errors import ModelError

F32 = npt.NDArray[np.float32]

MODEL = "onsets"
KIND = "onset_odds"
N_HOPS = 9
N_AGES = 10
N_PITCHES = 88  # MIDI pitches 21..108
INPUTS = ("spectra", "whole", "pitch")
OUTPUTS = ("nats", "whole_after", "pitch_after")
WARM_UP_RUNS = 20  # ONNX Runtime's first runs plan memory and are up to a hundred times slower


class OnsetNetwork:
    """The onset model of the zoo, warmed up. Raises `ModelError` where its files are missing, altered or of another shape.

    Attributes
    ----------
    nats : float32 (10, 88)
        Log-likelihood ratio of all spectra so far, for every age and pitch: a note began so many hops ago, against none of late.

    Latency: 0 frames. An onset is hardly seen in its own hop, and best after four to seven.
    """

    def __init__(self, model: str = MODEL, folder: Path = zoo.FOLDER) -> None:
        path, entry = zoo.load_model(model, folder)
        if entry.get("kind") != KIND:
            raise ModelError(
                f"{path} is a model of kind {entry.get('kind')!r}: the follower expects {KIND!r} — is {model!r} the right name?"
            )
        session = zoo.open_session(path)
        names = [x.name for x in session.get_inputs()]
        if names != list(INPUTS):
            raise ModelError(
                f"{path} takes {', '.join(names)}: expected {', '.join(INPUTS)} — export the model anew with this version of rtserver"
            )
        spectra: F32 = np.zeros((1, N_HOPS, N_SEMITONES), np.float32)
        nats: F32 = np.zeros((1, N_AGES, N_PITCHES), np.float32)
        self._spectra, self.nats = spectra[0], nats[0]
        # Two of each memory: one is read while the other is written, and then the other way round.
        shapes = [tuple(int(n) for n in x.shape) for x in session.get_inputs()[1:]]
        first, second = ([np.zeros(shape, np.float32) for shape in shapes] for _ in range(2))
        self._memory: list[F32] = first
        self._runs: list[Callable[[], None]] = []
        for before, after in ((first, second), (second, first)):
            inputs: dict[str, F32] = dict(zip(INPUTS, (spectra, *before), strict=True))
            outputs: dict[str, F32] = dict(zip(OUTPUTS, (nats, *after), strict=True))
            zoo.expect(path, entry, inputs, outputs)
            self._runs.append(zoo.bind(session, inputs, outputs))
        self._n = 0
        for _ in range(WARM_UP_RUNS):
            self._runs[self._n]()
        self.reset()

    def reset(self) -> None:
        """As if there had been silence."""
        self._spectra.fill(0.0)
        self._n = 0
        for memory in self._memory:
            memory.fill(0.0)

    def process(self, semitones: F32) -> None:
        """Take the log magnitudes (107,) of a hop; sets `nats`."""
        self._spectra[:-1] = self._spectra[1:]
        self._spectra[-1] = semitones
        self._runs[self._n]()
        self._n = 1 - self._n
