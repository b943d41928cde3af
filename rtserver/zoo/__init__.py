"""The model zoo: weights that travel with a manifest (what goes in and out, licence, data, figures) and golden vectors that prove them.

`manifest.toml` holds one table a file::

    [performer]
    file = "performer.onnx"
    sha256 = "…"
    inputs = { dt = "int64[1,1]", … }      # name -> element type and shape
    outputs = { … }

A model of several graphs has a table for each; the tables beside the first say ``part_of``.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rtserver.errors import ModelError

FOLDER = Path(__file__).parent
MANIFEST = "manifest.toml"
Arrays = dict[str, npt.NDArray[Any]]
_ELEMENTS = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(double)": "float64", "tensor(int32)": "int32"}


def manifest(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All entries of the manifest in `folder`, by name. Raises `ModelError`."""
    path = folder / MANIFEST
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ModelError(f"{path} is missing: every model needs its manifest — reinstall rtserver, or export a model there") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ModelError(f"{path} is not valid TOML: {e} — restore it, or export the models anew") from e
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise ModelError(f"{path}: expected a table for each model, [NAME] and its lines, got {name} = {entry!r} outside of any")
    return entries


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def signature(values: Any) -> dict[str, str]:
    """ONNX Runtime's inputs or outputs as the manifest writes them: name -> ``float32[1,1,13]``."""
    return {v.name: f"{_ELEMENTS.get(v.type, v.type)}[{','.join(str(d) for d in v.shape)}]" for v in values}


def verified_file(name: str, folder: Path = FOLDER) -> tuple[Path, dict[str, Any]]:
    """The file of model `name`, which is the one that the manifest speaks of (sha256), and its entry. A few milliseconds; loads nothing.

    Raises `ModelError`, naming what was expected, what was found and what helps.
    """
    entries = manifest(folder)
    if name not in entries:
        near = difflib.get_close_matches(name, entries, 1)
        hint = f" — did you mean {near[0]!r}?" if near else ""
        raise ModelError(f"no model {name!r} in {folder / MANIFEST}: it has {', '.join(sorted(entries))}{hint}")
    entry = entries[name]
    missing = [k for k in ("file", "sha256", "inputs", "outputs") if k not in entry]
    if missing:
        raise ModelError(f"the manifest entry of {name!r} in {folder / MANIFEST} lacks {', '.join(missing)} — export the model anew")
    _check_types(f"{folder / MANIFEST}: {name!r}", entry)
    path = folder / entry["file"]
    if not path.is_file():
        raise ModelError(f"{path} is missing: the manifest promises it for {name!r} — reinstall rtserver, or export the model anew")
    found = sha256_of(path)
    if found != entry["sha256"]:
        raise ModelError(
            f"{path} is not the file that the manifest speaks of: expected sha256 {entry['sha256'][:16]}…, got {found[:16]}…"
            " — an incomplete download or a model exported without its manifest? Reinstall rtserver, or export the model anew"
        )
    return path, entry


def _check_types(where: str, entry: dict[str, Any]) -> None:
    texts = {key: entry[key] for key in ("file", "sha256", "kind", "golden") if key in entry}
    for what in ("inputs", "outputs"):
        if not isinstance(entry[what], dict):
            raise ModelError(f'{where}: {what}: expected {{ NAME = "float32[1,1]", … }}, got {entry[what]!r} — export the model anew')
        texts |= {f"{what}.{key}": shape for key, shape in entry[what].items()}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ModelError(f"{where}: {key}: expected a text in quotes, got {text!r} — export the model anew")
    within = entry.get("golden_within", 0.0)
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0.0 <= within < math.inf:
        raise ModelError(f"{where}: golden_within: expected a number, 0 or above, got {within!r} — export the model anew")


def load_model(name: str, folder: Path = FOLDER) -> tuple[Path, dict[str, Any]]:
    """The verified file of model `name`, and its manifest entry.

    Checks that the file is the one the manifest speaks of (sha256), that ONNX Runtime can read it, and that its inputs and outputs have the
    names, element types and shapes that the manifest promises. Takes about 20 ms a megabyte; never call it from the fast lane.

    Raises
    ------
    ModelError
        Naming what was expected, what was found and what helps.
    """
    path, entry = verified_file(name, folder)
    _check_signature(path, name, entry)
    return path, entry


@cache
def _signatures(path: Path, _sha256: str) -> tuple[dict[str, str], dict[str, str]]:
    session = open_session(path, optimise=False)
    return signature(session.get_inputs()), signature(session.get_outputs())


def _check_signature(path: Path, name: str, entry: dict[str, Any]) -> None:
    for what, found in zip(("inputs", "outputs"), _signatures(path, entry["sha256"]), strict=True):
        if found != entry[what]:
            differ = sorted(set(found.items()) ^ set(entry[what].items()))
            raise ModelError(
                f"{path} ({name!r}): its {what} are not those of the manifest, they differ in {', '.join(f'{k}: {s}' for k, s in differ)}"
                " — export the model anew, so that file and manifest agree"
            )


def open_session(path: Path, optimise: bool = True) -> Any:
    """An ONNX Runtime session fit for live use: one thread, sequential, no spinning. Raises `ModelError`.

    With the defaults (a pool that spins) the same step takes half a core and its p99 is six times as high. ONNX Runtime's own switch for
    denormals is left alone: it sets the flag of the calling thread for good, and every kernel that runs there afterwards would round
    differently from the same kernel live.
    """
    import onnxruntime as ort  # late: who only reads the manifest need not pay for it

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Weights may be all in the file itself, of which the manifest has the hash: below a file no other is found.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path))
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime raises a class of its own for each way a file can be wrong
        if "External data" in str(e):
            raise ModelError(
                f"{path} keeps weights in files beside it, which no hash of the manifest covers"
                " — save it whole: onnx.save(onnx.load(FILE), NEW_FILE)"
            ) from e
        raise ModelError(f"{path} cannot be read as an ONNX model: {e} — damaged? Reinstall rtserver, or export the model anew") from e


def expect(path: Path, entry: dict[str, Any], inputs: Arrays, outputs: Arrays) -> None:
    """Raises `ModelError` if the model of a manifest entry does not take and give arrays of these names, types and shapes."""
    for what, arrays in (("inputs", inputs), ("outputs", outputs)):
        wanted = {k: f"{x.dtype}[{','.join(map(str, x.shape))}]" for k, x in arrays.items()}
        if entry[what] != wanted:
            raise ModelError(
                f"{path} speaks another vocabulary: expected the {what} {wanted}, got {entry[what]}"
                " — export the model anew with this version of rtserver"
            )


def bind(session: Any, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
    """What runs `session` on these very arrays: nothing is copied and nothing is made per run."""
    binding = session.io_binding()
    for k, x in inputs.items():
        binding.bind_input(k, "cpu", 0, x.dtype.type, list(x.shape), x.ctypes.data)
    for k, x in outputs.items():
        binding.bind_output(k, "cpu", 0, x.dtype.type, list(x.shape), x.ctypes.data)

    def run(_alive: tuple[Arrays, Arrays] = (inputs, outputs)) -> None:  # the binding holds bare pointers to them
        session.run_with_iobinding(binding)

    return run
