"""The section `separation`, and what an input may say in its stead."""

from __future__ import annotations

from typing import Literal

import msgspec

from rtserver.config.bounds import within

# What the masks may be set to, live too. Beyond it nothing changes that can be heard.
MASK_LIMITS = {"exponent": (0.5, 8.0), "margin_harmonic": (1.0, 16.0), "margin_percussive": (1.0, 16.0)}

ITERATIONS = (1, 10)


class Separation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which causal separation runs inline in the engine, and how it shares out what it finds (`rtserver.dsp.masks`).

    preset : sizes of windows and medians, latency. mask : soft shares out each bin of a spectrum, hard gives it to the stronger part.
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

    @property
    def has_residual(self) -> bool:
        """Whether some of the signal belongs to neither part."""
        return self.margin_harmonic > 1.0 or self.margin_percussive > 1.0


def check_separation(separation: Separation, path: str = "separation.") -> None:
    """Refuse masks and iterations out of range. Raises `ConfigError` with the field behind `path`."""
    within(f"{path}iterations", separation.iterations, *ITERATIONS)
    for name, (low, high) in MASK_LIMITS.items():
        within(f"{path}{name}", getattr(separation, name), low, high)
