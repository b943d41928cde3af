"""The sections `audio`, `inputs` and `outputs`: the device, what comes in and what goes out."""

from __future__ import annotations

from typing import Literal

import msgspec

from rtserver.config.separation import Separation

PARTS = ("harmonic", "percussive", "residual")  # what an input without a model is separated into


class Audio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device. `device` is a name (or part of one) or an index as ``rtserver devices`` lists them; empty means the default."""

    device: str | int = ""
    sample_rate: int = 48000  # Hz
    block_size: int = 128  # frames a device callback: 2.7 ms at 48 kHz, safe on most interfaces
    spare_blocks: int = 1  # blocks of slack for the engine: 1 with real-time priority, 2 to 4 without
    client_name: str = ""  # name on the JACK graph; empty means the server's name
    input_channels: int = 0  # of the device, to be opened; 0: as many as the show uses. More leave room for a reload
    output_channels: int = 0


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named input: device channels, counted from 1, and how it is separated (None: as ``[separation]`` says)."""

    channels: list[int] = msgspec.field(default_factory=lambda: [1])
    separation: Separation | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named output.

    source : dry; harmonic, percussive or residual, or a stem of the input's separation model; or click (``[click]``), which is made of no
    input and aligned with nothing. input : of which input; empty means the first. channels : device channels from 1 (mono is copied to
    each). bypass : play the dry input at this
    output's latency. on_late : what is heard when the source is late; of several outputs of one input on one channel, one at most may fall
    back to dry. align : delay this output to the latest of those that share a channel with it (else they comb).
    """

    source: str
    channels: list[int]
    input: str = ""
    gain_db: float = 0.0
    mute: bool = False
    bypass: bool = False
    on_late: Literal["dry", "mute"] = "mute"
    align: bool = True
