"""The vocabulary of signal flow: `Spec`, `Node`, `Tracker`.

Conventions
-----------
Arrays are C-contiguous. Signals are float32 ``(n_channels, hop_size)``, spectra complex64 ``(n_channels, n_bins)``; stems and
history come on a new first axis. ``(frames, channels)`` exists at the device edge only. No axis is ever guessed.

The seven laws that every node keeps (`tests/contract` holds them over the registry of all nodes):

1. Declared latency is measured latency.
2. How the input is cut into blocks does not change one bit of the output.
3. `reset` equals a fresh object.
4. A deferred node is the same node some hops later.
5. `process` makes nothing that grows with time.
6. Same input, same output, on any clock: no wall time, no global random state.
7. Everything is checked in `prepare`, nothing in `process`; no kernel compiles after warm-up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from rtserver.errors import SpecError
from rtserver.events import Event

Array = npt.NDArray[Any]
Emit = Callable[[Event], None]
FLOAT32: np.dtype[Any] = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Spec:
    """What flows along one edge: one array of `shape` every `hop_size` frames.

    Attributes
    ----------
    sample_rate : int
        Frames per second.
    hop_size : int
        Frames between two arrays on this edge.
    shape : tuple of int
        ``(n_channels, hop_size)`` for a signal, ``(n_channels, n_bins)`` for a spectrum, ``(n_features,)`` for features;
        stems on a further first axis.
    dtype : numpy.dtype
        float32, or complex64 for spectra.
    labels : tuple of str
        Names along the first axis, for example ``("harmonic", "percussive")``; empty where it has none.
    """

    sample_rate: int
    hop_size: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = FLOAT32
    labels: tuple[str, ...] = ()

    @property
    def hop_s(self) -> float:
        """Seconds between two arrays."""
        return self.hop_size / self.sample_rate

    def empty(self) -> Array:
        """A zeroed array of this shape and type."""
        return np.zeros(self.shape, self.dtype)

    @staticmethod
    def signal(sample_rate: int, n_channels: int, hop_size: int) -> Spec:
        """The spec of a plain signal: ``(n_channels, hop_size)`` float32."""
        return Spec(sample_rate, hop_size, (n_channels, hop_size))


@runtime_checkable
class Node(Protocol):
    """Signal in, signal out, one hop a call. The same object serves live, offline and in tests."""

    @property
    def latency(self) -> int:
        """Frames by which the output lags the input. Fixed once `prepare` has run."""
        ...

    def prepare(self, spec: Spec) -> Spec:
        """Check `spec`, allocate everything, compile everything, and return the spec of the output. Raises `SpecError`."""
        ...

    def process(self, x: Array, out: Array) -> None:
        """Turn one hop `x` into one hop `out`. `out` is owned by the caller and wholly overwritten; neither is kept."""
        ...

    def reset(self) -> None:
        """Forget the past, as a fresh object after `prepare`. Cheap enough for the fast lane."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Signal (or features) in, events out, one hop a call."""

    @property
    def latency(self) -> int:
        """Frames between what an event speaks of and the end of the audio it was known from."""
        ...

    def prepare(self, spec: Spec) -> None:
        """Check `spec` and allocate everything. Raises `SpecError`."""
        ...

    def process(self, x: Array, frame: int, emit: Emit) -> None:
        """Take one hop that ends just before session frame `frame` and emit what follows from it."""
        ...

    def reset(self) -> None:
        """Forget the past, as a fresh object after `prepare`."""
        ...


def expect_signal(spec: Spec, who: str) -> None:
    """Refuse a spec that is not a plain signal ``(n_channels, hop_size)`` float32."""
    if len(spec.shape) != 2 or spec.shape[1] != spec.hop_size or spec.dtype != np.float32:
        raise SpecError(
            f"{who} expects a signal (n_channels, hop_size={spec.hop_size}) float32, got {spec.shape} {spec.dtype}"
            " — is it connected to a spectrum or to features?"
        )


def expect_spectrum(spec: Spec, who: str) -> None:
    """Refuse a spec that is not a spectrum ``(n_channels, n_bins)`` complex64."""
    if len(spec.shape) != 2 or spec.dtype != np.complex64:
        raise SpecError(
            f"{who} expects a spectrum (n_channels, n_bins) complex64, got {spec.shape} {spec.dtype} — connect it after an Stft?"
        )
