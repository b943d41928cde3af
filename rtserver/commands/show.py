"""Commands for the hour before the show: check, calibrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtserver.commands.common import Add, Arguments, add_config, add_json, config_of, print_json, say, show_of
from rtserver.commands.machine import report
from rtserver.config import Config
from rtserver.operations.report import Check, failed

if TYPE_CHECKING:
    from rtserver.operations.calibration import RoundTrip

NEEDED = {"PortAudio", "native callback", "audio devices", "audio.device", "JACK"}  # without them there is nothing to play on


def register(add: Add) -> None:
    """Their arguments."""
    sub = add("check", check, "load and warm everything, send a tone and a note to every output, say what would fail on stage")
    add_config(sub)
    sub.add_argument("--seconds", type=float, default=5.0, metavar="N", help="how long to run and count (default: %(default)s)")
    sub.add_argument("--silent", action="store_true", help="neither tones nor notes")
    add_json(sub)

    sub = add("calibrate", calibrate, "measure the round trip through a cable from an output to an input")
    add_config(sub)
    sub.add_argument("--output", type=int, metavar="N", help="device channel that plays, from 1 (default: every one that an output names)")
    sub.add_argument("--input", type=int, metavar="N", help="device channel that listens (default: every one that an input names)")
    sub.add_argument("--level-db", type=float, default=-20.0, metavar="DB", help="of the bursts, dBFS (default: %(default)s)")
    add_json(sub)


def check(arguments: Arguments) -> int:
    """``rtserver check``"""
    from rtserver.operations.doctor import examine
    from rtserver.operations.tone import play_tones
    from rtserver.operations.trial import loading, trial

    def tell(line: str) -> None:
        if not arguments.json:
            print(line, flush=True)

    songs = show_of(arguments)
    checks: list[Check] = examine(songs[0].config)
    if NEEDED & set(failed(checks)):
        checks.append(loading(songs))
    else:
        if not arguments.silent:
            checks += play_tones([song.config for song in songs], tell)
        tell(f"running for {arguments.seconds:.0f} s")
        checks += trial(songs, arguments.seconds, with_note=not arguments.silent, say=tell)
    return report(arguments, checks)


def calibrate(arguments: Arguments) -> int:
    """``rtserver calibrate``"""
    import msgspec

    from rtserver.operations.calibration import CONFIDENT

    config = config_of(arguments)
    outputs, inputs = _channels(arguments, config)
    found = _measure(arguments, config, outputs, inputs)
    named = arguments.output is not None and arguments.input is not None
    sure = [trip for trip in found.values() if trip.confidence >= CONFIDENT]
    if arguments.json:
        trips = [{"output": o, "input": i, **msgspec.to_builtins(trip)} for (o, i), trip in found.items()]
        print_json({"sample_rate": config.audio.sample_rate, "block_size": config.audio.block_size, "round_trips": trips})
    else:
        for (o, i), trip in found.items():
            if trip.confidence >= CONFIDENT or named or not sure:
                where = f"output {o} to input {i}: {trip.frames} frames = {trip.seconds * 1e3:.2f} ms"
                print(f"{where}, {trip.level_db:.1f} dB, confidence {trip.confidence:.2f}")
                if trip.remedy:
                    print(f"      → {trip.remedy}")
    return 0 if sure else say(arguments, "no round trip was found with confidence", 1)


def _channels(arguments: Arguments, config: Config) -> tuple[list[int], list[int]]:
    outputs = sorted({c for output in config.outputs.values() for c in output.channels})
    inputs = sorted({c for source in config.inputs.values() for c in source.channels})
    return [arguments.output] if arguments.output else outputs, [arguments.input] if arguments.input else inputs


def _measure(arguments: Arguments, config: Config, outputs: list[int], inputs: list[int]) -> dict[tuple[int, int], RoundTrip]:
    """Every pair of channels, output by output."""
    import numpy as np

    from rtserver.operations.calibration import bursts, round_trip
    from rtserver.operations.through import through

    audio = config.audio
    played = bursts(audio.sample_rate, arguments.level_db)
    found: dict[tuple[int, int], RoundTrip] = {}
    for o in outputs:
        signal = np.zeros((max(outputs), len(played)), np.float32)
        signal[o - 1] = played
        if not arguments.json:
            print(f"three bursts on output {o}", flush=True)
        take = through(signal, max(inputs), audio, audio.client_name or config.name, lead_s=1.0)
        for i in inputs:
            found[o, i] = round_trip(take.record[i - 1], audio.sample_rate, arguments.level_db)
    return found
