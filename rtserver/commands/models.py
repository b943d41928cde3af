"""Commands that look after networks: models list, verify, bench, describe."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from rtserver.commands.common import Add, Arguments, add_json, print_json
from rtserver.errors import ConfigError, ModelError

MODEL = "NAME|FILE.onnx"


def register(add: Add) -> None:
    """Their arguments."""
    sub = add("models", listed, "the networks of the zoo, or of a file: list, verify, bench, describe")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, command: Any, summary: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False)
        one.set_defaults(command=command)
        return one

    add_json(action("list", listed, "list the networks that rtserver brings"))
    for name, command, summary in (
        ("verify", verify, "prove that networks are what their manifests say, and compute here what they computed where they were made"),
        ("bench", bench, "measure how long networks take on this machine"),
    ):
        one = action(name, command, summary)
        one.add_argument("models", nargs="*", metavar=MODEL, help="default: all that rtserver brings")
        add_json(one)
    bench_parser = actions.choices["bench"]
    bench_parser.add_argument("--runs", type=int, default=2000, metavar="N", help="steps of each (default: %(default)s)")
    one = action("describe", describe, "print the manifest.toml that has to lie beside a separation network of your own")
    one.add_argument("file", type=Path, metavar="FILE.onnx")
    one.add_argument("--stems", required=True, metavar="NAME,NAME,...", help="in the order of the masks; the last is what the others leave")
    one.add_argument("--rates", default="44100,48000", metavar="HZ,...", help="sample rates for which it was made (default: %(default)s)")


def _chosen(arguments: Arguments) -> list[tuple[str, Path]]:
    """Name and folder of each model that was named, else of all in the zoo that are no parts of others."""
    from rtserver import zoo
    from rtserver.separation.model import place_of

    if arguments.models:
        return [place_of(model) for model in arguments.models]
    return [(name, zoo.FOLDER) for name, entry in zoo.manifest().items() if "part_of" not in entry]


def listed(arguments: Arguments) -> int:
    """``rtserver models list``"""
    from rtserver import zoo

    rows: list[dict[str, Any]] = []
    for name, entry in zoo.manifest().items():
        size = (zoo.FOLDER / entry["file"]).stat().st_size if (zoo.FOLDER / entry["file"]).exists() else 0
        more = {key: entry[key] for key in ("stems", "sample_rates", "hops", "weights", "part_of", "data", "date") if key in entry}
        rows.append({"name": name, "kind": entry.get("kind", ""), "bytes": size, "licence": entry.get("licence", "")} | more)
    if arguments.json:
        print_json(rows)
        return 0
    for row in rows:
        stems = f"  {', '.join(row['stems'])}" if "stems" in row else ""
        print(f"{row['name']:22} {row['kind']:14} {row['bytes'] / 1e6:6.2f} MB  {row['licence']}{stems}")
    return 0


def verify(arguments: Arguments) -> int:
    """``rtserver models verify``"""
    from rtserver.zoo.proof import proved

    rows: list[dict[str, Any]] = []
    for name, folder in _chosen(arguments):
        row: dict[str, Any] = {"name": name, "ok": True}
        try:
            worst = proved(name, folder)
            row |= {"difference": worst} if worst is not None else {"detail": "no golden vectors"}
        except ModelError as error:
            row |= {"ok": False, "detail": str(error)}
        rows.append(row)
        if not arguments.json:
            said = f"largest difference {row['difference']:.2g}" if "difference" in row else row["detail"]
            print(f"{'ok  ' if row['ok'] else 'FAIL'}  {name}: {said}")
    if arguments.json:
        print_json(rows)
    return 0 if all(row["ok"] for row in rows) else 1


def bench(arguments: Arguments) -> int:
    """``rtserver models bench``"""
    from rtserver.zoo.pace import pace

    found = {name: pace(name, folder, max(1, arguments.runs)) for name, folder in _chosen(arguments)}
    if arguments.json:
        print_json(found)
        return 0
    print(f"{'microseconds':48} {'p50':>8} {'p99':>8} {'max':>8}")
    for name, figures in found.items():
        for what, row in figures.items():
            print(f"{name + ': ' + what:48} {row['p50_us']:8.0f} {row['p99_us']:8.0f} {row['max_us']:8.0f}")
    return 0


def describe(arguments: Arguments) -> int:
    """``rtserver models describe``"""
    from rtserver import zoo
    from rtserver.separation.model import KIND, MASKS, N_BINS, NETWORK_HOP, WINDOW_SIZE, check_entry

    if not arguments.file.is_file():
        raise ModelError(f"{arguments.file}: no such file")
    rates = [rate.strip() for rate in arguments.rates.split(",")]
    if not all(rate.isdecimal() for rate in rates):
        raise ConfigError("--rates", f"expected whole numbers of Hz with commas between, for example 44100,48000, got {arguments.rates!r}")
    session = zoo.open_session(arguments.file, optimise=False)
    stems = [stem.strip() for stem in arguments.stems.split(",")]
    outputs = zoo.signature(session.get_outputs())
    masks = re.fullmatch(rf"float32\[(\d+),{N_BINS}\]", outputs.get(MASKS, ""))
    if masks and int(masks[1]) + 1 != len(stems):
        expected = f"expected {int(masks[1]) + 1} names, of the {masks[1]} masks of {arguments.file} and of what they leave"
        raise ConfigError("--stems", f"{expected}, got {len(stems)}: {', '.join(stems)}")

    def table(values: dict[str, str]) -> str:
        return "{ " + ", ".join(f"{_key(key)} = {_text(value)}" for key, value in values.items()) + " }"

    lines = (
        f"[{_key(arguments.file.stem)}]",
        f"file = {_text(arguments.file.name)}",
        f"sha256 = {_text(zoo.sha256_of(arguments.file))}",
        f"kind = {_text(KIND)}",
        f"inputs = {table(zoo.signature(session.get_inputs()))}",
        f"outputs = {table(outputs)}",
        f"stems = [{', '.join(map(_text, stems))}]",
        f"window_size = {WINDOW_SIZE}",
        f"network_hop = {NETWORK_HOP}",
        "hops = [128, 256]",
        f"sample_rates = [{', '.join(str(int(rate)) for rate in rates)}]",
        "hpss = { n_past = 15, past_step = 2, n_around = 17 }",
        'licence = ""',
    )
    (entry,) = tomllib.loads("\n".join(lines)).values()
    check_entry(str(arguments.file), entry)  # what would be refused is not printed
    print(*lines, sep="\n")
    return 0


def _text(text: str) -> str:
    """As a basic string of TOML, which escapes as JSON does, and one character more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(text: str) -> str:
    """As a key of TOML: bare where that may be, for a dot in it would make a table in a table."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _text(text)
