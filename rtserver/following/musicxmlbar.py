"""One bar of one part of a MusicXML file, and what is remembered from bar to bar."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple
from xml.etree.ElementTree import Element

from rtserver.errors import ScoreError
from rtserver.following.written import HINTS, MAX_QUARTERS, ORNAMENTS, TEMPO_RANGE, number_of

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
UNITS = {
    "breve": Fraction(8),
    "whole": Fraction(4),
    "half": Fraction(2),
    "quarter": Fraction(1),
    "eighth": Fraction(1, 2),
    "16th": Fraction(1, 4),
    "32nd": Fraction(1, 8),
}
_ORNAMENT = {
    "trill-mark": "trill",
    "shake": "trill",
    "wavy-line": "trill",
    "turn": "turn",
    "delayed-turn": "turn",
    "inverted-turn": "turn",
    "delayed-inverted-turn": "turn",
    "vertical-turn": "turn",
    "inverted-vertical-turn": "turn",
    "mordent": "mordent",
    "inverted-mordent": "mordent",
    "tremolo": "tremolo",
    "schleifer": "slide",
    "haydn": "other",
    "other-ornament": "other",
}
KIND = {tag: ORNAMENTS.index(name) for tag, name in _ORNAMENT.items()}
ARPEGGIO, SLIDE = ORNAMENTS.index("arpeggio"), ORNAMENTS.index("slide")
MODES = {"major": 0, "minor": 1}

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
MAX_TEXT = 200


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


class BarReader:
    """Reads the bars of one part, in order."""

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self.percussion = False
        self.found = Found()
        self.nominal = Fraction(4)
        self._divisions: Fraction | int = 1
        self._shift = 0  # semitones from the written to the sounding pitch
        self._drum_clefs: set[str] = set()
        self._tied: list[tuple[Fraction, Fraction, int, int, str, bool, bool]] = []  # start, end, index, pitch, voice, stops, starts
        self._held: dict[int, list[tuple[int, str]]] = {}  # by pitch: notes (index, voice) that are tied into the next bar
        self._absorbed: set[int] = set()
        self._length = Fraction(0)

    def read(self, bar: Element, index: int) -> Fraction:
        """Take bar number `index` (from 0). Its length in quarters."""
        self.bar = index
        # Quarters into the bar are base + tick / divisions: exact, and equal places are equal floats.
        self._base, self._tick = Fraction(0), 0 if isinstance(self._divisions, int) else Fraction(0)
        self._chord: Fraction | int = 0
        self._chord_size: Fraction | int = 0
        self._length = Fraction(0)
        for element in bar:
            tag = element.tag
            if tag == "note":
                self._note(element)
            elif tag == "backup":
                self._tick = max(self._tick - self._ticks(element), -self._base * self._divisions if self._base else 0)
            elif tag == "forward":
                self._tick += self._ticks(element)
                self._stretch()
            elif tag == "attributes":
                self._attributes(element)
            elif tag == "direction":
                self._direction(element)
            elif tag == "sound":
                self._sound(element, self._offset())
            elif tag == "barline":
                self._barline(element)
        self._join()
        return self._length

    @property
    def notes(self) -> list[tuple[int, float, int, float, int]]:
        """The notes found, without those that a tie made part of another."""
        return [note for i, note in enumerate(self.found.notes) if i not in self._absorbed]

    def _offset(self, tick: Fraction | int | None = None) -> float:
        return float(self._exact(tick)) if self._base else float((self._tick if tick is None else tick) / self._divisions)

    def _exact(self, tick: Fraction | int | None = None) -> Fraction:
        return self._base + Fraction(self._tick if tick is None else tick) / self._divisions

    def _stretch(self) -> None:
        here = self._exact()
        if here > self._length:
            if here > MAX_QUARTERS:
                raise ScoreError(f"expected a bar of some quarters, bar {self.bar + 1} has {float(here):g}: is a <duration> damaged?")
            self._length = here

    def _ticks(self, element: Element) -> Fraction | int:
        text = element.findtext("duration")
        ticks = number_of(text)
        if ticks is None or ticks < 0:
            if text is not None:
                self.found.warnings["duration"] = f"a <duration> in bar {self.bar + 1} is no length ({text[:20]!r}); it counts as 0"
            return 0
        return ticks

    def _note(self, note: Element) -> None:
        pitch: Element | None = None
        notations: list[Element] = []
        ties: list[str] = []
        grace = cue = chord = False
        voice = ""
        for child in note:
            match child.tag:
                case "pitch":
                    pitch = child
                case "notations":
                    notations.append(child)
                case "tie":
                    ties.append(child.get("type", ""))
                case "grace":
                    grace = True
                case "cue":
                    cue = True
                case "chord":
                    chord = True
                case "voice":
                    voice = child.text or ""
                case _:
                    pass
        if grace:
            start, size = (self._chord, 0) if chord else (self._tick, 0)
        elif chord:
            start, size = self._chord, self._chord_size
        else:
            start, size = self._tick, self._ticks(note)
            self._tick += size
            self._chord_size = size
            self._stretch()
        self._chord = start
        offset = self._offset(start)
        for element in notations:
            if element.find("fermata") is not None:
                self.found.fermatas.append((self.bar, offset))
        if pitch is None or cue or self.percussion or (note.findtext("staff") or "1") in self._drum_clefs:
            return
        number = self._pitch(pitch)
        if number is None:
            return
        for element in notations:
            self._ornaments(element, offset, number)
        self._keep(number, (start, start + size), ties, voice)

    def _keep(self, pitch: int, span: tuple[Fraction | int, Fraction | int], ties: list[str], voice: str) -> None:
        """A note. Ties are joined when the bar is complete: the voice that a note is tied to may be written later."""
        start, end = span
        if ties and end != start:
            self._tied.append((self._exact(start), self._exact(end), len(self.found.notes), pitch, voice, "stop" in ties, "start" in ties))
        self.found.notes.append((self.bar, self._offset(start), self.bar, self._offset(end), pitch))

    def _join(self) -> None:
        """Make one note of those that are tied, within the bar and from the bar before."""
        notes = self.found.notes
        waiting = {pitch: [(index, Fraction(0), voice) for index, voice in held] for pitch, held in self._held.items()}
        for start, end, index, pitch, voice, stops, starts in sorted(self._tied):
            reached = [w for w in waiting.get(pitch, ()) if w[1] == start] if stops else []
            if reached:
                one = next((w for w in reached if w[2] == voice), reached[0])
                waiting[pitch].remove(one)
                notes[one[0]] = (*notes[one[0]][:2], *notes[index][2:])
                self._absorbed.add(index)
                index = one[0]
            if starts:
                waiting.setdefault(pitch, []).append((index, end, voice))
        self._held = {pitch: held for pitch, all_of in waiting.items() if (held := [(w[0], w[2]) for w in all_of if w[1] > 0])}
        self._tied.clear()

    def _pitch(self, pitch: Element) -> int | None:
        step = STEPS.get((pitch.findtext("step") or "").strip().upper())
        octave, alter = number_of(pitch.findtext("octave")), number_of(pitch.findtext("alter") or "0")
        if step is None or octave is None or alter is None or not -2 <= octave <= 12:
            self.found.warnings["pitch"] = f"a note in bar {self.bar + 1} has no readable pitch; it is left out"
            return None
        number = 12 * (int(octave) + 1) + step + round(alter) + self._shift
        if not 0 <= number <= 127:
            self.found.warnings["range"] = f"a note in bar {self.bar + 1} is beyond all instruments (MIDI pitch {number}); it is left out"
            return None
        return number

    def _ornaments(self, notations: Element, offset: float, pitch: int) -> None:
        kinds: set[int] = set()
        for element in notations:
            if element.tag == "ornaments":
                kinds |= {KIND[e.tag] for e in element if e.tag in KIND and e.get("type") not in ("stop", "continue")}
            elif element.tag == "arpeggiate":
                kinds.add(ARPEGGIO)
            elif element.tag in ("glissando", "slide") and element.get("type") == "start":
                kinds.add(SLIDE)
        self.found.ornaments += [(self.bar, offset, pitch, kind) for kind in sorted(kinds)]

    def _attributes(self, element: Element) -> None:
        divisions = number_of(element.findtext("divisions"))
        if divisions is not None and divisions > 0:
            self._base, self._tick = self._exact(), 0
            self._divisions = divisions
        elif element.find("divisions") is not None:
            self.found.warnings["divisions"] = f"a <divisions> in bar {self.bar + 1} is no number above 0; the one before it stays"
        transpose = element.find("transpose")
        if transpose is not None:
            chromatic = number_of(transpose.findtext("chromatic") or "0") or 0
            octaves = number_of(transpose.findtext("octave-change") or "0") or 0
            self._shift = round(chromatic) + 12 * round(octaves)
        for clef in element.findall("clef"):
            staff = clef.get("number", "1")
            (self._drum_clefs.add if clef.findtext("sign") == "percussion" else self._drum_clefs.discard)(staff)
        fifths = number_of(element.findtext("key/fifths"))
        if fifths is not None and abs(fifths) < 15:
            mode = MODES.get((element.findtext("key/mode") or "").strip().lower(), -1)
            self.found.keys.append((self.bar, self._offset(), int(fifths), mode))
        time = element.find("time")
        if time is not None:
            self._metre(time)

    def _metre(self, time: Element) -> None:
        """A time signature, sums such as 3+2 over 8 or 3/4 + 3/8 included."""
        quarters, least = Fraction(0), 0
        for beats, kind in zip(time.findall("beats"), time.findall("beat-type"), strict=False):
            counts = [number_of(text) for text in (beats.text or "").split("+")]
            unit = number_of(kind.text)
            if unit is None or unit not in (1, 2, 4, 8, 16, 32, 64, 128) or any(c is None or not 0 < c < 1000 for c in counts):
                self.found.warnings["time"] = f"a time signature in bar {self.bar + 1} is none that is known; it is left out"
                return
            quarters += sum((Fraction(c) for c in counts if c is not None), Fraction(0)) * 4 / unit
            least = max(least, int(unit))
        if quarters:
            self.nominal = quarters
            self.found.metres.append((self.bar, self._offset(), max(1, round(quarters * least / 4)), least))

    def _barline(self, element: Element) -> None:
        place: float | None = {"left": 0.0, "middle": self._offset()}.get(element.get("location", "right"))
        found = self.found
        for child in element:
            match child.tag:
                case "repeat":
                    times = number_of(child.get("times", "2"))
                    forward = child.get("direction") == "forward"
                    if forward or times is None or times > 1:
                        count = 2 if times is None else min(int(times), 1000)
                        found.signs.append(FoundSign("forward" if forward else "backward", self.bar, place, times=2 if forward else count))
                case "ending":
                    numbers = tuple(int(n) for n in re.findall(r"\d{1,2}", child.get("number", "")))
                    kind = "ending-start" if child.get("type") == "start" else "ending-stop"
                    found.signs.append(FoundSign(kind, self.bar, place, numbers=numbers or (1,)))
                case "fermata":
                    found.fermatas.append((self.bar, place))
                case "segno":
                    found.signs.append(FoundSign("segno", self.bar, place))
                case "coda":
                    found.signs.append(FoundSign("coda?", self.bar, place))
                case _:
                    pass

    def _direction(self, element: Element) -> None:
        offset = self._offset()
        sound = element.find("sound")
        shift = element.find("offset")
        moved = number_of(shift.text) if shift is not None and shift.get("sound") == "yes" else None
        sounding = max(0.0, offset + float(moved / self._divisions)) if moved else offset
        said = self._sound(sound, sounding) if sound is not None else set[str]()
        tempo = "tempo" in said
        for kind in element.findall("direction-type"):
            for child in kind:
                text = " ".join("".join(child.itertext()).split())[:MAX_TEXT] if child.tag in ("words", "rehearsal") else ""
                match child.tag:
                    case "rehearsal" if text:
                        self.found.marks.append((self.bar, offset, text))
                    case "segno" if not said & {"segno", "dalsegno"}:
                        self.found.signs.append(FoundSign("segno", self.bar, offset))
                    case "coda" if not said & {"coda", "tocoda"}:
                        self.found.signs.append(FoundSign("coda?", self.bar, offset))
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
            self.found.tempi.append((self.bar, offset, bpm))

    def _words(self, text: str, offset: float, said: set[str]) -> None:
        for kind, pattern in HINT_PATTERNS:
            if pattern.search(text):
                self.found.hints.append((self.bar, offset, kind, text))
                break
        for kind, pattern in _LEAPS:
            if pattern.search(text):
                aim = next((name for name, words in _AIMS if words.search(text)), "") if kind in ("dacapo", "dalsegno") else ""
                if kind in said:  # the sound has the place, the words the aim
                    last = self.found.signs[-1]
                    if last.kind == kind:
                        self.found.signs[-1] = last._replace(aim=aim)
                elif not said & {"dacapo", "dalsegno", "tocoda", "coda", "fine"}:
                    # Printed under the first note of a bar, a leap still is made at the end of it.
                    place = offset if kind == "coda" or offset > 0 else None
                    self.found.signs.append(FoundSign(kind, self.bar, place, aim=aim))
                break

    def _sound(self, element: Element, offset: float) -> set[str]:
        """What a <sound> says. The names of what it said."""
        said: set[str] = set()
        tempo = number_of(element.get("tempo"))
        if tempo is not None and TEMPO_RANGE[0] <= tempo <= TEMPO_RANGE[1]:
            self.found.tempi.append((self.bar, offset, float(tempo)))
            said.add("tempo")
        for kind in ("segno", "coda", "dacapo", "dalsegno", "tocoda", "fine"):
            value = element.get(kind)
            if value is None or value == "no":
                continue
            name = value if kind in ("segno", "coda", "dalsegno", "tocoda") else ""
            place = None if offset == 0.0 and self.bar == 0 and kind in ("dacapo", "dalsegno", "tocoda", "fine") else offset
            self.found.signs.append(FoundSign(kind, self.bar, place, name))
            said.add(kind)
        return said
