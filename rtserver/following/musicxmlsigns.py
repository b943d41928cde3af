"""What stands around the notes of a MusicXML bar: bar lines, directions, words, and what of them is a sign."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple
from xml.etree.ElementTree import Element

from rtserver.following.written import HINTS, TEMPO_RANGE, number_of, text_of

UNITS = {
    "breve": Fraction(8),
    "whole": Fraction(4),
    "half": Fraction(2),
    "quarter": Fraction(1),
    "eighth": Fraction(1, 2),
    "16th": Fraction(1, 4),
    "32nd": Fraction(1, 8),
}

# Printed wherever there is room under a bar, they act at its end: programs write them anywhere in it.
LEAPS = ("dacapo", "dalsegno", "tocoda", "fine")
# Words that leap, for files whose program did not say it in <sound>.
_LEAPS = (
    ("dacapo", re.compile(r"^(d\.? ?c\.?( |$)|da capo)", re.I)),
    ("dalsegno", re.compile(r"^(d\.? ?s\.?( |$)|d[ae]l segno)", re.I)),
    ("fine", re.compile(r"^fine\.?$", re.I)),
    ("tocoda", re.compile(r"^(to|al|alla) coda\b", re.I)),
    ("coda", re.compile(r"^coda\.?$", re.I)),
)
_AIMS = (("fine", re.compile(r"\bfine\b", re.I)), ("coda", re.compile(r"\bcoda\b", re.I)))
_TEMPO_WORDS = (
    r"grave|largo|larghetto|lento|adagio|adagietto|andante|andantino|moderato|allegretto|allegro|vivace|vivo|presto|prestissimo|"
    r"langsam|lebhaft|schnell|mäßig|rasch|lent|modéré|vif|animé"
)
_HINTS = (
    (
        "a tempo",
        r"^(a|im) tempo\b|\btempo (i\b|1|primo)|^tempo\.?$|\b(1er|premier) mouve?ment|au mouv|en mesure|^listesso tempo|l'istesso",
    ),
    (
        "ritardando",
        r"\brit(\.|ard|en)|\brall|\ballarg|\bslent|\bcalando|\bmorendo|\bperdendosi|\bcédez|\bretenu|\bralent|zurückhalt|langsamer",
    ),
    ("accelerando", r"\baccel|\bstring\.|\bstringendo|\bstretto|\baffrett|\bpressez|\bserrez|beschleunig|schneller"),
    ("free", r"\bad lib|\bcadenza|\brubato|\bsenza misura|\bcolla voce|\brecit"),
    ("tempo", rf"\b({_TEMPO_WORDS})\b"),
)
HINT_PATTERNS = tuple((HINTS.index(kind), re.compile(pattern, re.I)) for kind, pattern in _HINTS)


class FoundSign(NamedTuple):
    """A sign in its bar; `offset` None is the end of the bar."""

    kind: str
    bar: int
    offset: float | None
    name: str = ""
    times: int = 2
    aim: str = ""
    numbers: tuple[int, ...] = ()


class Found:
    """What a part holds. Places are (bar, quarters into it)."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, float, int, float, int]] = []  # bar, offset, bar and offset of the end, pitch
        self.signs: list[FoundSign] = []
        self.tempi: list[tuple[int, float | None, float]] = []
        self.hints: list[tuple[int, float, int, str]] = []
        self.ornaments: list[tuple[int, float, int, int]] = []
        self.fermatas: list[tuple[int, float | None]] = []
        self.marks: list[tuple[int, float, str]] = []
        self.metres: list[tuple[int, float, int, int]] = []
        self.keys: list[tuple[int, float, int, int]] = []
        self.warnings: dict[str, str] = {}
        self.middles: set[tuple[int, float]] = set()  # bar lines within bars
        self.bar = 0  # the one that is being read

    def barline(self, element: Element, offset: float) -> None:
        """Take a bar line that is written `offset` quarters into the bar."""
        place: float | None = {"left": 0.0, "middle": offset}.get(element.get("location", "right"))
        if element.get("location") == "middle":
            self.middles.add((self.bar, offset))
        for child in element:
            match child.tag:
                case "repeat":
                    times = number_of(child.get("times", "2"))
                    forward = child.get("direction") == "forward"
                    if forward or times is None or times > 1:
                        count = 2 if times is None else min(int(times), 1000)
                        self.signs.append(FoundSign("forward" if forward else "backward", self.bar, place, times=2 if forward else count))
                case "ending":
                    ranges = re.findall(r"(\d{1,2})(?: *- *(\d{1,2}))?", child.get("number", "")[:64])
                    numbers = tuple(n for low, high in ranges for n in range(int(low), int(high or low) + 1))
                    kind = "ending-start" if child.get("type") == "start" else "ending-stop"
                    self.signs.append(FoundSign(kind, self.bar, place, numbers=numbers or (1,)))
                case "fermata":
                    self.fermatas.append((self.bar, place))
                case "segno":
                    self.signs.append(FoundSign("segno", self.bar, place))
                case "coda":
                    self.signs.append(FoundSign("coda?", self.bar, place))
                case _:
                    pass

    def direction(self, element: Element, offset: float, divisions: Fraction | int) -> None:
        """Take a direction: rehearsal marks, signs, metronome marks, words, and what of it sounds."""
        sound = element.find("sound")
        shift = element.find("offset")
        moved = number_of(shift.text) if shift is not None and shift.get("sound") == "yes" else None
        sounding = max(0.0, offset + float(moved / divisions)) if moved else offset
        said = self.sound(sound, sounding) if sound is not None else set[str]()
        tempo = "tempo" in said
        for kind in element.findall("direction-type"):
            for child in kind:
                text = text_of("".join(child.itertext())) if child.tag in ("words", "rehearsal") else ""
                match child.tag:
                    case "rehearsal" if text:
                        self.marks.append((self.bar, offset, text))
                    case "segno" if not said & {"segno", "dalsegno"}:
                        self.signs.append(FoundSign("segno", self.bar, offset))
                    case "coda" if not said & {"coda", "tocoda"}:
                        self.signs.append(FoundSign("coda?", self.bar, offset))
                    case "metronome" if not tempo:
                        self._metronome(child, sounding)
                    case "words" if text:
                        self._words(text, offset, said)
                    case _:
                        pass

    def _metronome(self, element: Element, offset: float) -> None:
        unit = UNITS.get((element.findtext("beat-unit") or "").strip())
        digits = re.search(r"\d+(\.\d+)?", element.findtext("per-minute") or "")
        if unit is None or digits is None or len(digits.group()) > 12:
            return
        n_dots = min(len(element.findall("beat-unit-dot")), 3)
        bpm = float(digits.group()) * float(unit) * (2.0 - 0.5**n_dots)
        if TEMPO_RANGE[0] <= bpm <= TEMPO_RANGE[1]:
            self.tempi.append((self.bar, offset, bpm))

    def _words(self, text: str, offset: float, said: set[str]) -> None:
        for kind, pattern in HINT_PATTERNS:
            if pattern.search(text):
                self.hints.append((self.bar, offset, kind, text))
                break
        for kind, pattern in _LEAPS:
            if pattern.search(text):
                aim = next((name for name, words in _AIMS if words.search(text)), "") if kind in ("dacapo", "dalsegno") else ""
                if kind in said:  # the sound has the place, the words the aim
                    last = self.signs[-1]
                    if last.kind == kind:
                        self.signs[-1] = last._replace(aim=aim)
                elif not said & {"dacapo", "dalsegno", "tocoda", "coda", "fine"}:
                    self.signs.append(FoundSign(kind, self.bar, offset, aim=aim))
                break

    def sound(self, element: Element, offset: float) -> set[str]:
        """What a <sound> says. The names of what it said."""
        said: set[str] = set()
        tempo = number_of(element.get("tempo"))
        if tempo is not None and TEMPO_RANGE[0] <= tempo <= TEMPO_RANGE[1]:
            self.tempi.append((self.bar, offset, float(tempo)))
            said.add("tempo")
        for kind in ("segno", "coda", "dacapo", "dalsegno", "tocoda", "fine"):
            value = element.get(kind)
            if value is None or value == "no":
                continue
            name = text_of(value) if kind in ("segno", "coda", "dalsegno", "tocoda") else ""
            self.signs.append(FoundSign(kind, self.bar, offset, name))
            said.add(kind)
        if element.get("forward-repeat") == "yes":
            self.signs.append(FoundSign("forward", self.bar, offset))
        return said
