"""What happens before a show, in a process of its own: check every song against its graph, parse its score, warm the kernels.

``python -m rtserver.preflight`` reads `Orders` as JSON from its standard input and leaves ``verdict.json`` and, if there is a score,
``score.npz`` in each song's folder, with ``reference.npz`` beside it where the follower needs one. ``python -m rtserver.preflight --warm``
fills the kernel cache and ends. The supervisor stays small and never imports numba; what can fail slowly or loudly fails here. Songs that
passed before, unchanged, are not looked at again.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from tqdm import tqdm

from rtserver.config import Config, parse
from rtserver.errors import ConfigError, RtserverError, ScoreError
from rtserver.following.naming import COMMANDS, check_places, quarter_of
from rtserver.following.score import Score
from rtserver.node import Spec
from rtserver.plan import Plan
from rtserver.separation.model import NETWORK_HOP, WINDOW_SIZE, read_model
from rtserver.shared.session import Setup
from rtserver.show import Song
from rtserver.verdict import REFERENCE_FILE, SCORE_FILE, WHOLE_FILE, Verdict, keep, read_verdict, recall, write_verdict
from rtserver.wire.zeromq import Sockets
from rtserver.zoo import verified_file


class Orders(msgspec.Struct, frozen=True):
    """What the process is to look at."""

    names: list[str]
    configs: list[Config]
    folders: list[str]


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
    """A preflight that runs, unless every song has passed before.

    Parameters
    ----------
    songs : list of Song
    folder : Path
        Receives a folder for each song.
    """

    def __init__(self, songs: list[Song], folder: Path) -> None:
        self._songs = songs
        self._folders = [folder / f"song{k}" for k in range(len(songs))]
        for path in self._folders:
            path.mkdir(parents=True, exist_ok=True)
        self._errors = folder / "preflight.txt"
        new = [(song, path) for song, path in zip(songs, self._folders, strict=True) if not recall(song.config, path)]
        self._process = self._start(new, folder) if new else None

    def _start(self, songs: list[tuple[Song, Path]], folder: Path) -> subprocess.Popen[bytes]:
        orders = Orders([song.name for song, _ in songs], [song.config for song, _ in songs], [str(path) for _, path in songs])
        path = folder / "orders.json"
        path.write_bytes(msgspec.json.encode(orders))
        with path.open("rb") as stdin, self._errors.open("wb") as stderr:
            command = [sys.executable, "-m", "rtserver.preflight"]
            return subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._process is None or self._process.poll() is not None

    def result(self) -> list[Prepared]:
        """Wait for the end. Raises what it found: `ConfigError`, `ModelError` or `RtserverError`."""
        if self._process is not None:
            status = self._process.wait()
            message = self._errors.read_text(errors="replace").strip()
            if status == 2:
                raise ConfigError("", message)
            if status != 0:
                raise RtserverError(message or f"preflight ended with status {status}")
        prepared: list[Prepared] = []
        for song, folder in zip(self._songs, self._folders, strict=True):
            verdict = read_verdict(folder)
            if verdict is None:
                raise RtserverError(f"preflight: {folder} should hold the verdict of song {song.name!r}, but it is gone; start again")
            if song.config.generation.enabled:
                verified_file(song.config.generation.model)
            if song.config.score.file and song.config.following.model:
                verified_file(song.config.following.model)
            for model in song.config.separation_models:
                read_model(model)
            for warning in verdict.warnings:
                print(f"rtserver: {song.config.score.file}: {warning}", file=sys.stderr)
            prepared.append(Prepared(song, verdict.plan, folder))
        return prepared

    def cancel(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def preflight(songs: list[Song], folder: Path) -> list[Prepared]:
    """Run a preflight to its end, and see whether the endpoints are free. Raises what it found: `ConfigError` or `RtserverError`."""
    prepared = Preflight(songs, folder).result()
    wire = songs[0].config.wire
    if wire.enabled:
        Sockets(wire, "", 0).close()  # a taken port is found now, not by a gateway that cannot start
    return prepared


def check(config: Config, folder: Path) -> Verdict:
    """The same within this process: build the graph, compile and call every kernel once, parse the score into `folder`."""
    from rtserver.kernelcache import cache_folder, warming

    with warming():
        from rtserver.pipeline import build, plan_of

        importlib.import_module("rtserver.audio.callback")
        graphs = build(config)
        plan = plan_of(config, graphs)
    if config.generation.enabled:
        from rtserver.generation.settings import check_generation_model

        check_generation_model(config.generation)
    warnings: list[str] = []
    if config.score.file:
        from rtserver.following.follower import HEARS_KEYS, METHODS, Follower
        from rtserver.following.parsed import parsed_score
        from rtserver.references import check_method, make_reference

        if config.following.method not in METHODS:
            raise ConfigError("following.method", f"no method {config.following.method!r}; known: {', '.join(METHODS)}")
        if config.following.keys and config.following.method not in HEARS_KEYS:
            raise ConfigError("following.keys", f"the method {config.following.method!r} hears no keys; expected {', '.join(HEARS_KEYS)}")
        check_method(config.following)
        wanted = config.score
        kept = cache_folder().parent.parent / "scores"
        score = parsed_score(wanted.file, kept, wanted.parts, tuning_hz=wanted.tuning_hz, transpose=wanted.transpose, cents=wanted.cents)
        warnings += score.warnings
        score.to_npz(folder / SCORE_FILE)
        if config.generation.enabled:
            whole = score
            if wanted.parts or wanted.transpose:
                whole = parsed_score(wanted.file, kept)
                whole.to_npz(folder / WHOLE_FILE)
            check_parts(config, whole)
        check_cues(config, score)
        reference = make_reference(score, config.following)
        if reference is not None:
            reference.to_npz(folder / REFERENCE_FILE)
        with warming():
            Follower(score, config.following.method, reference).prepare(graphs[config.followed_input].spec("features"))
    return Verdict(plan, warnings)


def check_parts(config: Config, whole: Score) -> None:
    """Whether the score has the parts that are to be played. Raises `ConfigError`."""
    from rtserver.following.parse import choose

    try:
        choose(list(whole.parts), tuple(config.generation.parts))
    except ScoreError as error:
        raise ConfigError("generation.parts", str(error)) from None


def check_cues(config: Config, score: Score) -> None:
    """Whether the score has the places of the cues. Raises `ConfigError`."""
    for k, cue in enumerate(config.cues.cue):
        try:
            quarter_of(score, cue.at)
            check_places(score, cue.command, cue.value if cue.command in COMMANDS else None)
        except ScoreError as error:
            raise ConfigError(f"cues.cue[{k}]", f"{cue.name!r}: {error}") from None


def warm() -> None:
    """Compile every kernel that a usual show needs: all presets at 44.1, 48 and 96 kHz, the follower, the callbacks; and kernel additive
    modelling as it is by default, in mono and stereo, at 44.1 and 48 kHz."""
    from rtserver.demo import SCORE
    from rtserver.dsp.hpss import PRESETS, Hpss
    from rtserver.dsp.kam import Kam

    importlib.import_module("rtserver.audio.tape")
    for hop in (NETWORK_HOP // 2, NETWORK_HOP):  # the medians beside a network
        spectrum = Spec(48000, hop, (2, WINDOW_SIZE // 2 + 1), np.dtype(np.complex64))
        Hpss(15, 17, 2 * (NETWORK_HOP // hop)).prepare(spectrum)
    for chosen in (preset.at(48000) for preset in PRESETS.values()):  # at 44.1 kHz they are the same
        for n_channels in (1, 2):
            spectrum = Spec(48000, chosen.hop_size, (n_channels, chosen.window_size // 2 + 1), np.dtype(np.complex64))
            Kam(chosen.n_past, chosen.n_around, chosen.past_step).prepare(spectrum)
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
    from rtserver.separation.graph import check_paces

    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    name = ""
    try:
        for song, config, folder in zip(orders.names, orders.configs, orders.folders, strict=True):
            name = song
            write_verdict(check(config, Path(folder)), Path(folder))
            check_paces(config)
            keep(config, Path(folder))
    except RtserverError as error:
        print(f"song {name!r}: {error}" if len(orders.names) > 1 else error, file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
