"""From samples to models in one command: ``python -m models.separation.recipe STEMS --out FOLDER``.

Makes FOLDER/pool, trains in FOLDER/run, exports to FOLDER/zoo, measures on ``--clips``. The models are what was trained (stems3) and the
hp that is in it, each with float32 and with rounded weights. A pool that was finished is not made again, one that was cut short is rendered
anew; a training that was cut short goes on; models are exported and measured every time. Options that are not known here go to
models.separation.train: ``--start stems3 --stems hp`` makes an hp of its own of what the zoo has, ``--minutes`` is the length of training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.export import LICENCE
from models.options import number
from models.separation import clips, evaluate, export, frames, pool, train
from models.separation.pool import INDEX, read_index
from rtserver import zoo

BLEND = 0.1
WHOLE = "whole"  # a file beside a pool that was finished


def has_vocals(folder: Path) -> bool:
    """Whether tracks with vocals were imported into a pool to train on; rendering leaves them there."""
    return (folder / INDEX).is_file() and any("vocals" in line["stems"] for line in read_index(folder) if line["split"] == "train")


def cook(args: argparse.Namespace, training: list[str]) -> None:
    """Do what is not done yet, in order."""
    made, run, models = args.out / "pool", args.out / "run", args.out / "zoo"
    how = ["--device", args.device, "--batch", str(args.batch), "--workers", str(args.workers), "--steps", str(args.steps), *training]
    how += ["--compile"] if args.device == "cuda" else []
    asked_of_training = train.parser().parse_args([str(made), "--out", str(run), "--resume", *how])
    # What is wrong with the steps to come is said before the pool is made, which takes long.
    network, _ = train.prepare(asked_of_training)
    if network.stems == "stems4" and not has_vocals(made):
        raise SystemExit(
            f"{args.stems}: samples have no vocals, which four stems need: import tracks that have them into {made} first "
            "(models.separation.recordings), or train --stems stems3"
        )
    if args.clips is not None:
        evaluate.check_clips(clips.folders(args.clips), {"the network": frames.SAMPLE_RATES})
    mark = made / WHOLE
    if not mark.exists():
        fonts = ["--fonts", *map(str, args.fonts)] if args.fonts else []
        pool.main([str(args.stems), "--out", str(made), "--minutes", str(args.pool_minutes), "--processes", str(args.processes), *fonts])
        mark.touch()
    elif not (made / INDEX).exists():
        raise SystemExit(f"{made} says that it is whole, and has no {INDEX}: remove the folder")
    train.train(asked_of_training)
    models.mkdir(exist_ok=True)
    names = []
    for stems in dict.fromkeys((train.begin(str(run)).stems, "hp")):
        for name, more in ((stems, []), (f"{stems}-int8", ["--int8"])):
            asked = [str(run), str(models), "--name", name, "--stems", stems, "--card", "separation.md", "--blend", str(args.blend), *more]
            asked += ["--licence", args.licence, *(["--source", args.source] if args.source else [])]
            export.main(export.parser().parse_args(asked))
            names.append(str(models / name))
    if args.clips is not None:
        evaluate.main(evaluate.parser().parse_args([*names, "--clips", str(args.clips), "--json", str(args.out / "figures.json")]))
    print(f"{models}: {', '.join(zoo.manifest(models))}")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument("stems", type=Path, help="folder of samples, as models.separation.pool takes it")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--fonts", type=Path, nargs="+", help="sound fonts (default: Debian's)")
    p.add_argument(
        "--pool-minutes", type=number(above=True), default=800.0, help="of each stem in the pool; a minute of all takes at most 32 MB"
    )
    p.add_argument("--processes", type=int, default=2, help="that render the pool")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--batch", type=int, default=192, help="streams side by side; 8 to 16 on a CPU")
    p.add_argument("--workers", type=int, default=12, help="processes that draw mixtures; 1 on a CPU")
    p.add_argument("--steps", type=int, default=4500)
    p.add_argument("--blend", type=number(0.0, 1.0), default=BLEND, help="with HPSS, unless told otherwise (default: %(default)s)")
    p.add_argument("--licence", default=LICENCE, help="of the weights, for the manifest (default: %(default)s)")
    p.add_argument("--source", help="what they were trained on and under which licence (default: what is known of the pool)")
    p.add_argument("--clips", type=Path, help="folder of clips to measure on, as models.separation.evaluate takes it")
    return p


if __name__ == "__main__":
    cook(*parser().parse_known_args())
