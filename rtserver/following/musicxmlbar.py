"""One bar of one part of a MusicXML file, and what is remembered from bar to bar."""

from __future__ import annotations

from fractions import Fraction
from xml.etree.ElementTree import Element

from rtserver.errors import ScoreError
from rtserver.following.musicxmlsigns import Found
from rtserver.following.written import MAX_QUARTERS, ORNAMENTS, number_of, plain

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
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
        self._carried: set[int] = set()
        self._length = Fraction(0)

    def read(self, bar: Element, index: int) -> Fraction:
        """Take bar number `index` (from 0). Its length in quarters."""
        self.bar = self.found.bar = index
        # Quarters into the bar are base + tick / divisions: exact, and equal places are equal floats.
        self._base, self._tick = Fraction(0), 0 if isinstance(self._divisions, int) else Fraction(0)
        self._reach: Fraction | int = 0
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
                self._reach = max(self._reach, self._tick)
            elif tag == "attributes":
                self._attributes(element)
            elif tag == "direction":
                self.found.direction(element, self._offset(), self._divisions)
            elif tag == "sound":
                self.found.sound(element, self._offset())
            elif tag == "barline":
                self.found.barline(element, self._offset())
        self._settle()
        self._join()
        return self._length

    @property
    def notes(self) -> list[tuple[int, float, int, float, int, bool]]:
        """The notes found, without those that a tie made part of another; the last column is `Note.carried`."""
        return [(*note, i in self._carried) for i, note in enumerate(self.found.notes) if i not in self._absorbed]

    def _offset(self, tick: Fraction | int | None = None) -> float:
        return float(self._exact(tick)) if self._base else float((self._tick if tick is None else tick) / self._divisions)

    def _exact(self, tick: Fraction | int | None = None) -> Fraction:
        return self._base + Fraction(self._tick if tick is None else tick) / self._divisions

    def _settle(self) -> None:
        """The bar is as long as what was reached in the divisions so far."""
        length = self._exact(self._reach)
        if length > int(MAX_QUARTERS):
            raise ScoreError(f"expected a bar of some quarters, bar {self.bar + 1} has {float(length):g}: is a <duration> damaged?")
        self._length = max(self._length, length)

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
            self._reach = max(self._reach, self._tick)
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
            elif stops:
                self._carried.add(index)
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
            self._settle()
            self._base, self._tick, self._reach = plain(self._exact()), 0, 0
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
