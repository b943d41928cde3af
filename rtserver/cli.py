"""The command line. Exit codes: 0 done, 1 failed with one clear line on stderr, 2 bad usage or bad configuration.

Nothing heavy is imported before the command that needs it: ``rtserver --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserver import __version__
from rtserver.config import Config, Score, load
from rtserver.errors import ConfigError, DeviceError, RtserverError

if TYPE_CHECKING:
    from tqdm import tqdm

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = parser().parse_args(argv)
    command: Callable[[Arguments], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        return _say(arguments, error, 2)
    except (RtserverError, OSError) as error:
        return _say(arguments, error, 1)
    except KeyboardInterrupt:
        return _say(arguments, "interrupted", 1)


def _say(arguments: Arguments, message: object, code: int) -> int:
    print(f"rtserver {arguments.name}: {message}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="rtserver", description="Low-latency real-time audio server: separates, follows the score and plays along.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"rtserver {__version__}")
    commands = top.add_subparsers(dest="name", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Arguments], int], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False)
        sub.set_defaults(command=command)
        return sub

    sub = add("run", run, "run live: audio device (or JACK), MIDI ports, ZeroMQ; Ctrl-C ends it and leaves no note sounding")
    _add_config(sub)

    sub = add("render", render, "run a file through the same graph without a device")
    sub.add_argument("input", type=Path, metavar="IN.wav")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for <output>.wav and events.jsonl")
    sub.add_argument("-c", "--config", type=Path, metavar="CONFIG.toml")
    sub.add_argument("--score", type=Path, metavar="SCORE", help="MusicXML or MIDI score to follow")

    sub = add("separate", separate, "split a file into harmonic.wav and percussive.wav")
    sub.add_argument("input", type=Path, metavar="IN.wav")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    sub.add_argument("--preset", default="default", metavar="NAME", help="stage, default or quality (default: %(default)s)")

    sub = add("follow", follow, "follow a score through a recording or a MIDI performance, as if it were live")
    sub.add_argument("score", type=Path, metavar="SCORE")
    sub.add_argument("input", type=Path, metavar="IN.wav|IN.mid")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.csv")
    sub.add_argument("--method", default="dixon", metavar="NAME", help="how to follow (default: %(default)s)")

    _add_perform(add("perform", perform, "let the network write notes into a MIDI file"))

    sub = add("latency", latency, "print the latency of every output, in frames, and what it is made of")
    _add_config(sub)
    _add_json(sub)

    _add_json(add("devices", devices, "list audio devices and MIDI ports"))

    sub = add("doctor", doctor, "check this machine: what to mend before the show")
    _add_config(sub)
    _add_json(sub)

    sub = add("demo", demo, "play the built-in piece into a live server and show what it does")
    sub.add_argument(
        "-o", "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="folder for the results (default: %(default)s)"
    )
    return top


def _add_config(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml", help="without it every setting has its default")


def _add_json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON for programs")


def _add_perform(sub: argparse.ArgumentParser) -> None:
    defaults = Config().generation
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mid")
    sub.add_argument("--notes", type=int, default=64, metavar="N", help="how many (default: %(default)s)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed writes the same notes (default: %(default)s)")
    sub.add_argument("--prompt", type=Path, metavar="IN.mid", help="what to continue")
    sub.add_argument("--tempo", type=float, metavar="BPM", help="quarters a minute (default: the prompt's, else 120)")
    sub.add_argument("--temperature", type=float, default=1.0, help="above 1 bolder, below 1 plainer (default: %(default)s)")
    sub.add_argument(
        "--top-p", type=float, default=defaults.top_p, help="share of the likeliest choices to draw from (default: %(default)s)"
    )
    sub.add_argument("--texture", default="unknown", help="unknown, line or chords (default: %(default)s)")
    limits = sub.add_argument_group("constraints, kept by every note")
    limits.add_argument("--scale", metavar="NAME", help='for example "C major", "F# dorian" (default: all twelve pitches)')
    limits.add_argument("--range", type=int, nargs=2, metavar=("LOW", "HIGH"), help="lowest and highest MIDI pitch")
    limits.add_argument("--polyphony", type=int, metavar="N", help="notes sounding at once, at most")
    limits.add_argument("--grid", type=int, metavar="TICKS", help="onsets on multiples of it; a quarter has 24 ticks")
    limits.add_argument("--min-dt", type=int, metavar="TICKS", help="shortest step between onsets; 1 forbids chords")
    limits.add_argument("--max-dt", type=int, metavar="TICKS", help="longest step between onsets")
    limits.add_argument("--min-duration", type=int, metavar="TICKS")
    limits.add_argument("--max-duration", type=int, metavar="TICKS")


LIMITS = ("scale", "polyphony", "grid", "min_dt", "max_dt", "min_duration", "max_duration")


def _config(arguments: Arguments) -> Config:
    return load(arguments.config) if arguments.config else Config()


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def progress(total: float | None, what: str, unit: str) -> tqdm[Any]:
    """A progress bar on stderr; silent where that is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=None, leave=False)


def _go_to(bar: tqdm[Any], total: float) -> None:
    bar.update(total - bar.n)


def run(arguments: Arguments) -> int:
    """``rtserver run``"""
    if sys.platform == "win32":
        raise DeviceError("Windows is not supported: the roles meet in memory and semaphores that it does not have")
    from rtserver.devices import find, require
    from rtserver.roles.supervisor import Supervisor
    from rtserver.roles.supervisor import run as run_server

    config = _config(arguments)
    # Later a missing device is waited for; at the start it is a mistake.
    found = find()
    require(found, config.audio.device, config.audio.client_name or config.name)
    if found.jack.running and found.jack.block_size != config.audio.block_size:
        print(
            f"rtserver: audio.block_size is {config.audio.block_size}, JACK's period is {found.jack.block_size}: blocks come in bursts,"
            " some may be late; set them alike",
            file=sys.stderr,
        )
    announced = False

    def announce(supervisor: Supervisor) -> bool:
        nonlocal announced
        if not announced and supervisor.ready:
            announced = True
            outputs = ", ".join(f"{o.name} {o.latency / config.audio.sample_rate * 1e3:.1f} ms" for o in supervisor.plan.outputs)
            control = f"; control at {config.wire.control}" if config.wire.enabled else ""
            print(f"rtserver: {config.name} is up: {outputs}{control}; Ctrl-C ends it", flush=True)
        return True

    return run_server(config, announce)


def separate(arguments: Arguments) -> int:
    """``rtserver separate``"""
    from rtserver.audio.file import info
    from rtserver.separation.offline import separate as split

    with progress(info(arguments.input).n_frames, "separate", " frames") as bar:
        files = split(arguments.input, arguments.output, arguments.preset, bar.update)
    print(*files, sep="\n")
    return 0


def perform(arguments: Arguments) -> int:
    """``rtserver perform``"""
    from rtserver.generation.constraints import Constraints
    from rtserver.generation.offline import perform as write

    limits: dict[str, Any] = {name: value for name in LIMITS if (value := getattr(arguments, name)) is not None}
    if arguments.range is not None:
        limits["low"], limits["high"] = arguments.range
    with progress(arguments.notes, "perform", " notes") as bar:
        write(
            arguments.output,
            notes=arguments.notes,
            seed=arguments.seed,
            prompt=arguments.prompt,
            constraints=Constraints(**limits),
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            texture=arguments.texture,
            tempo_bpm=arguments.tempo,
            progress=bar.update,
        )
    print(arguments.output)
    return 0


def latency(arguments: Arguments) -> int:
    """``rtserver latency``"""
    from rtserver.pipeline import build, plan_of

    config = _config(arguments)
    plan = plan_of(config, build(config))
    if arguments.json:
        _print_json({"sample_rate": plan.sample_rate, "outputs": plan.report()})
        return 0
    for output in plan.outputs:
        print(f"{output.name}: {output.latency} frames = {output.latency / plan.sample_rate * 1e3:.1f} ms")
        for term in output.terms:
            print(f"  {term.frames:6}  {term.cause}")
    print("The device's own input and output latency comes on top.")
    return 0


def devices(arguments: Arguments) -> int:
    """``rtserver devices``"""
    import msgspec

    from rtserver.devices import describe, find

    found = find()
    if arguments.json:
        _print_json(msgspec.to_builtins(found))
    else:
        print(describe(found))
    return 0


def doctor(arguments: Arguments) -> int:
    """``rtserver doctor``"""
    import msgspec

    from rtserver.doctor import describe, examine

    checks = examine(_config(arguments))
    if arguments.json:
        _print_json(msgspec.to_builtins(checks))
    else:
        print(describe(checks))
    failed = [check.name for check in checks if check.state == "fail"]
    return _say(arguments, f"to be mended: {', '.join(failed)}", 1) if failed else 0


def render(arguments: Arguments) -> int:
    """``rtserver render``"""
    import msgspec

    from rtserver.audio.file import info
    from rtserver.render import render as freewheel

    config = _config(arguments)
    if arguments.score is not None:
        config = msgspec.structs.replace(config, score=Score(file=str(arguments.score.resolve())))
    with progress(info(arguments.input).n_frames, "render", " frames") as bar:
        done = freewheel(arguments.input, arguments.output, config, lambda frame: _go_to(bar, frame))
    print(*done.files, sep="\n")
    return 0


def follow(arguments: Arguments) -> int:
    """``rtserver follow``"""
    from rtserver.following.follower import METHODS
    from rtserver.following.offline import follow as track

    if arguments.method not in METHODS:
        raise ConfigError("method", f"no method {arguments.method!r}; known: {', '.join(METHODS)}")

    with progress(None, "follow", " s") as bar:
        track(arguments.score, arguments.input, arguments.output, arguments.method, bar.update)
    print(arguments.output)
    return 0


def demo(arguments: Arguments) -> int:
    """``rtserver demo``"""
    from rtserver.demo.show import run as show

    return show(arguments.output)
