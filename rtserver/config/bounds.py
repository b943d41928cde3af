"""What a value of any section may be held to."""

from __future__ import annotations

from rtserver.errors import ConfigError


def within(field: str, value: float, low: float, high: float) -> None:
    """Raises `ConfigError` unless `value` lies from `low` to `high`."""
    if not low <= value <= high:
        raise ConfigError(field, f"expected {low:.12g} to {high:.12g}, got {value:.12g}")
