"""Run the fault matrix and write its table into docs/faults.md.

    python tools/fault_table.py [--rows FILE]

Every test in tests/faults fills a row with what it measured: each fault once, on this machine. With ``--rows`` the rows of an earlier
run are taken. Without it the tests run, and the rows are kept in benchmarks/results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- table: tools/fault_table.py -->", "<!-- end of the table -->"
GROUPS = {
    "roles": "A role dies or hangs",
    "ends": "The server ends",
    "device": "The audio server",
    "machine": "The machine",
    "input": "What comes in",
    "files": "What is loaded and written",
    "midi_malformed": "What a keyboard sends",
    "dense_playing": "The performer plays densely",
    "play_midi": "A client that plays on a port of its own",
}

sys.path.insert(0, str(ROOT / "benchmarks"))

from machine import machine, write_result  # noqa: E402


def run() -> dict[str, Any]:
    """The rows of a fresh run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "faults")]
        status = subprocess.run(command, env=os.environ | {"FAULT_REPORT": str(report)}, cwd=ROOT, check=False).returncode
        if status:
            raise SystemExit("some faults have failed: the table is left as it was")
        rows = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    return {"rows": rows, "date": datetime.date.today().isoformat(), "machine": machine()}


def seconds(value: float | None) -> str:
    """A duration for people: below a millisecond it is none."""
    if value is None:
        return "–"
    if value < 0.001:
        return "0"
    return f"{value * 1e3:.0f} ms" if value < 1.0 else f"{value:.1f} s"


def table(result: dict[str, Any]) -> str:
    """The section between the marks."""
    host = result["machine"]
    where = f"{host['cores']} cores of {host['processor']}, {host['system']}"
    lines = [f"{result['date']}, {where}, JACK's dummy driver, period 1024 at 48 kHz.", ""]
    groups = sorted({row["group"] for row in result["rows"]}, key=lambda g: list(GROUPS).index(g))
    for group in groups:
        lines += [f"### {GROUPS[group]}", ""]
        lines += ["| fault | sound goes on | gap | note hangs | lost | clients learn | back after |", "|---|---|---|---|---|---|---|"]
        for row in result["rows"]:
            if row["group"] == group:
                cells = [row["fault"], row["audio"] or "–", seconds(row["gap_s"]), seconds(row["hang_s"])]
                cells += [row["lost"] or "–", row["learned"] or "–", seconds(row["back_s"])]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run, or take the rows given, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, help="benchmarks/results/faults-DATE.json of an earlier run")
    args = parser.parse_args()
    if args.rows:
        result = json.loads(args.rows.read_text(encoding="utf-8"))
    else:
        result = run()
        write_result("faults", result)
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(result)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
