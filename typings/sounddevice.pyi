from types import TracebackType
from typing import Any, Self

# cffi handles; their members are PortAudio's own.
_ffi: Any
_lib: Any

def _initialize() -> None: ...
def _terminate() -> None: ...

class PortAudioError(Exception): ...
class CallbackStop(Exception): ...
class CallbackAbort(Exception): ...

class CallbackFlags:
    input_underflow: bool
    input_overflow: bool
    output_underflow: bool
    output_overflow: bool
    priming_output: bool
    def __bool__(self) -> bool: ...

class DeviceList(tuple[dict[str, Any], ...]): ...

def query_devices(device: int | str | None = None, kind: str | None = None) -> Any: ...
def query_hostapis(index: int | None = None) -> Any: ...
def get_portaudio_version() -> tuple[int, str]: ...

class default:
    device: Any
    channels: Any
    dtype: Any
    latency: Any
    samplerate: Any
    blocksize: Any
    hostapi: int

class _StreamBase:
    _ptr: Any
    def __init__(
        self,
        kind: str,
        samplerate: float | None = None,
        blocksize: int | None = None,
        device: Any = None,
        channels: Any = None,
        dtype: Any = None,
        latency: Any = None,
        extra_settings: Any = None,
        callback: Any = None,
        finished_callback: Any = None,
        clip_off: bool | None = None,
        dither_off: bool | None = None,
        never_drop_input: bool | None = None,
        prime_output_buffers_using_stream_callback: bool | None = None,
        userdata: Any = None,
        wrap_callback: str | None = None,
    ) -> None: ...
    @property
    def samplerate(self) -> float: ...
    @property
    def blocksize(self) -> int: ...
    @property
    def device(self) -> Any: ...
    @property
    def channels(self) -> Any: ...
    @property
    def latency(self) -> Any: ...
    @property
    def active(self) -> bool: ...
    @property
    def stopped(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def time(self) -> float: ...
    @property
    def cpu_load(self) -> float: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None: ...
    def start(self) -> None: ...
    def stop(self, ignore_errors: bool = True) -> None: ...
    def abort(self, ignore_errors: bool = True) -> None: ...
    def close(self, ignore_errors: bool = True) -> None: ...

class Stream(_StreamBase):
    def __init__(
        self,
        samplerate: float | None = None,
        blocksize: int | None = None,
        device: Any = None,
        channels: Any = None,
        dtype: Any = None,
        latency: Any = None,
        extra_settings: Any = None,
        callback: Any = None,
        **options: Any,
    ) -> None: ...
