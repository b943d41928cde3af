#!/usr/bin/env bash
# What `make setup` needs from the machine. `setup.sh system`: the packages in $PACKAGES. `setup.sh python`: an environment in $VENV.
set -euo pipefail

fail() {
    echo "setup: $1" >&2
    exit 1
}

# Installs Debian packages as root or through sudo; says what to do where neither is possible.
install_packages() {
    local as=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "missing: $*. Run as root: apt-get install --no-install-recommends $*"
        as=(sudo)
    fi
    echo "setup: installing $*"
    "${as[@]}" apt-get update -qq || echo "setup: apt-get update failed; trying with the package lists as they are" >&2
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install: $*"
}

# A Python that rtserver supports and that can make an environment (Debian ships ensurepip in python3-venv).
find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3}; do
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

system() {
    local missing=() name
    if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
        for name in $PACKAGES; do
            dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
        done
        if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
        return
    fi
    for name in jackd fluidsynth; do
        command -v "$name" >/dev/null || missing+=("$name")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        fail "no apt-get here and these programs are missing: ${missing[*]}. Install PortAudio, JACK and FluidSynth" \
            "(macOS: brew install portaudio jack fluid-synth), then run make again"
    fi
}

python() {
    if [ -x "$VENV/bin/python" ] &&
        "$VENV/bin/python" -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
        return
    fi
    local found
    found=$(find_python)
    if [ -z "$found" ] && [ -z "${PYTHON:-}" ] && command -v apt-get >/dev/null; then
        install_packages python3-venv
        found=$(find_python)
    fi
    [ -n "$found" ] || fail "no Python 3.11 or 3.12 with venv found. Install one, or name it: make setup PYTHON=/path/to/python3.12"
    echo "setup: $VENV with $("$found" --version)"
    "$found" -m venv --clear "$VENV"
}

case "${1:-}" in
system | python) "$1" ;;
*) fail "usage: setup.sh system|python" ;;
esac
