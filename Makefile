# make demo      sets everything up and runs the demonstration
# make test      sets everything up and runs all checks and tests
# make setup     system packages (Debian) and the environment in .venv; a second call does nothing and needs no network
# make setup-train   the same, with torch, onnx and museval for the training side in models/
# make bench     figures of this machine, by the scripts in benchmarks/
# make clean     removes what was built and cached; .venv stays (rm -r .venv to start over)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
BENCHMARKS := callback fft hpss performer scores start watch  # those that need no data beside the repository
PACKAGES := libportaudio2 jackd2 fluidsynth fluid-soundfont-gm

.PHONY: demo test setup setup-train bench clean

demo: setup
	$(BIN)/rtserver demo

test: setup
	VENV="$(VENV)" bash tools/test.sh

bench: setup
	for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

setup: $(VENV)/.setup

# The stamps lie in .venv, so that removing it forgets them too. torch comes into the same environment and nothing ever takes it out.
setup-train: setup $(VENV)/.setup-train

$(VENV)/.setup: $(VENV)/.python $(VENV)/.system constraints.txt pyproject.toml
	@echo "setup: installing rtserver and its tools into $(VENV)"
	$(PIP) setuptools
	$(PIP) --no-build-isolation -e '.[dev]'
	@echo "setup: compiling kernels"
	$(BIN)/python -m rtserver.preflight --warm
	@touch $@

$(VENV)/.setup-train: constraints.txt | $(VENV)/.setup
	@echo "setup: adding torch, onnx and museval for training"
	$(PIP) torch onnx museval
	@touch $@

$(VENV)/.python: tools/setup.sh
	@PACKAGES="$(PACKAGES)" VENV="$(VENV)" bash tools/setup.sh python
	@touch $@

$(VENV)/.system: tools/setup.sh | $(VENV)/.python
	@PACKAGES="$(PACKAGES)" VENV="$(VENV)" bash tools/setup.sh system
	@touch $@

clean:
	rm -rf build dist *.egg-info demo-output .pytest_cache .ruff_cache .hypothesis
	find rtserver models tests tools clients benchmarks -name __pycache__ -prune -exec rm -rf {} +
