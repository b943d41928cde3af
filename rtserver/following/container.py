"""The bytes of a score file, out of whatever it is packed in, within limits."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from rtserver.errors import ScoreError

XML_SUFFIXES = (".musicxml", ".xml", ".mxl")
MIDI_SUFFIXES = (".mid", ".midi")
# The largest symphony movements have a few hundred thousand notes, well under this; a larger file is something else.
MAX_BYTES = 200_000_000
MAX_CONTAINER = 1_000_000


def read_file(path: Path, suffixes: tuple[str, ...]) -> bytes:
    """What lies at `path`. Raises `ScoreError` unless it is a readable file of a known kind that is neither empty nor too large."""
    if path.is_dir():
        raise ScoreError(f"{path}: expected a score, found a folder: name a file in it")
    if not path.exists():
        raise ScoreError(f"{path}: no such file")
    if not path.is_file():
        raise ScoreError(f"{path}: expected a score, found something that is no file")
    if path.suffix.lower() not in suffixes:
        known = " ".join(suffixes)
        raise ScoreError(f"{path}: expected a score ({known}), got a file ending in {path.suffix!r}: export it as MusicXML or MIDI")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ScoreError(f"{path}: {size} bytes is more than any score has (limit {MAX_BYTES})")
        content = path.read_bytes()
    except OSError as error:
        raise ScoreError(f"{path}: cannot be opened ({error.strerror or error}): see who may read it") from error
    if not content:
        raise ScoreError(f"{path}: the file is empty")
    return content


def unpack(content: bytes) -> bytes:
    """The MusicXML inside a compressed file; anything else as it is. Raises `ScoreError`, or what zipfile throws at a broken archive."""
    if not content.startswith(b"PK"):
        return content
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = [e.filename for e in archive.infolist()]
        name = _rootfile(archive) if "META-INF/container.xml" in names else None
        if name not in names:
            name = next((n for n in names if _is_xml(n)), None)
        if name is None:
            raise ScoreError(f"expected a .musicxml or .xml inside, found {', '.join(names[:5]) or 'nothing'}: export it again")
        return _take(archive, name, MAX_BYTES)


def _is_xml(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in (".xml", ".musicxml") and not name.startswith(("META-INF/", "__MACOSX/"))


def _rootfile(archive: zipfile.ZipFile) -> str | None:
    """The first score that the container names."""
    container = _take(archive, "META-INF/container.xml", MAX_CONTAINER)
    if b"<!ENTITY" in container.replace(b"\0", b""):
        raise ScoreError("expected a container without entity declarations, found <!ENTITY: export the score again")
    for element in ElementTree.fromstring(container).iter():
        if element.tag.rpartition("}")[2] == "rootfile" and element.get("media-type", "xml").endswith("xml"):
            return element.get("full-path")
    return None


def _take(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """An entry, however large it claims to be."""
    with archive.open(name) as entry:
        content = entry.read(limit + 1)
    if len(content) > limit:
        raise ScoreError(f"expected {name} to hold at most {limit} bytes, found more: is it a score?")
    return content
