#!/usr/bin/env bash
# What `make test` runs: ruff, pyright in strict mode, all tests. Tests that only compute run beside those that run in real time and mostly
# wait, and give way to them: at the lowest priority they take only what is left of the processors.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
computing=(tests/contract tests/dsp tests/following tests/generation tests/models tests/separation tests/test_kernels.py)

"$bin/ruff" check .
"$bin/ruff" format --check .

said=$(mktemp)
set -m # a process group of its own, to end it with us
{
    nice -n 19 "$bin/pyright"
    nice -n 19 "$bin/pytest" "${computing[@]}"
} >"$said" 2>&1 &
beside=$!
set +m
trap 'kill -- "-$beside" 2>/dev/null || true; rm -f "$said"' EXIT

failed=0
"$bin/pytest" "${computing[@]/#/--ignore=}" || failed=1
wait "$beside" || failed=1
echo "== pyright, ${computing[*]}"
cat "$said"
exit "$failed"
