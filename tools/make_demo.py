"""Make everything in ``rtserver/demo``: a score, a human-like performance of it, the truth between the two, and the recording.

    python tools/make_demo.py                       all of it, into rtserver/demo
    python tools/make_demo.py --symbolic -o DIR     score, performance and truth only: needs no synthesiser

The recording needs ``fluidsynth`` and FluidR3 (Debian: ``fluidsynth fluid-soundfont-gm``). Everything follows from the tables below
and `SEED`: two runs on one machine write the same bytes. What the player does, and why, is told in ``rtserver/demo/README.md``.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mido
import numpy as np
import soundfile as sf

DEMO = Path(__file__).resolve().parents[1] / "rtserver" / "demo"
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
SEED = 1725  # the year of the notebook that the minuet comes from

# ---- The piece. A number sets the length (quarters) of what follows it, + joins a chord, r is a rest, | ends a measure. --------
BAR = 3.0
N_REPEATED = 8  # measures 1-8 stand between repeat signs
SCORE_BPM = 138
VOICES = {  # (staff, voice): the notes, from measure 1
    (1, 1): """
        1 d5 .5 g4 a4 b4 c5 | 1 d5 g4 g4 | 1 e5 .5 c5 d5 e5 f#5 | 1 g5 g4 g4 |
        1 c5 .5 d5 c5 b4 a4 | 1 b4 .5 c5 b4 a4 g4 | 1 a4 .5 b4 a4 g4 f#4 | 3 g4 |
        1 b5 .5 g5 a5 b5 g5 | 1 a5 .5 d5 e5 f#5 d5 | 1 g5 .5 e5 f#5 g5 d5 | 1 c#5 .5 b4 c#5 1 a4 |
        .5 a4 b4 c#5 d5 e5 f#5 | 1 g5 f#5 e5 | 1 f#5 a4 c#5 | 3 d5 |
        1 d5 .5 g4 f#4 1 g4 | 1 e5 .5 g4 f#4 1 g4 | 1 d5 c5 b4 | .5 a4 g4 f#4 g4 1 a4 |
        .5 d4 e4 f#4 g4 a4 b4 | 1 c5 b4 a4 | .5 b4 d5 1 g4 f#4 | 3 b3+d4+g4""",
    (2, 5): """
        2 g3+b3+d4 1 a3 | 1 g3 b3 g3 | 3 c4 | 1 b3 .5 c4 b3 a3 g3 |
        2 a3 1 f#3 | 2 g3 1 b3 | 1 c4 d4 d3 | 2 g3 1 g2 |
        3 g3 | 3 f#3 | 1 e3 g3 e3 | 2 a3 1 a2 |
        3 a3 | 1 b3 d4 c#4 | 1 d4 f#3 a3 | 1 d4 d3 c4 |
        2 b3 1 b3 | 2 c4 1 c4 | 1 b3 a3 g3 | 2 d4 1 r |
        3 d3 | 1 e3 g3 f#3 | 1 g3 b2 d3 | 1 g3 d3 g2""",
    (2, 6): "|||||||||||||||| 1 r 2 d4 | 1 r 2 e4 ||| 2 r 1 f#3 |||",  # a second voice of the left hand in measures 17, 18 and 21
}

# ---- The performance. Places are (measure, quarter in the measure, pitch as written). ------------------------------------------
PLAYED_BPM = 149.0  # a little livelier than the score says, so that a follower cannot lean on the mark
WRONG = {(5, 1.0, "d5"): "e5", (13, 1.0, "c#5"): "c5", (19, 1.0, "a3"): "a#3"}  # a slip upwards, a forgotten sharp, a left-hand slip
MISSING = {(3, 2.0, "e5"), (7, 1.0, "d4"), (22, 1.0, "b4")}
PAUSE_AFTER, PAUSE_S = 16, 1.5  # between the two halves of the second section
PHRASE = 12.0  # quarters: four measures, the phrase length of the dance
RUBATO = (0.08, 0.10, 0.09, 0.12, 0.10, 0.11, 0.08)  # depth at the phrase boundaries, as a part of the tempo: at most 12 %
RITARDANDO = 0.45, 6.0  # how much of the tempo is lost, over how many final quarters
JITTER_S = 0.012  # standard deviation of one note's timing; expert pianists show 10-20 ms
EXTREME = 2.5  # in standard deviations: what strays further is drawn in
MELODY_LEAD_S = 0.012  # the right hand comes before the left, as pianists play
LEAD_IN_S, TAIL_S = 0.5, 2.5  # silence before the first note, room after the last release

# ---- The recording ---------------------------------------------------------------------------------------------------------------
SAMPLE_RATE = 48_000
PERCUSSION_DB = -18.0  # power of the percussion relative to the piano
PEAK = 0.7  # -3 dBFS
ROOM = {"reverb.active": 1, "reverb.room-size": 0.7, "reverb.damp": 0.3, "reverb.width": 0.8, "reverb.level": 1.0, "chorus.active": 0}


@dataclass(frozen=True)
class Chord:
    """Notes that begin together in one voice: `quarter` within the measure, `length` in quarters; `names` is empty for a rest."""

    measure: int
    quarter: float
    length: float
    staff: int
    voice: int
    names: tuple[str, ...]


@dataclass
class Played:
    """One note of the performance. `quarter` is on the unfolded axis, None where the note is not what the score has there."""

    onset: int  # ms, which is also the tick of the MIDI file
    offset: int
    pitch: int
    velocity: int
    channel: int
    quarter: float | None = field(default=None)


def midi_pitch(name: str) -> int:
    """``f#4`` -> 66."""
    return {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[name[0]] + name.count("#") + 12 * (int(name[-1]) + 1)


def read_piece() -> list[Chord]:
    """The tables above as chords, measure by measure and voice by voice."""
    chords: list[Chord] = []
    for (staff, voice), text in VOICES.items():
        for measure, bar in enumerate(text.split("|"), 1):
            quarter, length = 0.0, 0.0
            for token in bar.split():
                if token[0] in ".0123456789":
                    length = float(token)
                    continue
                chords.append(Chord(measure, quarter, length, staff, voice, () if token == "r" else tuple(token.split("+"))))
                quarter += length
            if quarter not in (0.0, BAR):
                raise ValueError(f"measure {measure}, voice {voice}: {quarter} quarters where {BAR} belong")
    return sorted(chords, key=lambda c: (c.measure, c.voice, c.quarter))


# ---- Score ---------------------------------------------------------------------------------------------------------------------
NOTE_TYPES = {0.5: "eighth", 1.0: "quarter", 2.0: "half", 3.0: "half"}
ATTRIBUTES = """      <attributes>
        <divisions>2</divisions>
        <key><fifths>1</fifths><mode>major</mode></key>
        <time><beats>3</beats><beat-type>4</beat-type></time>
        <staves>2</staves>
        <clef number="1"><sign>G</sign><line>2</line></clef>
        <clef number="2"><sign>F</sign><line>4</line></clef>
      </attributes>"""
TEMPO = f"""      <direction placement="above">
        <direction-type>
          <metronome><beat-unit>quarter</beat-unit><per-minute>{SCORE_BPM}</per-minute></metronome>
        </direction-type>
        <staff>1</staff>
        <sound tempo="{SCORE_BPM}"/>
      </direction>"""
HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="3.1">
  <work><work-title>Minuet in G major, BWV Anh. 114 (abridged)</work-title></work>
  <identification>
    <creator type="composer">Christian Petzold (1677-1733)</creator>
    <rights>The music is in the public domain.</rights>
    <encoding><software>tools/make_demo.py</software></encoding>
  </identification>
  <part-list>
    <score-part id="P1"><part-name>Piano</part-name></score-part>
  </part-list>
  <part id="P1">"""


def note_xml(chord: Chord) -> Iterator[str]:
    """The ``<note>`` elements of one chord or rest."""
    value = f"<duration>{round(2 * chord.length)}</duration><voice>{chord.voice}</voice><type>{NOTE_TYPES[chord.length]}</type>"
    value += "<dot/>" if chord.length == BAR else ""
    staff = f"<staff>{chord.staff}</staff>"
    if not chord.names:
        yield f"      <note><rest/>{value}{staff}</note>"
    for i, name in enumerate(chord.names):
        # In G major every sharp but f sharp needs its sign; the natural c's stand in other measures than the c sharps.
        alter, sign = ("<alter>1</alter>" if "#" in name else ""), ("<accidental>sharp</accidental>" if name[:2] == "c#" else "")
        pitch = f"<pitch><step>{name[0].upper()}</step>{alter}<octave>{name[-1]}</octave></pitch>"
        yield f"      <note>{'<chord/>' if i else ''}{pitch}{value}{sign}{staff}</note>"


def musicxml(chords: list[Chord]) -> str:
    """The score, one piano part on two staves."""
    lines = [HEADER]
    n_measures = chords[-1].measure
    for measure in range(1, n_measures + 1):
        lines.append(f'    <measure number="{measure}">')
        if measure == 1:
            lines += [ATTRIBUTES, '      <barline location="left"><repeat direction="forward"/></barline>', TEMPO]
        here = [c for c in chords if c.measure == measure]
        for voice in sorted({c.voice for c in here}):
            lines += [f"      <backup><duration>{round(2 * BAR)}</duration></backup>"] if voice > 1 else []
            lines += [line for c in here if c.voice == voice for line in note_xml(c)]
        if measure in (N_REPEATED, n_measures):
            repeat = '<repeat direction="backward"/>' if measure == N_REPEATED else ""
            lines.append(f'      <barline location="right"><bar-style>light-heavy</bar-style>{repeat}</barline>')
        lines.append("    </measure>")
    return "\n".join([*lines, "  </part>", "</score-partwise>", ""])


# ---- Performance -----------------------------------------------------------------------------------------------------------------
def tempo_at(quarter: float, n_quarters: float) -> float:
    """The player's tempo (quarters a minute) at a quarter of the music as played: slow at phrase ends, fast in their middle."""
    depth = float(np.interp(quarter / PHRASE, range(len(RUBATO)), RUBATO))
    loss, reach = RITARDANDO
    late = max(0.0, 1.0 - (n_quarters - BAR - quarter) / reach)  # 0 before the ritardando, 1 from the last measure on
    return PLAYED_BPM * (1.0 - depth * math.cos(2.0 * math.pi * quarter / PHRASE)) * (1.0 - loss * min(1.0, late) ** 2)


def time_map(n_quarters: float) -> tuple[np.ndarray, np.ndarray]:
    """Quarters as played and their times (s): the tempo integrated by trapezia of 1/48 quarter, the pause put in."""
    quarters = np.arange(round(48 * n_quarters) + 1) / 48
    beat_s = np.array([60.0 / tempo_at(q, n_quarters) for q in quarters.tolist()])
    first_s = LEAD_IN_S + MELODY_LEAD_S + EXTREME * JITTER_S  # so that the earliest possible note leaves the lead-in silent
    times = first_s + np.concatenate(([0.0], np.cumsum((beat_s[1:] + beat_s[:-1]) / 96)))
    return quarters, times + PAUSE_S * (quarters >= PAUSE_AFTER * BAR)


def perform(chords: list[Chord]) -> tuple[list[Played], list[Played]]:
    """The player's notes and the percussionist's, in order of onset. The repeat is not taken."""
    rng = random.Random(SEED)
    n_quarters = chords[-1].measure * BAR
    quarters, times = time_map(n_quarters)

    def time_s(quarter: float) -> float:
        return float(np.interp(quarter, quarters, times))

    def jitter_s(spread: float) -> float:
        return max(-EXTREME * spread, min(EXTREME * spread, rng.gauss(0.0, spread)))

    piano: list[Played] = []
    for chord in chords:
        start = (chord.measure - 1) * BAR + chord.quarter
        # The unfolded axis counts the first section twice; what the player jumps to lies behind the second time.
        unfolded = start if chord.measure <= N_REPEATED else start + N_REPEATED * BAR
        arch = math.sin(math.pi * (start % PHRASE) / PHRASE)
        loudness = (66 if chord.staff == 1 else 52) + 14 * arch + (5 if chord.quarter == 0 else 0) - (8 if start >= n_quarters - 6 else 0)
        end = start + chord.length
        held_to = times[-1] if end >= n_quarters else times[round(48 * end) - 1]  # the instant before the pause, where there is one
        legato = {0.5: 0.96, 1.0: 0.78}.get(chord.length, 0.92)  # eighths slurred, quarters detached: the manner of the dance
        legato = 1.0 if end == PAUSE_AFTER * BAR or end >= n_quarters else legato
        roll_s = 0.022 if chord.measure * BAR == n_quarters else 0.0  # the last chord is rolled
        for i, name in enumerate(chord.names):
            place = (chord.measure, chord.quarter, name)
            onset = time_s(start) + jitter_s(JITTER_S) + roll_s * i - (MELODY_LEAD_S if chord.staff == 1 else 0.0)
            offset = onset + legato * (float(held_to) - time_s(start)) + abs(jitter_s(JITTER_S))
            velocity = round(max(25.0, min(105.0, loudness + rng.gauss(0.0, 4.0))))
            if place in MISSING:
                continue
            pitch = midi_pitch(WRONG.get(place, name))
            truth = None if place in WRONG else unfolded
            piano.append(Played(round(1000 * onset), round(1000 * offset), pitch, velocity, 0, truth))
    piano.sort(key=lambda n: (n.onset, n.pitch))
    last: dict[int, Played] = {}
    for note in piano:  # a finger leaves the key before the key can sound again
        if note.pitch in last:
            last[note.pitch].offset = min(last[note.pitch].offset, note.onset - 20)
        last[note.pitch] = note

    percussion: list[Played] = []
    for beat in range(round(n_quarters - BAR)):  # brushes: a side stick on one, taps on two and three; none in the last measure
        pitch, velocity = (37, 60) if beat % 3 == 0 else (38, 70 if beat % 3 == 1 else 62)
        onset = round(1000 * (time_s(beat) + jitter_s(0.008)))
        percussion.append(Played(onset, onset + 100, pitch, velocity, 9))
    return piano, percussion


def midi_file(notes: list[Played], program: int, end: int) -> mido.MidiFile:
    """One track in which a tick is a millisecond, ending at tick `end`."""
    midi = mido.MidiFile(type=0, ticks_per_beat=1000)
    track = mido.MidiTrack()
    midi.tracks.append(track)
    channel = notes[0].channel
    track.append(mido.MetaMessage("set_tempo", tempo=1_000_000))
    track.append(mido.Message("program_change", channel=channel, program=program))
    track.append(mido.Message("control_change", channel=channel, control=91, value=85))  # the send to the room
    events = [(n.offset, 0, n.pitch, 0) for n in notes] + [(n.onset, 1, n.pitch, n.velocity) for n in notes]
    now = 0
    for tick, on, pitch, velocity in sorted(events):  # releases before onsets of the same tick
        kind = "note_on" if on else "note_off"
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    return midi


def truth_csv(piano: list[Played]) -> str:
    """One row for every score onset of which at least one note was played as written."""
    onsets: dict[float, list[float]] = defaultdict(list)
    for note in piano:
        if note.quarter is not None:
            onsets[note.quarter].append(note.onset / 1000)
    rows = ["score_quarter,score_beat,score_time_s,perf_time_s,perf_min_s,perf_max_s,n_notes,segment"]
    for quarter, times in sorted(onsets.items()):
        numbers = [quarter, quarter, quarter * 60 / SCORE_BPM, sum(times) / len(times), min(times), max(times)]
        rows.append(",".join(f"{x:.5f}" for x in numbers) + f",{len(times)},{int(quarter >= 2 * N_REPEATED * BAR)}")
    return "\n".join([*rows, ""])


# ---- Recording -------------------------------------------------------------------------------------------------------------------
def synthesise(midi: mido.MidiFile, n_frames: int) -> np.ndarray:
    """FluidSynth's rendering of `midi`, ``(n_frames, 2)`` float32."""
    with tempfile.TemporaryDirectory() as folder:
        source, raw = Path(folder, "in.mid"), Path(folder, "out.raw")
        midi.save(source)
        settings = [part for key, value in ROOM.items() for part in ("-o", f"synth.{key}={value}")]
        form = ["-q", "-n", "-i", "-g", "0.6", "-r", str(SAMPLE_RATE), "-T", "raw", "-O", "float", "-E", "little", "-F", str(raw)]
        subprocess.run(["fluidsynth", *form, *settings, str(SOUNDFONT), str(source)], check=True, stdout=subprocess.DEVNULL)
        audio = np.fromfile(raw, "<f4").reshape(-1, 2)
    return np.pad(audio, ((0, max(0, n_frames - len(audio))), (0, 0)))[:n_frames]


def record(piano: list[Played], percussion: list[Played], n_frames: int) -> np.ndarray:
    """The mix, ``(n_frames, 2)`` int16: the piano, and the percussion `PERCUSSION_DB` below it."""
    end = round(1000 * n_frames / SAMPLE_RATE)
    keys = synthesise(midi_file(piano, 0, end), n_frames)  # Yamaha Grand
    drums = synthesise(midi_file(percussion, 40, end), n_frames)  # Brush kit
    rms_keys, rms_drums = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (keys, drums))
    mix = keys + np.float32(rms_keys / rms_drums * 10 ** (PERCUSSION_DB / 20)) * drums
    return np.round(mix * (PEAK * 32767 / float(np.abs(mix).max()))).astype(np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=DEMO, help="folder to write to (default: rtserver/demo)")
    parser.add_argument("--symbolic", action="store_true", help="score, performance and truth only")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    chords = read_piece()
    piano, percussion = perform(chords)
    end = max(n.offset for n in piano) + round(1000 * TAIL_S)
    (args.output / "score.musicxml").write_text(musicxml(chords), encoding="utf-8")
    (args.output / "truth.csv").write_text(truth_csv(piano), encoding="utf-8")
    midi_file(piano, 0, end).save(args.output / "performance.mid")
    if not args.symbolic:
        audio = record(piano, percussion, end * SAMPLE_RATE // 1000)
        sf.write(args.output / "performance.flac", audio, SAMPLE_RATE, "PCM_16", format="FLAC", compression_level=1.0)


if __name__ == "__main__":
    main()
