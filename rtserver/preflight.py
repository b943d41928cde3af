"""What happens before a show, in a process of its own: check every song against its graph, parse its score, warm the kernels.

``python -m rtserver.preflight`` reads `Orders` as JSON from its standard input and leaves ``plan.json`` and, if there is a score,
``score.npz`` in each song's folder. ``python -m rtserver.preflight --warm`` fills the kernel cache and ends. The supervisor stays
small and never imports numba; what can fail slowly or loudly fails here.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tqdm import tqdm

from rtserver.config import Config, parse
from rtserver.errors import ConfigError, RtserverError
from rtserver.plan import Plan
from rtserver.shared.session import Setup
from rtserver.show import Song
from rtserver.wire.zeromq import Sockets
from rtserver.zoo import verified_file

SCORE_FILE = "score.npz"


class Orders(msgspec.Struct, frozen=True):
    """What the process is to look at. `ports`: also whether the ZeroMQ endpoints are free."""

    names: list[str]
    configs: list[Config]
    folders: list[str]
    ports: bool


@dataclass(frozen=True)
class Prepared:
    """A song that has passed: its plan, and the folder with its parsed score."""

    song: Song
    plan: Plan
    folder: Path

    def setup(self, run_folder: Path) -> Setup:
        """What the roles of a deck are told."""
        score = self.folder / SCORE_FILE
        latencies = {output.name: output.latency for output in self.plan.outputs}
        return Setup(self.song.config, str(run_folder), str(score) if score.exists() else "", self.plan.tracks, self.song.name, latencies)


class Preflight:
    """A preflight that runs.

    Parameters
    ----------
    songs : list of Song
    folder : Path
        Receives a folder for each song.
    ports : bool
        Whether to look if the endpoints are free; not while our own server holds them.
    """

    def __init__(self, songs: list[Song], folder: Path, ports: bool = True) -> None:
        self._songs = songs
        self._folders = [folder / f"song{k}" for k in range(len(songs))]
        for path in self._folders:
            path.mkdir(parents=True, exist_ok=True)
        orders = Orders([song.name for song in songs], [song.config for song in songs], list(map(str, self._folders)), ports)
        self._input = folder / "orders.json"
        self._input.write_bytes(msgspec.json.encode(orders))
        self._errors = folder / "preflight.txt"
        with self._input.open("rb") as stdin, self._errors.open("wb") as stderr:
            command = [sys.executable, "-m", "rtserver.preflight"]
            self._process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def result(self) -> list[Prepared]:
        """Wait for the end. Raises what it found: `ConfigError` or `RtserverError`."""
        status = self._process.wait()
        message = self._errors.read_text(errors="replace").strip()
        if status == 2:
            raise ConfigError("", message)
        if status != 0:
            raise RtserverError(message or f"preflight ended with status {status}")
        if message:
            print(message, file=sys.stderr)
        plans = [msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan) for folder in self._folders]
        return [Prepared(*three) for three in zip(self._songs, plans, self._folders, strict=True)]

    def cancel(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def preflight(songs: list[Song], folder: Path) -> list[Prepared]:
    """Run a preflight to its end. Raises what it found: `ConfigError` or `RtserverError`."""
    return Preflight(songs, folder).result()


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
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    name = ""
    try:
        for song, config, folder in zip(orders.names, orders.configs, orders.folders, strict=True):
            name = song
            plan = check(config, Path(folder))
            (Path(folder) / "plan.json").write_bytes(msgspec.json.encode(plan))
        wire = orders.configs[0].wire
        if orders.ports and wire.enabled:
            Sockets(wire, "", 0).close()  # a taken port is found now, not by a gateway that cannot start
    except RtserverError as error:
        print(f"song {name!r}: {error}" if len(orders.names) > 1 else error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
