"""What happens before a show, in a process of its own: check the configuration against the graph, parse the score, warm the kernels.

``python -m rtserver.preflight FOLDER`` reads a configuration as JSON from its standard input, leaves ``FOLDER/plan.json`` and, if
there is a score, ``FOLDER/score.npz``. ``python -m rtserver.preflight --warm`` fills the kernel cache and ends. The supervisor stays
small and never imports numba; what can fail slowly or loudly fails here.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from tqdm import tqdm

from rtserver.config import Config, parse
from rtserver.errors import ConfigError, RtserverError
from rtserver.plan import Plan
from rtserver.wire.zeromq import Sockets
from rtserver.zoo import verified_file

SCORE_FILE = "score.npz"


def preflight(config: Config, folder: Path) -> Plan:
    """Run the preflight as a process and return its plan. Raises what it found: `ConfigError` or `RtserverError`."""
    command = [sys.executable, "-m", "rtserver.preflight", str(folder)]
    done = subprocess.run(command, input=msgspec.json.encode(config), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    message = done.stderr.decode(errors="replace").strip()
    if done.returncode == 2:
        raise ConfigError("", message)
    if done.returncode != 0:
        raise RtserverError(message or f"preflight ended with status {done.returncode}")
    if message:
        print(message, file=sys.stderr)
    return msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)


def check(config: Config, folder: Path) -> Plan:
    """The same within this process: build the graph, compile and call every kernel once, parse the score."""
    from rtserver.kernels import cache_folder, warming

    with warming():
        from rtserver.pipeline import build, plan_of

        importlib.import_module("rtserver.audio.callback")
        graphs = build(config)
        plan = plan_of(config, graphs)
    if config.generation.enabled:
        verified_file(config.generation.model)
    if config.score.file:
        from rtserver.following.follower import METHODS, Follower
        from rtserver.following.parsed import parsed_score

        if config.following.method not in METHODS:
            raise ConfigError("following.method", f"no method {config.following.method!r}; known: {', '.join(METHODS)}")
        score = parsed_score(config.score.file, cache_folder().parent.parent / "scores")
        for warning in score.warnings:
            print(f"rtserver: {config.score.file}: {warning}", file=sys.stderr)
        score.to_npz(folder / SCORE_FILE)
        with warming():
            Follower(score, config.following.method).prepare(graphs[config.followed_input].spec("features"))
    return plan


def warm() -> None:
    """Compile every kernel that a usual show needs: all presets at 44.1, 48 and 96 kHz, the follower, the callbacks."""
    from rtserver.demo import SCORE
    from rtserver.dsp.hpss import PRESETS

    importlib.import_module("rtserver.audio.tape")
    with tempfile.TemporaryDirectory() as scratch:
        shows = [{"sample_rate": rate, "preset": preset} for rate in (44100, 48000, 96000) for preset in PRESETS]
        for show in tqdm(shows, desc="kernels", disable=not sys.stderr.isatty()):
            audio, separation = {"sample_rate": show["sample_rate"]}, {"preset": show["preset"]}
            score = {"score": {"file": str(SCORE)}} if show is shows[0] else {}  # the follower's kernels know neither
            check(parse({"audio": audio, "separation": separation} | score), Path(scratch))


def main() -> int:
    """Entry point of the process: 0, or 2 for a wrong configuration, or 1 for anything else, with one line on stderr."""
    if sys.argv[1:] == ["--warm"]:
        warm()
        return 0
    folder = Path(sys.argv[1])
    try:
        config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
        plan = check(config, folder)
        if config.wire.enabled:
            Sockets(config.wire, "", 0).close()  # a taken port is found now, not by a gateway that cannot start
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except RtserverError as error:
        print(error, file=sys.stderr)
        return 1
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
