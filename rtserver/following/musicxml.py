"""MusicXML as it is written, bar by bar: what a player would play, and the signs around it.

partitura reads MusicXML too, but knows no cue notes, rehearsal marks, arpeggios or octave transpositions, takes time that grows with
the square of the score, and lets one part's short bar shift it against the others. Here a bar is as long as its longest part, time is
counted in ratios of whole numbers within it, and a file is read in one pass that keeps one bar at a time.

MusicXML 4.0: https://www.w3.org/2021/06/musicxml40/. Both partwise and timewise files are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from rtserver.errors import ScoreError
from rtserver.following.musicxmlbar import BarReader
from rtserver.following.musicxmlsigns import LEAPS, Found
from rtserver.following.written import MAX_BARS, MAX_NOTES, MAX_PARTS, MAX_QUARTERS, Bar, Note, Sign, Written, plain, text_of

CHUNK = 65536
# Elements of one bar at most: the fullest bars of an orchestra have some ten thousand.
MAX_ELEMENTS = 1_000_000


def read_musicxml(content: bytes) -> Written:
    """The score in `content`. Raises `ScoreError` or `ElementTree.ParseError`."""
    score = Written()
    bars: list[_Bar] = []
    readers: dict[str, BarReader] = {}
    n_notes, n_read = 0, 0
    for part, index, bar in _bars(content, score, readers):
        if index >= MAX_BARS:
            raise ScoreError(f"expected at most {MAX_BARS} bars, found more: is it one score?")
        bars += [_Bar() for _ in range(index + 1 - len(bars))]
        reader = readers[part]
        if not bars[index].number:
            bars[index].number = text_of(bar.get("number"))
            bars[index].implicit = bar.get("implicit") == "yes"
        n_notes -= len(reader.found.notes)
        length = reader.read(bar, index)
        n_notes += len(reader.found.notes)
        n_read += 1
        if n_notes > MAX_NOTES:
            raise ScoreError(f"expected at most {MAX_NOTES} notes, found more: is it one score?")
        bars[index].length = max(bars[index].length, length)
        bars[index].nominal = max(bars[index].nominal, reader.nominal)
    if not n_read:
        raise ScoreError("expected at least one measure in a part, found none")
    score.parts = [reader.name or f"part {i + 1}" for i, reader in enumerate(readers.values())]
    _place(score, bars, list(readers.values()))
    return score


class _Bar:
    """A bar while its parts are read."""

    def __init__(self) -> None:
        self.number = ""
        self.implicit = False
        self.length = Fraction(0)
        self.nominal = Fraction(0)


def _bars(content: bytes, score: Written, readers: dict[str, BarReader]) -> Iterator[tuple[str, int, Element]]:
    """Every bar of every part as (part id, index of the bar, element), as the file has them; the head is read on the way."""
    around: list[Element] = []  # the elements that are open
    timewise = False
    index, counted = -1, 0
    counts: dict[str, int] = {}
    for event, element in _events(content):
        tag = element.tag
        if event == "start":
            counted += 1
            if counted > MAX_ELEMENTS:
                raise ScoreError(f"expected at most {MAX_ELEMENTS} elements in a bar, found more: is it music?")
            if not around:
                if tag not in ("score-partwise", "score-timewise"):
                    raise ScoreError(f"expected MusicXML, <score-partwise> or <score-timewise>, found <{str(tag)[:40]}>")
                timewise = tag == "score-timewise"
            index += tag == "measure" and timewise
            around.append(element)
            continue
        around.pop()
        if tag == ("part" if timewise else "measure") and around:
            outer = around[-1]
            name = (element if timewise else outer).get("id", "")
            _reader(readers, name)
            counts[name] = counts.get(name, -1) + 1
            if timewise:
                element.attrib |= {key: outer.attrib[key] for key in ("number", "implicit") if key in outer.attrib}
            yield name, max(index, 0) if timewise else counts[name], element
        elif tag == "part-list":
            _part_list(element, readers)
        elif tag in ("work-title", "movement-title") and element.text and not score.title:
            score.title = text_of(element.text)
        if 1 <= len(around) <= 2 and around[-1].tag != "part-list":  # a bar, or what stands beside one: done with
            del around[-1][:]
            counted = 0


def _events(content: bytes) -> Iterator[tuple[str, Element]]:
    """Starts and ends of elements. An entity bomb is refused: a score declares none."""
    if b"<!ENTITY" in (content.replace(b"\0", b"") if b"\0" in content[:4] else content):
        raise ScoreError("expected a score without entity declarations, found <!ENTITY: remove them, or export it again")
    parser: ElementTree.XMLPullParser[Element] = ElementTree.XMLPullParser(("start", "end"))
    source = BytesIO(content)
    while chunk := source.read(CHUNK):
        parser.feed(chunk)
        yield from parser.read_events()  # pyright: ignore[reportReturnType]
    parser.close()
    yield from parser.read_events()  # pyright: ignore[reportReturnType]


def _reader(readers: dict[str, BarReader], part: str) -> BarReader:
    """Who reads the part of that id."""
    if part not in readers:
        if len(readers) >= MAX_PARTS:
            raise ScoreError(f"expected at most {MAX_PARTS} parts, found more: is it one score?")
        readers[part] = BarReader(len(readers), text_of(part))
    return readers[part]


def _part_list(element: Element, readers: dict[str, BarReader]) -> None:
    for part in element.iter("score-part"):
        name = part.get("id", "")
        reader = _reader(readers, name)
        reader.name = text_of(part.findtext("part-name")) or reader.name
        channels = [text.strip() for text in (c.text for c in part.iter("midi-channel")) if text]
        reader.percussion = bool(channels) and all(c == "10" for c in channels)


def _place(score: Written, bars: list[_Bar], parts: list[BarReader]) -> None:
    """From (bar, quarters into it) to quarters from the beginning."""
    start = Fraction(0)
    starts: list[Fraction] = []
    for bar in bars:
        starts.append(start)
        start = plain(start + (bar.length or bar.nominal))  # a bar that holds nothing at all is a bar of rest
        if start > MAX_QUARTERS:
            raise ScoreError(f"expected at most {MAX_QUARTERS:g} quarters in all, found more: is a <duration> or <divisions> damaged?")
    lengths = [bar.length or bar.nominal for bar in bars]
    origin = [float(s) for s in (*starts, start)]
    score.end = origin[-1]
    score.bars = [Bar(origin[i], b.number or str(i + 1), float(b.nominal), b.implicit) for i, b in enumerate(bars)]

    def at(bar: int, offset: float | None) -> float:
        """None is the end of the bar; what lies beyond it is there too."""
        return origin[bar + 1] if offset is None or offset >= lengths[bar] else origin[bar] + float(offset)

    seen: set[Sign] = set()
    tempi: dict[float, float] = {}
    for part, reader in enumerate(parts):
        found = reader.found
        for bar, offset, end_bar, end_offset, pitch, carried in reader.notes:
            onset = origin[bar] + offset
            end = max(onset, origin[end_bar] + end_offset)
            score.notes.append(Note(onset, 0.0 if (bar, offset) == (end_bar, end_offset) else end - onset, pitch, part, carried))
        for sign in _signs(found, at):
            seen.add(sign)
        for bar, offset, bpm in found.tempi:
            tempi.setdefault(at(bar, offset), bpm)
        score.hints += [(at(bar, offset), kind, text) for bar, offset, kind, text in found.hints]
        score.ornaments += [(origin[bar] + offset, pitch, kind) for bar, offset, pitch, kind in found.ornaments]
        score.fermatas += [at(bar, offset) for bar, offset in found.fermatas]
        score.marks += [(at(bar, offset), text) for bar, offset, text in found.marks]
        score.metres += [(at(bar, offset), beats, kind) for bar, offset, beats, kind in found.metres]
        score.keys += [(at(bar, offset), fifths, mode) for bar, offset, fifths, mode in found.keys]
        score.warnings += [f"{score.parts[part]}: {text}" for text in found.warnings.values()]
    score.signs = _agreed(seen)
    score.tempi = sorted(tempi.items())
    score.hints, score.marks, score.metres, score.keys = (
        sorted(set(score.hints)),
        sorted(set(score.marks)),
        sorted(set(score.metres)),
        sorted(set(score.keys)),
    )
    score.fermatas = sorted(set(score.fermatas))


def _signs(found: Found, at: Callable[[int, float | None], float]) -> Iterable[Sign]:
    """The signs of one part, endings joined; a coda sign of unknown purpose is a To Coda unless it is the last."""
    opened: tuple[int, float | None, tuple[int, ...]] | None = None
    codas = [s for s in found.signs if s.kind == "coda?"]
    written = {s.kind for s in found.signs}
    for s in found.signs:
        within = s.kind not in LEAPS or (s.bar, s.offset) in found.middles
        place = at(s.bar, s.offset if within else None)
        if s.kind == "ending-start":
            opened = (s.bar, s.offset, s.numbers)
        elif s.kind == "ending-stop":
            bar, offset, numbers = opened or (s.bar, 0.0, s.numbers)
            yield Sign("ending", at(bar, offset), end=place, numbers=numbers)
            opened = None
        elif s.kind == "coda?":
            last = s is codas[-1]
            if last and "coda" not in written:
                yield Sign("coda", place)
            elif not last and "tocoda" not in written:
                yield Sign("tocoda", at(s.bar, None))
        else:
            yield Sign(s.kind, place, s.name, times=s.times, aim=s.aim)
    if opened is not None:
        bar, offset, numbers = opened
        yield Sign("ending", at(bar, offset), end=at(bar, None), numbers=numbers)


def _agreed(signs: set[Sign]) -> list[Sign]:
    """Signs that several parts show, once: of two of a kind in one place the one that says more."""
    kept: dict[tuple[str, float], Sign] = {}
    for sign in sorted(signs, key=lambda s: (s.at, s.kind, bool(s.aim), s.name, s.times, s.end, s.numbers)):
        kept[sign.kind, sign.at] = sign
    return list(kept.values())
