"""Separation of a whole file by kernel additive modelling: what the live nodes cannot see, the future, is seen here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from rtserver.audio.file import Writer, check_apart, info, read
from rtserver.dsp.backfitting import Model, backfit
from rtserver.dsp.hpss import HpssPreset
from rtserver.dsp.proximity import Kernel, box, broad, check_kernel, steady
from rtserver.dsp.spatial import Spatial
from rtserver.dsp.stft import Istft, Stft
from rtserver.errors import ConfigError, SpecError
from rtserver.node import Array, Spec

# The paper's: 93 ms at 44.1 kHz, a quarter of it a hop, 17 spectra (0.4 s) and 17 bins (180 Hz).
WHOLE = HpssPreset(4096, 4096, 1024, n_past=17, past_step=1, n_around=17)
MAX_ITERATIONS = 20  # long after everything has settled
_MAX_SIDE = 1001  # of a kernel's box, bins or spectra
_GATHERED = 64  # spectra put in their place at once


def default_kernels(sample_rate: int) -> dict[str, Kernel]:
    """Harmonic and percussive, as long in seconds and as wide in Hz at any rate."""
    preset = WHOLE.at(sample_rate)
    return {"harmonic": steady(preset.n_past), "percussive": broad(preset.n_around)}


def parse_kernel(text: str) -> tuple[str, Kernel]:
    """``NAME=BINSxSPECTRA``, for example ``hum=1x101``: a box of neighbours. Raises `ConfigError` for ``--kernel``."""
    name, _, size = text.partition("=")
    n_around, _, n_spectra = size.partition("x")
    sides = [int(side) if side.isdecimal() else 0 for side in (n_around, n_spectra)]
    if not name or not all(c.isalnum() or c in "_-" for c in name) or not all(1 <= side <= _MAX_SIDE and side % 2 for side in sides):
        raise ConfigError("--kernel", f"expected NAME=BINSxSPECTRA with odd numbers up to {_MAX_SIDE}, for example hum=1x101, got {text!r}")
    return name, box(*sides)


def separate_whole(
    path: Path,
    folder: Path,
    kernels: Mapping[str, Kernel] | None = None,
    iterations: int = 2,
    *,
    spatial: Spatial = "paper",
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Split `path` into ``folder/NAME.wav`` for each of `kernels`. They are aligned to it, as long, and sum to it.

    Windows of 4096 frames at 44.1 and 48 kHz, hop 1024; at other rates as `HpssPreset.at` has it. The last of `kernels` gets what the
    others leave. The file is held in memory as spectra: about 5 MB a second of stereo.

    Parameters
    ----------
    path : Path
        WAV, FLAC or Ogg of any number of channels, at its own rate.
    kernels : mapping of bool arrays, optional
        By name, two or more: see `rtserver.dsp.proximity`. Harmonic and percussive when left out.
    iterations, spatial
        As in `backfit`.
    progress : callable
        Called with steps just done, of `n_steps` in all.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ConfigError, AudioFileError, SpecError
    """
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise ConfigError("--iterations", f"expected 1 to {MAX_ITERATIONS}, got {iterations}")
    if kernels is not None and len(kernels) < 2:
        raise ConfigError("--kernel", f"expected two or more, one a source, got {len(kernels)}")
    signal, sample_rate = read(path)
    kernels = default_kernels(sample_rate) if kernels is None else kernels
    for name, kernel in kernels.items():
        try:
            check_kernel(kernel)
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from None
    files = [folder / f"{name}.wav" for name in kernels]
    check_apart(path, files)
    with ExitStack() as stack:
        writers = [stack.enter_context(Writer(file, sample_rate, len(signal))) for file in files]
        if signal.shape[1]:
            x = spectra(signal, sample_rate)
            model = backfit(x, list(kernels.values()), iterations, spatial=spatial, progress=progress)
            rest = signal.copy()
            for j, writer in enumerate(writers[:-1]):
                part = source(model, x, j, signal.shape[1], sample_rate)
                rest -= part
                writer.write(part)
            writers[-1].write(rest)
    return files


def n_steps(path: Path, iterations: int) -> int:
    """How far the progress of `separate_whole` goes. Raises `AudioFileError`."""
    file = info(path)
    return iterations * (WHOLE.at(file.sample_rate).window_size // 2 + 1) if file.n_frames else 0


def spectra(signal: Array, sample_rate: int) -> Array:
    """All spectra of ``(n_channels, n_frames)``, enough to have every frame back: ``(n_channels, n_bins, n_spectra)`` complex64."""
    preset = WHOLE.at(sample_rate)
    stft = Stft(preset.window_size, preset.hop_size)
    hop, (n_channels, n_frames) = preset.hop_size, signal.shape
    spec = stft.prepare(Spec.signal(sample_rate, n_channels, hop))
    n_spectra = -(-(n_frames + preset.window_size - hop) // hop)
    padded = np.zeros((n_channels, n_spectra * hop), np.float32)
    padded[:, :n_frames] = signal
    x = np.empty((*spec.shape, n_spectra), np.complex64)
    some = np.empty((_GATHERED, *spec.shape), np.complex64)
    for start in range(0, n_spectra, _GATHERED):
        n = min(_GATHERED, n_spectra - start)
        for i in range(n):
            stft.process(np.ascontiguousarray(padded[:, (start + i) * hop : (start + i + 1) * hop]), some[i])
        x[:, :, start : start + n] = some[:n].transpose(1, 2, 0)
    return x


def source(model: Model, x: Array, j: int, n_frames: int, sample_rate: int) -> Array:
    """The signal ``(n_channels, n_frames)`` of a model's source, of the spectra that `spectra` made."""
    preset = WHOLE.at(sample_rate)
    istft = Istft(preset.window_size, preset.hop_size)
    spectrum = model.spectrum(x, j)
    n_channels, n_bins, n_spectra = spectrum.shape
    hop, latency = preset.hop_size, istft.latency
    istft.prepare(Spec(sample_rate, hop, (n_channels, n_bins), np.dtype(np.complex64)))
    signal = np.empty((n_channels, n_spectra * hop), np.float32)
    out = np.empty((n_channels, hop), np.float32)
    for start in range(0, n_spectra, _GATHERED):
        some = np.ascontiguousarray(spectrum[:, :, start : start + _GATHERED].transpose(2, 0, 1))
        for i, hop_of in enumerate(some, start):
            istft.process(hop_of, out)
            signal[:, i * hop : (i + 1) * hop] = out
    return signal[:, latency : latency + n_frames]
