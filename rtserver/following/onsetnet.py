"""The network that hears, for every pitch, how many hops ago a note began.

It sees the last nine semitone spectra around a pitch, at the intervals of partials and neighbours, and has the same weights for all
pitches; unlike a template it has learned what a rise of neighbours, of partials and of noise looks like. Made by ``models/following``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtserver import zoo
from rtserver.dsp.features import N_SEMITONES
from rtserver.errors import ModelError

F32 = npt.NDArray[np.float32]

MODEL = "onsets"
KIND = "onset_odds"
N_HOPS = 9
N_AGES = 7
N_PITCHES = 88  # MIDI pitches 21..108
WARM_UP_RUNS = 20  # ONNX Runtime's first runs plan memory and are up to a hundred times slower


class OnsetNetwork:
    """The onset model of the zoo, warmed up. Raises `ModelError` where its files are missing, altered or of another shape.

    Attributes
    ----------
    nats : float32 (7, 88)
        Log-likelihood ratio of the last nine spectra, for every age and pitch: a note began so many hops ago, against none of late.

    Latency: 0 frames. An onset is hardly seen in its own hop, and best after three to five.
    """

    def __init__(self, model: str = MODEL, folder: Path = zoo.FOLDER) -> None:
        path, entry = zoo.load_model(model, folder)
        if entry.get("kind") != KIND:
            raise ModelError(
                f"{path} is a model of kind {entry.get('kind')!r}: the follower expects {KIND!r} — is {model!r} the right name?"
            )
        spectra, nats = np.zeros((1, N_HOPS, N_SEMITONES), np.float32), np.zeros((1, N_AGES, N_PITCHES), np.float32)
        self._spectra, self.nats = spectra[0], nats[0]
        zoo.expect(path, entry, {"spectra": spectra}, {"nats": nats})
        self._run = zoo.bind(zoo.open_session(path), {"spectra": spectra}, {"nats": nats})
        for _ in range(WARM_UP_RUNS):
            self._run()

    def reset(self) -> None:
        """As if there had been silence."""
        self._spectra.fill(0.0)

    def process(self, semitones: F32) -> None:
        """Take the log magnitudes (107,) of a hop; sets `nats`."""
        self._spectra[1:] = self._spectra[:-1]
        self._spectra[0] = semitones
        self._run()
