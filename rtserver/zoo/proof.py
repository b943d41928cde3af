"""Proof that a model computes here what it computed where it was made: golden vectors, stepped as the run time steps the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver import zoo
from rtserver.errors import ModelError

Rows = dict[str, npt.NDArray[Any]]
WITHIN = 1e-3  # where the manifest does not say how close is close enough: rounding by other instructions of other processors


def proved(name: str, folder: Path = zoo.FOLDER) -> float | None:
    """Check a model from its hash to its outputs; the largest difference from its golden vectors, or None where it has none.

    Raises
    ------
    ModelError
        If the file is not that of the manifest, breaks its contract, or differs by more than the manifest's ``golden_within``.
    """
    _, entry = zoo.load_model(name, folder)
    kind = entry.get("kind", "")
    if "part_of" in entry:
        return None  # proved with the whole
    if kind == "separation":
        from rtserver.separation.model import read_model

        read_model(str(folder / entry["file"]))
    if kind not in _STEPPED:
        where = folder / zoo.MANIFEST
        raise ModelError(f"{where}: {name!r}: no way is known to step a model of kind {kind!r}; known: {', '.join(_STEPPED)}")
    if "golden" not in entry:
        return None
    path = folder / entry["golden"]
    try:
        with np.load(path) as file:
            rows: Rows = dict(file)
    except Exception as error:  # NumPy and zipfile raise a class of their own for each way a file can be wrong
        raise ModelError(f"{path} cannot be read: {error} — export the model anew") from error
    if not rows or not all(x.ndim and len(x) for x in rows.values()):
        raise ModelError(f"{path}: expected a row a step in every array, got one without, which proves nothing — export the model anew")
    if len({len(x) for x in rows.values()}) > 1:
        lengths = ", ".join(f"{k} {len(x)}" for k, x in rows.items())
        raise ModelError(f"{path}: expected as many rows in every array, got {lengths} — export the model anew")
    try:
        worst = _STEPPED[kind](name, folder, rows)
    except ModelError:
        raise
    except Exception as error:  # so do ONNX Runtime and NumPy for arrays of other shapes and types
        found = ", ".join(f"{k}: {x.dtype}[{','.join(map(str, x.shape))}]" for k, x in rows.items())
        raise ModelError(
            f"{path} has other arrays than a model of kind {kind!r} expects: {type(error).__name__}: {error}; got {found}"
            " — export the model anew"
        ) from error
    if not np.isfinite(worst):
        raise ModelError(f"{name!r} or {path} gives what is no finite number, expected finite ones throughout — export the model anew")
    within = float(entry.get("golden_within", WITHIN))
    if not worst <= within:
        raise ModelError(
            f"{name!r} differs from {path} by {worst:.3g}, expected at most {within:g} — another ONNX Runtime, or other weights?"
        )
    return worst


def _worse(worst: float, difference: npt.NDArray[Any]) -> float:
    """The larger of `worst` and a difference; NaN once anything is, which ``max`` of Python would pass over."""
    return float(np.maximum(worst, np.abs(difference).max()))


def _separation(name: str, folder: Path, rows: Rows) -> float:
    from rtserver.separation.model import read_model
    from rtserver.separation.network import Heard, SeparationNetwork

    network = SeparationNetwork(read_model(str(folder / zoo.manifest(folder)[name]["file"])))
    worst = 0.0
    for k, masks in enumerate(rows["out_masks"]):
        heard = Heard()
        for name_in in network.model.heard:
            getattr(heard, name_in)[...] = rows[f"in_{name_in}"][k].reshape(-1)
        network.run(0, heard)
        worst = _worse(worst, network.masks - masks.reshape(network.masks.shape))
    return worst


def _onset_odds(name: str, folder: Path, rows: Rows) -> float:
    from rtserver.following.onsetnet import OnsetNetwork

    network, worst = OnsetNetwork(name, folder), 0.0
    for spectrum, nats in zip(rows["spectra"], rows["nats"], strict=True):
        network.process(spectrum)
        worst = _worse(worst, network.nats - nats)
    return worst


def _note_events(name: str, folder: Path, rows: Rows) -> float:
    from rtserver.generation.note_network import NoteNetwork
    from rtserver.generation.vocabulary import NoteEvent

    network, worst = NoteNetwork(name, folder), 0.0
    for i in range(len(rows["dt"])):
        row = {k: a[i].reshape(-1) for k, a in rows.items()}
        h, c = network.state
        h[...], c[...] = rows["h"][i], rows["c"][i]
        for k, there in network.conditions.items():
            there[...] = row[k]
        network.sounding[...], network.next_sounding[...] = row["sounding"], row["next_sounding"]
        network.set_texture(int(row["texture"][0]))
        network.set_part(int(row["part"][0]))
        tick, dt = int(row["phase"][0]), int(row["next_dt"][0])
        network.set_bar(tick - int(row["bar"][0]) + 1, 12 * int(row["metre"][0]))
        network.step(NoteEvent(*(int(row[k][0]) for k in ("dt", "pitch", "duration"))), tick)
        network.run_pitch(dt, tick + dt)
        network.run_duration(int(row["next_pitch"][0]))
        network.swap()
        found = (network.dt_logits, network.pitch_logits, network.duration_logits, *network.state)
        for k, x in zip(("dt_logits", "pitch_logits", "duration_logits", "h_out", "c_out"), found, strict=True):
            worst = _worse(worst, x - rows[k][i].reshape(x.shape))
    return worst


_STEPPED: dict[str, Callable[[str, Path, Rows], float]] = {
    "separation": _separation,
    "onset_odds": _onset_odds,
    "note_events": _note_events,
}
