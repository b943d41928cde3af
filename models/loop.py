"""The training loop that several models share: AdamW, a cosine by steps or by the clock, averaged weights, checks, checkpoints, a log.

Everything a run leaves lies in its folder: checkpoint.pt, written at each check, at the end and on SIGTERM, and train.log (JSON lines).

Started by torchrun and after `join`, each process draws batches of its own, gradients are averaged over all, and the first one writes.
"""

from __future__ import annotations

import argparse
import atexit
import copy
import json
import math
import multiprocessing
import os
import pickle
import queue
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from models.options import number, whole

WARM_UP = 100  # steps of a short ramp: LSTMs jump when Adam's moments are young
PATIENCE_S = 1.0  # after so long a wait it is asked whether who is waited for still lives


def device(text: str) -> str:
    """A type of an option: where torch computes."""
    kind, _, index = text.partition(":")
    if text != "cpu" and (kind != "cuda" or ((index or text.endswith(":")) and not index.isdecimal())):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"torch finds {torch.cuda.device_count()} GPUs here, {text} is none of them: use cpu")
    return text


def arguments(p: argparse.ArgumentParser, rate: float, steps: int) -> None:
    """The options of every training run."""
    p.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and train.log")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    p.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    p.add_argument("--threads", type=whole(1), default=1, help="cores that torch may use")
    p.add_argument("--workers", type=whole(0), default=0, help="processes that prepare batches; a GPU needs two to four")
    p.add_argument("--seed", type=whole(0), default=1)
    p.add_argument("--steps", type=whole(1), default=steps, help="length of the schedule")
    p.add_argument("--minutes", type=number(above=True), help="length of the schedule by the clock instead of --steps")
    p.add_argument("--rate", type=number(above=True), default=rate, help="peak learning rate")
    p.add_argument("--decay", type=number(), default=0.01, help="AdamW's weight decay")
    p.add_argument(
        "--average", type=number(0.0, 1.0), default=0.998, help="decay a step of the averaged weights, those that are scored and kept"
    )
    p.add_argument(
        "--checks", type=whole(1), default=16, help="how often in a run the validation pieces are scored and a checkpoint is written"
    )


def learning_rate(done: float, step: int, peak: float) -> float:
    """A ramp, then half a cosine down to a fiftieth; `done` is the share of the run that is over."""
    return peak * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1.0 + math.cos(math.pi * min(done, 1.0))))


def save(path: Path, content: dict[str, Any]) -> None:
    """Write beside its place, then move: a kill leaves the old checkpoint or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU. Exits with a line that names the file where it cannot be read."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as e:
        why = str(e) or type(e).__name__
        raise SystemExit(f"{path} is not a checkpoint that can be read: {why}: train one, or name the folder of a run") from e
    lacking = [k for k in ("network", "average", "best", "settings", "step") if not isinstance(found, dict) or k not in found]
    if lacking:
        raise SystemExit(f"{path} is no checkpoint of a run, it has no {', '.join(lacking)}: train one, or name the folder of a run")
    return found


def ready(args: argparse.Namespace, file: str, **shape: Any) -> dict[str, Any] | None:
    """The checkpoint that a run goes on from; None where it begins anew.

    Exits with a line where it would replace a checkpoint, or go on from one whose settings have another `shape`.
    """
    path = args.out / file
    for folder in (args.out, *args.out.parents):
        if folder.exists() and not folder.is_dir():
            raise SystemExit(f"--out {args.out}: {folder} is a file, expected a folder: choose another --out")
    if not path.exists():
        return None
    if not args.resume:
        raise SystemExit(f"{path} is there and would be replaced: --resume goes on from it; or choose another --out, or remove it")
    old = read(path)
    there = {k: old["settings"].get(k) for k in shape}
    differ = [k for k in shape if there[k] != shape[k]]
    if differ:
        has, asked = (", ".join(f"{k} {of[k]}" for k in differ) for of in (there, shape))
        raise SystemExit(f"--resume: {path} has {has}, asked for is {asked}: ask for what it has, or choose another --out")
    return old


def join(device: str) -> tuple[int, int]:
    """This process's place among those that torchrun started, and how many there are; (0, 1) without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return dist.get_rank(), dist.get_world_size()


def _leave() -> None:
    """All processes leave what they joined together, when the first one has scored.

    A process that ended while a thread of the group is at work would abort: the thread asks for Python's lock when Python has gone.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _average_gradients(network: nn.Module) -> None:
    parameters = [p for p in network.parameters() if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)


def _agree(done: float, stopped: bool, device: Any) -> tuple[float, bool]:
    """How much is done and whether to stop, as all processes see it: their clocks and signals differ, and all must end with one step."""
    if not _several():
        return done, done >= 1.0 or stopped
    told = torch.tensor([done, float(stopped)], dtype=torch.float64, device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    done, said = told.tolist()
    return done, done >= 1.0 or said > 0.0


def _work(draw: Callable[[int], Iterator[Any]], worker: int, drawn: Any) -> None:
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, signal.SIG_IGN)  # for the whole group it is the trainer's to answer: it still wants its batch
    trainer = os.getppid()
    torch.set_num_threads(1)
    for x in draw(worker):
        while True:
            try:
                drawn.put(x, timeout=PATIENCE_S)
                break
            except queue.Full:
                if os.getppid() != trainer:
                    os._exit(1)  # it was killed and could tell nobody


def prefetch(draw: Callable[[int], Iterator[Any]], workers: int, ahead: int = 4) -> Generator[Any, None, None]:
    """What `draw(0)`, `draw(1)`, … yield without end, in turn, each drawn by a process of its own; by this process with 0 workers.

    The processes begin with the first `next` and end with the generator, or with this process. Exits with a line where one ended sooner.
    """
    if workers == 0:
        yield from draw(0)
        return
    context = multiprocessing.get_context("fork")  # what `draw` closes over need not be pickled
    queues = [context.Queue(ahead) for _ in range(workers)]
    processes = [context.Process(target=_work, args=(draw, i, drawn), daemon=True) for i, drawn in enumerate(queues)]

    def end() -> None:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()

    atexit.register(end)  # sooner than multiprocessing, which would ask them to end and wait
    try:
        for process in processes:
            process.start()
        while True:
            for process, drawn in zip(processes, queues, strict=True):
                yield _next(process, drawn)
    finally:
        atexit.unregister(end)
        end()


def _next(process: Any, drawn: Any) -> Any:
    while True:
        alive = process.is_alive()  # asked first: what it left behind is still to be had
        try:
            return drawn.get(timeout=PATIENCE_S)
        except queue.Empty:
            if not alive:
                raise SystemExit(f"a process that draws batches ended with status {process.exitcode}: its message stands above") from None


def fit(
    network: nn.Module,
    loss_of: Callable[[int], Tensor],
    check: Callable[[nn.Module], dict[str, Any]],
    args: argparse.Namespace,
    settings: dict[str, Any],
    *,
    file: str = "checkpoint.pt",
    watched: tuple[str, ...] = (),
    minutes: float | None = None,
) -> list[float]:
    """Train `network` in place; returns the loss of every step.

    Parameters
    ----------
    loss_of : step -> scalar
        Draws its own batch.
    check : averaged network -> figures
        Scores on validation pieces.
    settings : dict
        What builds the network again; kept in the checkpoint.
    watched : names of figures
        For each the averaged weights with the least value so far are kept, in ``best``.
    minutes : float or None
        Instead of ``args.minutes``.

    Where `join` joined several processes, all end their part together.

    The checkpoint holds ``network`` (the last weights), ``average``, ``best`` {figure: weights}, ``figures``, ``settings``, ``step``.
    """
    path = args.out / file
    first_process = not _several() or dist.get_rank() == 0
    device = next(network.parameters()).device
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=args.decay)
    average = copy.deepcopy(network)
    first, used, best, least = 0, 0.0, {}, {}
    old = ready(args, file)
    if old is not None:
        try:
            network.load_state_dict(old["network"])
        except RuntimeError as e:
            raise SystemExit(f"--resume: {path} has a network of another shape: ask for what it has, or choose another --out") from e
        average.load_state_dict(old["average"])
        optimiser.load_state_dict(old["optimiser"])
        first, used, best, least = old["step"], old["seconds"], old["best"], old["least"]
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    minutes = args.minutes if minutes is None else minutes
    seconds = None if minutes is None else max(minutes * 60.0, 1.0)
    started = time.monotonic() - used
    losses: list[float] = []
    pending: list[Tensor] = []  # read back in bunches: a read makes a GPU wait
    step, checked, done = first, 0, 0.0
    previous = signal.signal(signal.SIGTERM, stop)
    path.parent.mkdir(parents=True, exist_ok=True)
    total = None if seconds else args.steps
    log_file = args.out / "train.log" if first_process else Path(os.devnull)
    with log_file.open("a") as log, tqdm(total=total, initial=first, unit="step", mininterval=5, disable=not first_process) as bar:

        def write(**facts: Any) -> None:
            log.write(json.dumps({"file": file, "step": step, "seconds": round(time.monotonic() - started, 1), **facts}) + "\n")
            log.flush()

        def progress() -> float:
            return step / args.steps if seconds is None else (time.monotonic() - started) / seconds

        done, over = _agree(progress(), stopped, device)
        checked = int(done * args.checks)
        while not over:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(done, step, args.rate)
            network.train()
            loss = loss_of(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if _several():
                _average_gradients(network)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            pending.append(loss.detach())
            step += 1
            bar.update()
            keep = min(args.average, step / (step + 10.0))  # young averages forget faster
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - keep)
            done, over = _agree(progress(), stopped, device)
            if step % 20 == 0 or over:
                fresh = torch.stack(pending).tolist()
                losses += fresh
                pending.clear()
                bar.set_postfix(loss=f"{np.mean(fresh):.3f}")
                write(loss=round(float(np.mean(fresh)), 4))
            if first_process and (int(done * args.checks) > checked or over):
                checked = int(done * args.checks)
                average.eval()
                with torch.no_grad():
                    figures = check(average)
                for name in watched:
                    if name not in least or figures[name] < least[name]:
                        least[name] = figures[name]
                        best[name] = {k: x.detach().cpu().clone() for k, x in average.state_dict().items()}
                write(figures=figures)
                save(path, {
                    "network": network.state_dict(), "average": average.state_dict(), "best": best, "least": least, "figures": figures,
                    "optimiser": optimiser.state_dict(), "settings": settings, "step": step, "seconds": time.monotonic() - started,
                })  # fmt: skip
    _leave()
    signal.signal(signal.SIGTERM, previous)
    if stopped:
        raise SystemExit(128 + signal.SIGTERM)
    return losses
