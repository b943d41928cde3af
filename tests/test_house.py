"""The rules of the house: who imports whom, how long a file may be, and that nothing in it belongs to one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rtserver"
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in PACKAGE.rglob("*.py")}
CORE = ("rtserver.dsp", "rtserver.following", "rtserver.generation")  # functional core: knows no device, no socket, no wall clock
LIGHT = (
    "cli",
    "devices",
    "operations.doctor",
    "roles.supervisor",
    "roles.midi",
    "roles.standby",
    "roles.cables",
    "roles.gateway",
    "roles.recorder",
    "roles.metrics",
    "monitor.source",
)  # numba: 0.7 s and 92 MB each
MAX_LINES = 400
READABLE = sorted(path for folder in ("rtserver", "clients", "benchmarks", "tools", "models") for path in (ROOT / folder).rglob("*.py"))


@cache
def imports(module: str) -> frozenset[str]:
    """What `imported` says of a module of rtserver."""
    return imported(MODULES[module])


def imported(path: Path) -> frozenset[str]:
    """Everything that a file imports anywhere in it, by full name; of ``from a import b`` both ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def reached(module: str) -> set[str]:
    """All modules of rtserver that importing `module` can bring in."""
    seen, todo = set[str](), [module]
    while todo:
        name = todo.pop()
        if name in MODULES and name not in seen:
            seen.add(name)
            todo += imports(name)
    return seen


def tops(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)}


def tracked() -> list[Path]:
    """Files of the repository, whether committed yet or not."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is unknown")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(CORE)])
def test_the_core_reaches_no_device_no_socket_and_no_clock(module: str) -> None:
    for name in reached(module):
        assert not tops(name) & {"sounddevice", "zmq", "threading", "time", "multiprocessing", "socket"}, f"{module} reaches {name}"


@pytest.mark.parametrize("module", MODULES)
def test_the_training_side_is_never_imported(module: str) -> None:
    assert not tops(module) & {"models", "torch", "tests", "librosa"}


@pytest.mark.parametrize("path", sorted((ROOT / "models").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_training_side_imports_no_benchmarks(path: Path) -> None:
    """They import it."""
    assert "benchmarks" not in {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("kind", ["following", "generation", "separation"])
def test_an_export_needs_no_other_export(kind: str) -> None:
    """What they share lies above them."""
    others = {f"models.{other}.{name}" for other in ("following", "generation", "separation") for name in ("export", "int8")}
    assert not imported(ROOT / "models" / kind / "export.py") & others


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("rtserver.dsp")])
def test_signal_processing_knows_nothing_of_scores_and_roles(module: str) -> None:
    above = ("rtserver.following", "rtserver.generation", "rtserver.roles", "rtserver.audio", "rtserver.wire", "rtserver.midi")
    assert not [name for name in reached(module) if name.startswith(above)]


@pytest.mark.parametrize("module", [m for m in MODULES if m != "rtserver.kernels"])
def test_numba_is_imported_by_kernels_alone(module: str) -> None:
    """Else the cache folder may not be set before numba reads it."""
    assert "numba" not in tops(module)


@pytest.mark.parametrize("module", LIGHT)
def test_light_processes_load_nothing_heavy(module: str) -> None:
    code = f"import sys, rtserver.{module}; print(*{{'numba', 'onnxruntime', 'partitura', 'scipy', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", READABLE, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_readable_at_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_nothing_belongs_to_one_machine() -> None:
    """No home folder, no workplace, no package index in any text of the repository."""
    private = re.compile(
        "|".join([r"(?<![\w.])/wor" + "k/", r"/ho" + "me/", r"/ro" + "ot/", r"\.\./sha" + "red", r"pypi" + r"\.org", r"python" + "hosted"])
    )
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = private.search(text)
        assert found is None, f"{path.relative_to(ROOT)} says {found.group()!r}" if found else ""


def test_nothing_is_left_to_do_later() -> None:
    words = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b")
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml", ".sh"}:
            found = words.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(ROOT)} says {found.group()!r}" if found else ""


def test_every_package_that_setup_installs_is_pinned() -> None:
    """Indirect dependencies too, as far as this system needs them; torch brings its own where it is installed."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if not line.startswith("#")}
    todo, seen = [("rtserver", "dev"), ("torch", ""), ("onnx", "")], set[tuple[str, str]]()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            assert name in {"torch", "onnx"}, f"{name} is not installed: run make setup"
            continue
        for r in requirements:
            if r.marker is None or r.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(r.name), e) for e in (r.extras or {""})]
                todo.append((canonicalize_name(r.name), ""))
    assert {name for name, _ in seen} - {"rtserver"} <= pinned


WITHOUT_TORCH = """
import sys, pytest
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in ("torch", "onnx", "museval") else find(name, *more)
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests"]))
"""


def test_without_the_training_side_every_test_is_found_or_skipped() -> None:
    """As `make test` has it before `make setup-train`."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "torch is not installed" in done.stdout
