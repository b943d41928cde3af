"""Types of command-line options: numbers that make sense, and one line where they do not."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """A type of an option: a whole number from `least` to `most`."""

    def read_whole(text: str) -> int:
        try:
            x = int(text)
        except ValueError:
            x = least - 1
        if not least <= x <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return x

    return read_whole


def number(least: float = 0.0, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A type of an option: a finite number from `least` to `most`, or `above` the least."""
    wanted = ("more than" if above else "at least") + f" {least:g}" + ("" if math.isinf(most) else f", at most {most:g}")

    def read_number(text: str) -> float:
        try:
            x = float(text)
        except ValueError:
            x = math.nan
        if not math.isfinite(x) or x < least or x > most or (above and x == least):
            raise argparse.ArgumentTypeError(f"expected a number, {wanted}, got {text!r}")
        return x

    return read_number
