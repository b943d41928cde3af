#!/usr/bin/env bash
# What `make test` runs: ruff, pyright in strict mode, all tests, in three rows side by side. Two run in real time and mostly wait. The third
# only computes and gives way to them: at the lowest priority it takes only what is left of the processors.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
computing=(tests/contract tests/dsp tests/following tests/generation tests/models tests/separation tests/test_kernels.py)
live=(tests/live tests/midi)

"$bin/ruff" check .
"$bin/ruff" format --check .

said=$(mktemp -d)
rows=()
trap 'kill -- "${rows[@]/#/-}" 2>/dev/null || true; rm -rf "$said"' EXIT
set -m # a process group for each row, to end it with us
{
    nice -n 19 "$bin/pyright"
    nice -n 19 "$bin/pytest" "${computing[@]}"
} >"$said/computing" 2>&1 &
rows+=($!)
"$bin/pytest" "${live[@]}" >"$said/live" 2>&1 &
rows+=($!)
set +m

failed=0
"$bin/pytest" "${computing[@]/#/--ignore=}" "${live[@]/#/--ignore=}" || failed=1
for row in "${rows[@]}"; do wait "$row" || failed=1; done
echo "== pyright, ${computing[*]}"
cat "$said/computing"
echo "== ${live[*]}"
cat "$said/live"
exit "$failed"
