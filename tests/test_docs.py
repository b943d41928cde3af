"""What the documents say is so: links lead somewhere, examples work, tables are what the code computes."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

import pytest

from rtserver import cli
from rtserver.config import Audio, Config, parse
from rtserver.dsp.cqt import BINS_PER_OCTAVE, Cqt
from rtserver.dsp.features import window_sizes
from rtserver.dsp.mel import window_size as mel_window_size
from rtserver.node import Spec
from rtserver.pipeline import build, plan_of

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("rtserver/**/*.md"), *ROOT.glob("models/**/*.md"))
)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, part = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{path.relative_to(ROOT)} links to {target}"
        if part:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in {anchor(h) for h in headings}, f"{path.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_example_configurations_are_valid(path: Path) -> None:
    for text in fenced(path.read_text(encoding="utf-8"), "toml"):
        parse(tomllib.loads(text))


def test_the_readme_begins_with_what_sets_everything_up() -> None:
    commands = " ".join(fenced(README, "sh"))
    assert "make demo" in commands
    assert "make test" in commands
    assert README.index("make demo") < README.index("## ")


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")))
        assert named <= targets, path.name


def test_the_readme_names_every_command_and_no_other() -> None:
    (commands,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    named = set(re.findall(r"^\| `rtserver (\w+)", README, re.MULTILINE))
    assert named == set(commands.choices)


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", d).group() for d in (*project["dependencies"], *project["optional-dependencies"]["dev"])}  # type: ignore[union-attr]
    reasons = set(re.findall(r"^\| ([\w-]+) \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE))
    assert declared <= reasons


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", d).group() for d in (*project["dependencies"], *project["optional-dependencies"]["dev"])}  # type: ignore[union-attr]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert declared | {"torch", "onnx"} <= {line.partition("==")[0] for line in lines}


def test_the_table_of_latencies_is_what_is_computed() -> None:
    text = (ROOT / "docs" / "realtime.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \|$", text, re.MULTILINE)
    graphs = build(Config())  # the same for every block size
    for block_size, frames, milliseconds in rows:
        made = plan_of(Config(audio=Audio(block_size=int(block_size))), graphs)
        assert {o.latency for o in made.outputs} == {int(frames)}
        assert float(milliseconds) == round(int(frames) / 48, 1)
    assert len(rows) == 5


def test_the_table_of_feature_delays_is_what_is_computed() -> None:
    text = (ROOT / "docs" / "features.md").read_text()
    rows = re.findall(r"^\| `(.+)\| (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \|$", text, re.MULTILINE)
    for i, rate in enumerate((44100, 48000)):
        cqt = Cqt(rate)
        cqt.prepare(Spec.signal(rate, 1, cqt.hop_size))
        long, middle, short = (size // 2 for size in window_sizes(rate))
        octaves = [round(float(delay)) for delay in cqt.delays[::BINS_PER_OCTAVE]]
        assert [int(row[1 + 2 * i]) for row in rows] == [long, middle, short, long, mel_window_size(rate) // 2, *octaves]
        exact = [long, middle, short, long, mel_window_size(rate) // 2, *cqt.delays[::BINS_PER_OCTAVE].tolist()]
        assert [row[2 + 2 * i] for row in rows] == [f"{delay / rate * 1e3:.1f}" for delay in exact]
