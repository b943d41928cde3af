"""Every error that rtserver raises on purpose.

A message names the thing, what was expected, what came, and the likely remedy.
"""

from __future__ import annotations


class RtserverError(Exception):
    """Base of all errors that a user can cause or mend."""


class SpecError(RtserverError):
    """Two nodes do not fit together, or a node's parameters contradict each other. Raised by `prepare` only."""


class ConfigError(RtserverError):
    """A configuration file is wrong. `field` is the path of the offending key, for example ``audio.block_size``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class DeviceError(RtserverError):
    """An audio or MIDI device is missing, busy or does not do what was asked."""


class ScoreError(RtserverError):
    """A score cannot be read, or holds nothing that can be followed."""


class SynthesisError(RtserverError):
    """The synthesiser or its sound font is missing, or makes no sound."""


class ModelError(RtserverError):
    """A model file or its manifest is missing, altered or of the wrong shape."""


class ProtocolError(RtserverError):
    """A message does not follow the wire protocol."""


class SharedMemoryError(RtserverError):
    """A shared block is stale, of another version, or of another size than expected."""


class AudioFileError(RtserverError):
    """An audio file is missing, unreadable, unwritable or at a rate that is not taken."""
