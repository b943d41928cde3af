"""The device edge: opens a PortAudio stream on the native callback. The only place that says `samplerate` and `blocksize`.

Use it in the audio role only: PortAudio freezes its list of devices when sounddevice is imported, and a stream whose server has died
hangs in ``close`` for ever, so whoever owns a stream must be expendable.
"""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import os
import threading
from typing import Any

from rtserver.errors import DeviceError


def name_jack_client(name: str) -> None:
    """Set the name of PortAudio's client on the JACK graph. Before sounddevice is imported; without JACK it does nothing.

    Raises `DeviceError` for the name of the JACK server itself: JACK would give the client the server's socket.
    """
    if name == os.environ.get("JACK_DEFAULT_SERVER", "default"):
        raise DeviceError(f"the client name {name!r} is the JACK server's: choose another in audio.client_name")
    path = ctypes.util.find_library("portaudio")
    if not path:
        return
    library = ctypes.CDLL(path)
    if hasattr(library, "PaJack_SetClientName"):
        # PortAudio keeps the pointer: the buffer must outlive the stream.
        name_jack_client.buffer = ctypes.create_string_buffer(name.encode())  # type: ignore[attr-defined]
        library.PaJack_SetClientName(name_jack_client.buffer)  # type: ignore[attr-defined]


def import_sounddevice() -> Any:
    """sounddevice, or a `DeviceError` that says what to install."""
    try:
        import sounddevice
    except OSError as error:
        raise DeviceError(f"the PortAudio library is missing ({error}): install libportaudio2") from None
    return sounddevice


def find_device(sd: Any, device: str | int) -> int:
    """The index of a device by name, part of a name, or index; empty means JACK where it runs, else the default."""
    devices: list[dict[str, Any]] = list(sd.query_devices())
    if not devices:
        raise DeviceError("no audio device found: start JACK (jackd -d alsa, or -d dummy without hardware) or plug in an interface")
    if isinstance(device, int):
        if not 0 <= device < len(devices):
            raise DeviceError(f"audio.device: no device {device}; there are {len(devices)}, see `rtserver devices`")
        return device
    hosts = [str(h["name"]) for h in sd.query_hostapis()]
    duplex = [i for i, d in enumerate(devices) if d["max_input_channels"] and d["max_output_channels"]]
    if not device:
        jack = [i for i in duplex if "JACK" in hosts[devices[i]["hostapi"]]]
        if jack:
            return jack[0]
        default = int(sd.default.device[0])
        if default in duplex:
            return default
        if duplex:
            return duplex[0]
        raise DeviceError("no device has both inputs and outputs: name one in audio.device, see `rtserver devices`")
    found = [i for i in duplex if device.lower() in str(devices[i]["name"]).lower()]
    if not found:
        names = ", ".join(repr(str(devices[i]["name"])) for i in duplex)
        raise DeviceError(f"audio.device: no duplex device is called {device!r}; there are {names or 'none'}")
    return found[0]


class Stream:
    """A duplex float32 stream on a C callback.

    ``sounddevice._StreamBase`` takes a C function pointer; it is private, so sounddevice is pinned and a test opens a stream.
    """

    def __init__(
        self, device: str | int, *, sample_rate: int, block_size: int, channels: tuple[int, int], callback: int, user: int
    ) -> None:
        sd = self._sd = import_sounddevice()
        index = find_device(sd, device)
        info: dict[str, Any] = sd.query_devices(index)
        for side, wanted in zip(("input", "output"), channels, strict=True):
            there = int(info[f"max_{side}_channels"])
            if wanted > there:
                raise DeviceError(f"{info['name']!r} has {there} {side} channels, the configuration uses channel {wanted}")
        try:
            self._stream: Any = sd._StreamBase(
                kind="duplex",
                samplerate=sample_rate,
                blocksize=block_size,
                device=(index, index),
                channels=channels,
                dtype="float32",
                latency="low",
                clip_off=True,
                dither_off=True,
                callback=sd._ffi.cast("PaStreamCallback *", callback),
                userdata=sd._ffi.cast("void *", user),
                wrap_callback=None,
            )
        except sd.PortAudioError as error:
            raise DeviceError(
                f"cannot open {info['name']!r} at {sample_rate} Hz (it says {info['default_samplerate']:.0f}),"
                f" {block_size} frames, channels {channels}: {error} — does audio.sample_rate match the device's (or JACK's)?"
            ) from None
        self.name = str(info["name"])

    def start(self) -> None:
        """Let the callbacks come."""
        self._stream.start()

    @property
    def active(self) -> bool:
        """False once the stream has ended by itself. A killed JACK server may not be noticed: watch the callback counter."""
        return bool(self._stream.active)

    @property
    def latency_s(self) -> tuple[float, float]:
        """The device's own input and output latency in seconds, as it states them."""
        latency = self._stream.latency
        return float(latency[0]), float(latency[1])

    def close(self) -> bool:
        """Stop, close, and end PortAudio in this process, waiting at most half a second. False if it hangs, as it does for ever when the
        audio server has died: then the process must end by `os._exit`, for PortAudio's threads may still run.
        """
        atexit.unregister(self._sd._exit_handler)

        def end() -> None:
            self._stream.close()
            self._sd._terminate()

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        ending.join(0.5)
        return not ending.is_alive()
