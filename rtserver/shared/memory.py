"""One block of memory that all roles share: a versioned header and named arrays.

The block has no name in the file system: its file descriptor is inherited by the roles, so nothing stale can be attached, and the
kernel frees it with the last process. Only fixed-size arrays live in it; each has one writer, stated where the field is declared.
"""

from __future__ import annotations

import mmap
import os
import secrets
import tempfile
from dataclasses import dataclass, field

import msgspec
import numpy as np

from rtserver.errors import SharedMemoryError
from rtserver.node import Array

MAGIC = int.from_bytes(b"RTSERVER", "little", signed=True)
VERSION = 1
HEADER_SIZE = 64  # bytes: magic, version, boot id, size, length of the layout, length of the setup, pid of the creator (int64 each)
SETUP_SIZE = 1 << 18  # bytes behind the header for the layout and the setup: JSON, some 30 kB in use
ALIGNMENT = 64  # a cache line, so that two writers never share one
# Every page is there and mapped from the start: a ring's first lap must not wait for the kernel to find and clear pages. (Linux)
POPULATE = getattr(mmap, "MAP_POPULATE", 0)


class Field(msgspec.Struct, frozen=True, array_like=True):
    """One named array in the block."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass
class Layout:
    """Where everything is. Built once by the supervisor, sent to every role, and never changed while the block lives."""

    fields: dict[str, Field] = field(default_factory=dict[str, Field])
    size: int = HEADER_SIZE + SETUP_SIZE

    def add(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Reserve an array; raises `SharedMemoryError` if the name is taken."""
        if name in self.fields:
            raise SharedMemoryError(f"shared array {name!r} is declared twice")
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self.fields[name] = Field(name, dtype, shape, offset)
        self.size = offset + int(np.prod(shape)) * np.dtype(dtype).itemsize


class Block:
    """A mapped block. ``block["name"]`` is a NumPy view of the field; the address is fixed while the block is mapped."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | POPULATE)
        self._header = np.frombuffer(self._map, np.int64, HEADER_SIZE // 8)
        self.bytes = np.frombuffer(self._map, np.uint8)
        self.layout = Layout()
        self._views: dict[str, Array] = {}

    @staticmethod
    def create(layout: Layout, setup: bytes = b"") -> Block:
        """A zeroed block with a new boot id. `setup` is handed to whoever attaches."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("rtserver", 0)
        else:  # macOS: an unlinked file serves as well
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, layout.size)
        os.set_inheritable(fd, True)
        block = Block(fd, layout.size)
        block.layout = layout
        described = msgspec.json.encode(list(layout.fields.values()))
        if len(described) + len(setup) > SETUP_SIZE:
            raise SharedMemoryError(f"layout and setup take {len(described) + len(setup)} bytes, at most {SETUP_SIZE} fit")
        block.bytes[HEADER_SIZE : HEADER_SIZE + len(described)] = np.frombuffer(described, np.uint8)
        start = HEADER_SIZE + len(described)
        block.bytes[start : start + len(setup)] = np.frombuffer(setup, np.uint8)
        block._header[:7] = (MAGIC, VERSION, secrets.randbits(62), layout.size, len(described), len(setup), os.getpid())
        return block

    @staticmethod
    def attach(fd: int) -> Block:
        """The block behind an inherited descriptor. Raises `SharedMemoryError` if it is not one of this version."""
        size = os.fstat(fd).st_size
        if size < HEADER_SIZE + SETUP_SIZE:
            raise SharedMemoryError(f"descriptor {fd} holds {size} bytes: not a shared block of rtserver")
        block = Block(fd, size)
        magic, version, _, stated = (int(v) for v in block._header[:4])
        if (magic, version, stated) != (MAGIC, VERSION, size):
            raise SharedMemoryError(f"shared block is of version {version}, expected {VERSION}: mixed versions of rtserver?")
        start, length = HEADER_SIZE, int(block._header[4])
        fields = msgspec.json.decode(block.bytes[start : start + length].tobytes(), type=list[Field])
        block.layout = Layout({f.name: f for f in fields}, size)
        return block

    @property
    def setup(self) -> bytes:
        """What the creator handed over."""
        start = HEADER_SIZE + int(self._header[4])
        return self.bytes[start : start + int(self._header[5])].tobytes()

    @property
    def creator(self) -> int:
        """Process id of the creator."""
        return int(self._header[6])

    @property
    def boot_id(self) -> int:
        """Random number of the session."""
        return int(self._header[2])

    @property
    def address(self) -> int:
        """Address of the block in this process."""
        return int(self.bytes.ctypes.data)

    def offset(self, name: str) -> int:
        """Byte offset of a field."""
        return self.layout.fields[name].offset

    def __getitem__(self, name: str) -> Array:
        view = self._views.get(name)
        if view is None:
            f = self.layout.fields[name]
            count = int(np.prod(f.shape))
            view = np.frombuffer(self._map, np.dtype(f.dtype), count, f.offset).reshape(f.shape)
            self._views[name] = view
        return view

    def __contains__(self, name: str) -> bool:
        return name in self.layout.fields
