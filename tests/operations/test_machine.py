"""What the machine is, and that looking leaves it as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtserver.operations import machine


def test_asking_for_priority_leaves_the_process_as_it_was() -> None:
    if not hasattr(os, "sched_getscheduler"):
        pytest.skip("this system has no SCHED_FIFO")
    before = os.sched_getscheduler(0)
    machine.realtime_priority()
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(("names", "states"), [([], []), (["performance", "performance"], ["ok"]), (["performance", "save"], ["warn"])])
def test_a_processor_that_slows_down_is_found(tmp_path: Path, names: list[str], states: list[str]) -> None:
    for i, name in enumerate(names):
        (tmp_path / f"cpu{i}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{i}" / "cpufreq" / "scaling_governor").write_text(name + "\n")
    assert [check.state for check in machine.governors(tmp_path)] == states


@pytest.mark.parametrize(("name", "state"), [("tsc", "ok"), ("hpet", "warn")])
def test_a_slow_clock_is_found(tmp_path: Path, name: str, state: str) -> None:
    (tmp_path / "source").write_text(name + "\n")
    assert machine.clock_source(tmp_path / "source").state == state


def test_a_cold_kernel_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cold = machine.kernel_cache()
    assert cold.state == "warn"
    folder = Path(cold.found.removeprefix("cold: "))
    folder.mkdir(parents=True)
    (folder / "kernel.nbi").touch()
    assert machine.kernel_cache().state == "ok"
