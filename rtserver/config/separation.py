"""The section `separation`, and what an input may say in its stead."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from rtserver.config.bounds import within
from rtserver.errors import ConfigError

# What the masks may be set to, live too. Beyond it nothing changes that can be heard.
MASK_LIMITS = {"exponent": (0.5, 8.0), "margin_harmonic": (1.0, 16.0), "margin_percussive": (1.0, 16.0)}
MAX_WORKER_HOPS = 8
MAX_DEFERRED = 4  # inputs whose networks run in the worker

ITERATIONS = (1, 10)


class Separation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which causal separation an input has, and how it shares out what it finds: medians (`rtserver.dsp.masks`) or a network.

    preset : sizes of windows and medians, latency.

    model : a network of the zoo by name, or the path of an .onnx file with its manifest beside it; empty: the medians alone.
    other_model : a second one of the same stems, to change to while it plays. blend : 0 to 1, how far the network's boundary between the
    percussive stem and the rest is moved to the medians'; None: as far as the manifest of `model` says. where : the network runs inline
    in the engine, or in a worker process, whose masks are used `worker_hops` hops later, as latency, for a network that would not fit
    beside everything else. wiener : refine the stems of a stereo input by where they stand. score : tell the network what the score
    expects, where the follower knows the place; None: of the followed input, where there is a score and the network hears one.

    Of the medians alone, mask : soft shares out each bin of a spectrum, hard gives it to the stronger part.
    exponent : of the soft mask, on magnitudes, 0.5 to 8; larger is harder. margin_harmonic, margin_percussive : 1 to 16, as a
    ratio of magnitudes; how much stronger than the other a part must be. Above 1 what neither takes becomes a third part, the residual.
    method : hpss looks once (`rtserver.dsp.hpss`), kam again and again at what it found (`rtserver.dsp.kam`). iterations : of kam, 1 to 10.
    spatial : of kam; what is learnt of where sources lie between two channels: nothing, as the paper has it, or weighted by power.
    """

    preset: str = "default"
    mask: Literal["soft", "hard"] = "soft"
    exponent: float = 2.0  # a Wiener mask
    margin_harmonic: float = 1.0
    margin_percussive: float = 1.0
    method: Literal["hpss", "kam"] = "hpss"
    iterations: int = 2
    spatial: Literal["off", "paper", "power"] = "power"
    model: str = ""
    other_model: str = ""
    where: Literal["inline", "worker"] = "inline"
    worker_hops: int = 2  # 1 to 8; one gives the worker a hop's time at most
    blend: float | None = None
    wiener: bool = False
    score: bool | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The networks by name or path: none, one or two."""
        return tuple(model for model in (self.model, self.other_model) if model)

    @property
    def deferred_hops(self) -> int:
        """Hops by which the masks come later than their spectrum."""
        return self.worker_hops if self.model and self.where == "worker" else 0

    @property
    def has_residual(self) -> bool:
        """Whether some of the signal belongs to neither part."""
        return self.margin_harmonic > 1.0 or self.margin_percussive > 1.0


def check_separation(separation: Separation, path: str = "separation.") -> None:
    """Refuse what is out of range or contradicts itself. Raises `ConfigError` with the field behind `path`."""
    within(f"{path}iterations", separation.iterations, *ITERATIONS)
    for name, (low, high) in MASK_LIMITS.items():
        within(f"{path}{name}", getattr(separation, name), low, high)
    if separation.blend is not None:
        within(f"{path}blend", separation.blend, 0, 1)
    within(f"{path}worker_hops", separation.worker_hops, 1, MAX_WORKER_HOPS)
    plain = Separation()
    of_models, of_medians = (
        ("other_model", "where", "worker_hops", "blend", "wiener", "score"),
        ("mask", *MASK_LIMITS, "method", "iterations", "spatial"),
    )
    for name in of_medians if separation.model else of_models:
        if getattr(separation, name) != getattr(plain, name):
            why = "belongs to the medians, and model names a network" if separation.model else "belongs to a network: name it with model"
            raise ConfigError(f"{path}{name}", f"{why}; leave it out")
    if separation.where != "worker" and separation.worker_hops != plain.worker_hops:
        raise ConfigError(f"{path}worker_hops", 'belongs to where = "worker": write that too, or leave it out')
    names = [model_name(model) for model in separation.models]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}other_model", f"expected another name than {names[0]!r}: it is how they are told apart while they play")


def is_path(model: str) -> bool:
    """Whether a model is meant by its file and not by its name in the zoo."""
    return model.endswith(".onnx") or "/" in model


def model_name(model: str) -> str:
    """What a model is called while it plays: its name in the zoo, or its file's without the ending."""
    return Path(model).stem if is_path(model) else model


def anchored(separation: Separation, folder: Path) -> Separation:
    """`separation` with the paths of its files counted from `folder`."""
    keys = [key for key in ("model", "other_model") if is_path(getattr(separation, key))]
    there = {key: str(folder.resolve() / Path(getattr(separation, key)).expanduser()) for key in keys}
    return msgspec.structs.replace(separation, **there)
