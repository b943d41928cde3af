"""A MIDI file as a score: its ticks are the notation. Bars follow from the time signatures; markers are rehearsal marks.

Every channel of every track is a part. Channel 10 has no pitches and is left out. (partitura loses notes
that are struck again while they sound, and keeps drums.)
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any, cast

import mido

from rtserver.errors import ScoreError
from rtserver.following.written import MAX_BARS, MAX_QUARTERS, TEMPO_RANGE, Bar, Note, Written, text_of

DRUMS = 9  # MIDI channel 10, counted from 0
SHORTEST = 1.0 / 192.0  # quarters: a note that ends as it begins was still struck
MAX_BYTES = 8_000_000  # a million notes


def read_midi(content: bytes) -> Written:
    """The score in `content`. Raises `ScoreError`, or whatever mido throws at a broken file."""
    if len(content) > MAX_BYTES:
        raise ScoreError(f"expected a MIDI file of at most {MAX_BYTES} bytes, found {len(content)}: is it a score?")
    file = mido.MidiFile(file=BytesIO(content), clip=True)
    division = file.ticks_per_beat
    if division <= 0 or division >= 0x8000:
        raise ScoreError("expected times in ticks a quarter, found SMPTE frames: export the file with a tempo")
    if file.type == 2:
        raise ScoreError("expected one score, found a MIDI file of type 2, which holds several: save it as type 1")

    score = Written()
    notes: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    names: list[str] = []
    metres: dict[int, tuple[int, int]] = {}
    last = 0
    for i, track in enumerate(file.tracks):
        name, now, sounding = "", 0, dict[tuple[int, int], int]()
        for message in cast(list[Any], track):  # every kind has attributes of its own
            now += int(message.time)
            match message.type:
                case "note_on" | "note_off" if message.channel != DRUMS:
                    key = (int(message.channel), int(message.note))
                    begun = sounding.pop(key, None)
                    if begun is not None:
                        notes.setdefault((i, key[0]), []).append((begun, now, key[1]))
                    if message.type == "note_on" and message.velocity > 0:
                        sounding[key] = now
                case "track_name":
                    name = name or text_of(str(message.name))
                case "set_tempo" if message.tempo > 0 and TEMPO_RANGE[0] <= 6e7 / message.tempo <= TEMPO_RANGE[1]:
                    score.tempi.append((now / division, 6e7 / message.tempo))
                case "time_signature" if message.numerator > 0:
                    metres.setdefault(now, (int(message.numerator), int(message.denominator)))
                case "key_signature":
                    score.keys.append((now / division, *_key(str(message.key))))
                case "marker" if str(message.text).strip():
                    score.marks.append((now / division, text_of(str(message.text))))
                case _:
                    pass
        for (channel, pitch), begun in sounding.items():  # never released
            notes.setdefault((i, channel), []).append((begun, now, pitch))
        names.append(name)
        last = max(last, now)

    for part, (i, channel) in enumerate(sorted(notes)):
        alone = sum(1 for track, _ in notes if track == i) == 1
        name = names[i] or f"track {i + 1}"
        score.parts.append(name if alone else f"{name} channel {channel + 1}")
        for begun, ended, pitch in notes[i, channel]:
            last = max(last, ended)
            score.notes.append(Note(begun / division, max((ended - begun) / division, SHORTEST), pitch, part))
    score.tempi.sort()
    score.end = last / division
    if score.end > MAX_QUARTERS:
        raise ScoreError(f"expected at most {MAX_QUARTERS:g} quarters in all, found {score.end:g}: is the file damaged?")
    _bars(score, metres, division)
    return score


def _bars(score: Written, metres: dict[int, tuple[int, int]], division: int) -> None:
    """Bars from the beginning to the end; a new time signature begins a new bar."""
    changes = sorted({0: (4, 4)} | metres if 0 not in metres else metres)
    ends = [*changes[1:], math.inf]
    for at, until in zip(changes, ends, strict=True):
        beats, kind = metres.get(at, (4, 4))
        start, size = at / division, beats * 4.0 / kind
        stop = min(until / division, score.end)
        score.metres.append((start, beats, kind))
        count = max(1 if not score.bars else 0, math.ceil((stop - start) / size - 1e-9))
        if len(score.bars) + count > MAX_BARS:
            raise ScoreError(f"expected at most {MAX_BARS} bars, found more: is a time signature or a delta time damaged?")
        score.bars += [Bar(start + k * size, str(len(score.bars) + k + 1), size) for k in range(count)]


def _key(name: str) -> tuple[int, int]:
    """Fifths and mode of a key as mido names it."""
    minor = name.endswith("m")
    tonic = name.removesuffix("m")
    fifths = "FCGDAEB".index(tonic[0]) - 1 + 7 * (tonic.count("#") - tonic.count("b"))
    return (fifths - 3, 1) if minor else (fifths, 0)
