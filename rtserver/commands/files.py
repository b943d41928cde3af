"""Commands that work on files: render, separate, follow, align, perform."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserver.commands.common import Add, Arguments, config_of, progress, say
from rtserver.config import Config, Following, Score, Separation
from rtserver.errors import ConfigError

if TYPE_CHECKING:
    from tqdm import tqdm

    from rtserver.following.score import Score as FollowedScore


def register(add: Add) -> None:
    """Their arguments."""
    sub = add("render", render, "run a file through the same graph without a device")
    sub.add_argument("input", type=Path, metavar="IN.wav")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for <output>.wav and events.jsonl")
    sub.add_argument("-c", "--config", type=Path, metavar="CONFIG.toml")
    sub.add_argument("--score", type=Path, metavar="SCORE", help="MusicXML or MIDI score to follow")
    sub.add_argument("--replay", type=Path, metavar="LOG", help="a recording's folder or events.jsonl: let that session happen again")

    sub = add(
        "separate",
        separate,
        "split a file into harmonic.wav and percussive.wav (with a margin above 1 residual.wav), or a network's stems",
    )
    sub.add_argument("input", type=Path, metavar="IN.wav")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    masks = Separation()
    sub.add_argument("--preset", default=masks.preset, metavar="NAME", help="stage, default or quality (default: %(default)s)")
    sub.add_argument(
        "--mask", choices=("soft", "hard"), default=masks.mask, help="how the two share what they both want (default: %(default)s)"
    )
    sub.add_argument(
        "--exponent", type=float, default=masks.exponent, metavar="X", help="of the soft mask, 0.5 to 8 (default: %(default)s)"
    )
    for part in ("harmonic", "percussive"):
        sub.add_argument(
            f"--margin-{part}",
            type=float,
            default=1.0,
            metavar="X",
            help=f"how much stronger {part} must be, 1 to 16 (default: %(default)s)",
        )
    sub.add_argument(
        "--method",
        choices=("hpss", "kam"),
        default="hpss",
        help="hpss: as live; kam: kernel additive modelling of the whole file, which takes none of the above (default: %(default)s)",
    )
    whole = sub.add_argument_group("with --method kam")
    whole.add_argument("--iterations", type=int, metavar="N", help="1 to 20 (default: 2)")
    place = whole.add_mutually_exclusive_group()
    place.add_argument(
        "--spatial", choices=("paper", "power"), help="learn where sources lie: as the paper has it (default), or weighted by their power"
    )
    place.add_argument("--identity", action="store_const", const="off", dest="spatial", help="learn nothing of that")
    whole.add_argument(
        "--kernel",
        action="append",
        metavar="NAME=BINSxSPECTRA",
        help="a source, by the box of bins that are like a bin of it; repeatable (default: harmonic=1x17 percussive=17x1)",
    )

    sub.add_argument("--model", default="", metavar="NAME|FILE.onnx", help="a network, whose stems are the files (default: medians alone)")
    sub.add_argument("--blend", type=float, metavar="X", help="of a network: 0 to 1, how far the medians have a say (its manifest's)")
    sub.add_argument("--wiener", action="store_true", help="of a network: refine the stems of a stereo file by where they stand")
    sub.add_argument("--score", type=Path, metavar="SCORE", help="of a network that hears one: follow it, and tell what it expects")
    sub.add_argument(
        "--part", action="append", default=[], metavar="NAME", help="of the score: a part that is played, by name or number; repeatable"
    )

    sub = add("follow", follow, "follow a score through a recording or a MIDI performance, as if it were live")
    sub.add_argument("score", type=Path, metavar="SCORE")
    sub.add_argument("input", type=Path, metavar="IN.wav|IN.mid")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.csv")
    sub.add_argument("--method", default="semimarkov", metavar="NAME", help="how to follow (default: %(default)s)")
    sub.add_argument(
        "--reference",
        default="score",
        metavar="rendered|RECORDING",
        help="for dixon and arzt: compare with the score as FluidSynth plays it, or with a recording of it (default: the score)",
    )
    sub.add_argument("--beats", default="", metavar="BEATS.csv", help="when what is played in the recording: time_s,quarter")
    sub.add_argument("--sound-font", default="", metavar="FONT", help="for --reference rendered (default: FluidR3)")
    sub.add_argument(
        "--part", action="append", default=[], metavar="NAME", help="part to follow, by name or number from 1; repeatable (default: all)"
    )

    sub = add("align", align, "find when each note of a score is played in a whole recording or MIDI performance, looking at all of it")
    sub.add_argument("score", type=Path, metavar="SCORE")
    sub.add_argument("input", type=Path, metavar="IN.wav|IN.mid")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.csv")
    sub.add_argument("--part", action="append", default=[], metavar="NAME", help="a part to align, by name or number from 1; repeatable")

    _add_perform(add("perform", perform, "let the network write notes into a MIDI file"))


def _add_perform(sub: argparse.ArgumentParser) -> None:
    defaults = Config().generation
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mid")
    sub.add_argument("--notes", type=int, default=64, metavar="N", help="how many (default: %(default)s)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed writes the same notes (default: %(default)s)")
    sub.add_argument("--prompt", type=Path, metavar="IN.mid", help="what to continue")
    sub.add_argument("--score", type=Path, metavar="SCORE", help="what to play along with, to its end: MusicXML or MIDI")
    sub.add_argument(
        "--play", action="append", default=[], metavar="PART", help="of the score: written as it is, and its rests filled; repeatable"
    )
    sub.add_argument("--tempo", type=float, metavar="BPM", help="quarters a minute (default: the prompt's or the score's, else 120)")
    sub.add_argument("--metre", default=defaults.metre, help="where neither prompt nor score says it (default: %(default)s)")
    sub.add_argument("--temperature", type=float, default=1.0, help="above 1 bolder, below 1 plainer (default: %(default)s)")
    sub.add_argument(
        "--top-p", type=float, default=defaults.top_p, help="share of the likeliest choices to draw from (default: %(default)s)"
    )
    sub.add_argument("--model", default=defaults.model, metavar="NAME", help="which of the zoo (default: %(default)s)")
    sub.add_argument("--texture", default="unknown", help="unknown, line or chords (default: %(default)s)")
    sub.add_argument("--higher", type=float, default=0.0, metavar="X", help="each octave up is likelier by e to it, -3 to 3")
    sub.add_argument("--sooner", type=float, default=0.0, metavar="X", help="the same of each halving of the wait for the next note")
    wishes = sub.add_argument_group("wishes, of a model that was trained with them")
    wishes.add_argument("--part", default="unknown", help="upper, inner, lower, all or unknown (default: %(default)s)")
    wishes.add_argument("--density", type=float, metavar="N", help="notes a quarter")
    wishes.add_argument("--register", type=float, metavar="PITCH", help="mean MIDI pitch")
    limits = sub.add_argument_group("constraints, kept by every note")
    limits.add_argument("--scale", metavar="NAME", help='for example "C major", "F# dorian" (default: all twelve pitches)')
    limits.add_argument("--chord", metavar="SYMBOL", help='of the scale only these notes, for example "Am7"')
    limits.add_argument("--range", type=int, nargs=2, metavar=("LOW", "HIGH"), help="lowest and highest MIDI pitch")
    limits.add_argument("--polyphony", type=int, metavar="N", help="notes sounding at once, at most")
    limits.add_argument("--grid", type=int, metavar="TICKS", help="onsets on multiples of it; a quarter has 24 ticks")
    limits.add_argument("--min-dt", type=int, metavar="TICKS", help="shortest step between onsets; 1 forbids chords")
    limits.add_argument("--max-dt", type=int, metavar="TICKS", help="longest step between onsets")
    limits.add_argument("--min-duration", type=int, metavar="TICKS")
    limits.add_argument("--max-duration", type=int, metavar="TICKS")


LIMITS = ("scale", "chord", "polyphony", "grid", "min_dt", "max_dt", "min_duration", "max_duration")


def _go_to(bar: tqdm[Any], total: float) -> None:
    bar.update(total - bar.n)


def render(arguments: Arguments) -> int:
    """``rtserver render``"""
    import msgspec

    from rtserver.audio.file import info
    from rtserver.render import render as freewheel

    if arguments.replay is not None:
        return _replay(arguments)
    config = config_of(arguments)
    if arguments.score is not None:
        config = msgspec.structs.replace(config, score=Score(file=str(arguments.score.resolve())))
    with progress(info(arguments.input).n_frames, "render", " frames") as bar:
        done = freewheel(arguments.input, arguments.output, config, lambda frame: _go_to(bar, frame))
    print(*done.files, sep="\n")
    return 0


def _replay(arguments: Arguments) -> int:
    from rtserver.audio.file import info
    from rtserver.reenact import replay
    from rtserver.replay import Log

    if arguments.config is not None or arguments.score is not None:
        raise ConfigError("--replay", "the log holds the session's configuration; leave --config and --score out")
    log = Log.read(arguments.replay)
    for caveat in log.caveats:
        say(arguments, f"the replay may differ: {caveat}", 0)
    with progress(info(arguments.input).n_frames, "replay", " frames") as bar:
        done = replay(arguments.input, arguments.output, log, lambda frame: _go_to(bar, frame))
    print(*done.files, sep="\n")
    return 0


def separate(arguments: Arguments) -> int:
    """``rtserver separate``"""
    from rtserver.audio.file import info
    from rtserver.separation.offline import separate as split

    if arguments.method == "kam":
        return _separate_whole(arguments)
    for name in ("iterations", "spatial", "kernel"):
        if getattr(arguments, name) is not None:
            raise ConfigError(f"--{name}", "belongs to --method kam")
    options = Separation(
        arguments.preset,
        arguments.mask,
        arguments.exponent,
        arguments.margin_harmonic,
        arguments.margin_percussive,
        model=arguments.model,
        blend=arguments.blend,
        wiener=arguments.wiener,
        score=arguments.score is not None or None,
    )
    score = _told_score(arguments)
    with progress(info(arguments.input).n_frames, "separate", " frames") as bar:
        files = split(arguments.input, arguments.output, options, bar.update, score)
    print(*files, sep="\n")
    return 0


def _told_score(arguments: Arguments) -> FollowedScore | None:
    """The score that a network is to be told of."""
    if arguments.score is None:
        if arguments.part:
            raise ConfigError("--part", "belongs to a score: name it with --score")
        return None
    if not arguments.model:
        raise ConfigError("--score", "is told to a network: name one with --model")
    from rtserver.following.score import load_score

    return load_score(arguments.score, arguments.part)


def _separate_whole(arguments: Arguments) -> int:
    from rtserver.separation.wholefile import n_steps, parse_kernel, separate_whole

    live = Separation()
    for name in ("preset", "mask", "exponent", "margin_harmonic", "margin_percussive", "model", "blend", "wiener"):
        if getattr(arguments, name) != getattr(live, name):
            raise ConfigError(f"--{name.replace('_', '-')}", "belongs to --method hpss; for a whole file kam has its own")
    if arguments.score is not None or arguments.part:
        raise ConfigError("--score", "belongs to --method hpss and a network")
    pairs = [parse_kernel(text) for text in arguments.kernel or ()]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ConfigError("--kernel", f"expected a name of its own for each, got {twice!r} twice")
    kernels = dict(pairs) or None
    iterations = live.iterations if arguments.iterations is None else arguments.iterations
    with progress(n_steps(arguments.input, iterations), "separate", " bins") as bar:
        files = separate_whole(
            arguments.input, arguments.output, kernels, iterations, spatial=arguments.spatial or "paper", progress=bar.update
        )
    print(*files, sep="\n")
    return 0


def follow(arguments: Arguments) -> int:
    """``rtserver follow``"""
    from rtserver.following.follower import METHODS
    from rtserver.following.offline import follow as track
    from rtserver.references import check_method, make_reference

    if arguments.method not in METHODS:
        raise ConfigError("method", f"no method {arguments.method!r}; known: {', '.join(METHODS)}")
    following = _following(arguments)
    check_method(following)
    make = partial(make_reference, following=following)
    with progress(None, "follow", " s") as bar:
        track(arguments.score, arguments.input, arguments.output, arguments.method, bar.update, parts=arguments.part, reference=make)
    print(arguments.output)
    return 0


def _following(arguments: Arguments) -> Following:
    """What the options say, as a configuration would."""
    if arguments.reference in ("score", "rendered"):
        if arguments.beats:
            raise ConfigError("--beats", "belongs to a recording; name it with --reference RECORDING")
        return Following(arguments.method, reference=arguments.reference, sound_font=arguments.sound_font)
    if not arguments.beats:
        remedy = f"rtserver align {arguments.score} {arguments.reference} -o BEATS.csv makes them"
        raise ConfigError("--beats", f"expected the beats of the recording {arguments.reference}; {remedy}")
    return Following(arguments.method, reference="recording", recording=arguments.reference, recording_beats=arguments.beats)


def align(arguments: Arguments) -> int:
    """``rtserver align``"""
    from rtserver.following.alignment import align_files

    align_files(arguments.score, arguments.input, arguments.output, parts=arguments.part)
    print(arguments.output)
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
            score=arguments.score,
            parts=[int(part) if part.isdigit() else part for part in arguments.play],
            constraints=Constraints(**limits),
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            texture=arguments.texture,
            part=arguments.part,
            density=arguments.density,
            register=arguments.register,
            model=arguments.model,
            tempo_bpm=arguments.tempo,
            metre=arguments.metre,
            leaning=(arguments.higher, arguments.sooner),
            progress=bar.update,
        )
    print(arguments.output)
    return 0
