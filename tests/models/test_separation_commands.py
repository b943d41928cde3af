"""The command lines of the page on training are ones that the programs take."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")
pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): the export is not tested")

PAGES = ("docs/separation-training.md", "models/README.md")
ROOT = Path(__file__).parents[2]


def commands() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
            said = re.match(r"(?:torchrun .*|python )-m (models\.separation\.\w+) (.*)", line)
            if said is not None:
                found.append((said[1], said[2]))
    return found


@pytest.mark.parametrize(("module", "arguments"), commands())
def test_a_command_of_the_docs_is_taken(module: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    parser: argparse.ArgumentParser = importlib.import_module(module).parser()
    given, more = parser.parse_known_args(shlex.split(arguments, comments=True))
    if module == "models.separation.recipe":
        importlib.import_module("models.separation.train").parser().parse_args(["POOL", "--out", "RUN", *more])
    else:
        assert not more
    if hasattr(given, "batch"):
        assert given.batch % max(1, given.workers) == 0, "streams are shared out evenly"


def test_there_are_commands_to_take() -> None:
    named = {module.rpartition(".")[2] for module, _ in commands()}
    assert named == {"pool", "recordings", "train", "evaluate", "export", "recipe"}
