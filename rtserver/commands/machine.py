"""Commands that look after the machine and the show: latency, devices, doctor."""

from __future__ import annotations

from rtserver.commands.common import Add, Arguments, add_config, add_json, print_json, say, show_of
from rtserver.operations.report import Check, describe, failed

RUN_S = 5.0


def register(add: Add) -> None:
    """Their arguments."""
    sub = add("latency", latency, "print the latency of every output, in frames, and what it is made of")
    add_config(sub)
    add_json(sub)

    add_json(add("devices", devices, "list audio devices and MIDI ports"))

    sub = add("doctor", doctor, "check this machine: what to mend before the show")
    add_config(sub)
    sub.add_argument("--run", action="store_true", help="run the server for five seconds, too, and count what goes wrong")
    add_json(sub)


def latency(arguments: Arguments) -> int:
    """``rtserver latency``"""
    from rtserver.pipeline import build, plan_of

    songs = show_of(arguments)
    plans = {song.name: plan_of(song.config, build(song.config)) for song in songs}
    first = plans[songs[0].name]
    if arguments.json:
        report = {"sample_rate": first.sample_rate, "outputs": first.report()}
        print_json(report | {"songs": {name: plan.report() for name, plan in plans.items()}} if len(plans) > 1 else report)
        return 0
    for name, plan in plans.items():
        if len(plans) > 1:
            print(f"song {name}")
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
        print_json(msgspec.to_builtins(found))
    else:
        print(describe(found))
    return 0


def doctor(arguments: Arguments) -> int:
    """``rtserver doctor``"""
    from rtserver.operations.doctor import examine

    songs = show_of(arguments)
    checks = examine(songs[0].config)
    if arguments.run and not failed(checks):
        from rtserver.operations.trial import trial

        checks += trial(songs, RUN_S)
    return report(arguments, checks)


def report(arguments: Arguments, checks: list[Check]) -> int:
    """Print `checks` and give the exit code: 1 if one failed."""
    import msgspec

    if arguments.json:
        print_json(msgspec.to_builtins(checks))
    else:
        print(describe(checks))
    ill = failed(checks)
    return say(arguments, f"to be mended: {', '.join(ill)}", 1) if ill else 0
