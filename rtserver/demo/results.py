"""What the demonstration leaves: files, a summary, and a verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import mido
import numpy as np

from rtserver.audio import file as audio_file
from rtserver.demo import TRUTH
from rtserver.demo.again import Again
from rtserver.demo.stage import RATE
from rtserver.demo.stems import CLEAN, Stems
from rtserver.demo.tape import Take, lag
from rtserver.demo.truth import Accuracy, judge, read_truth
from rtserver.events import AnyEvent, Miss, Note, NoteOff, NoteOn, Position
from rtserver.node import Array
from rtserver.plan import OutputPlan
from rtserver.replay import Log
from rtserver.roles.supervisor import Supervisor
from rtserver.synthesis import FONTS

# What makes the demonstration fail. The recording has rubato, wrong and missing notes, a pause and a skipped repeat, and the follower is
# plain on-line time warping: half of the onsets within 0.15 s, nine in ten within 1 s, back within 3 s of the jump.
MEDIAN_S, NINETIETH_S, RELOCK_S = 0.15, 1.0, 3.0


class Results:
    """Reads, writes and judges one run."""

    def __init__(  # noqa: PLR0917 (all that a run leaves)
        self, folder: Path, supervisor: Supervisor, take: Take, heard: list[tuple[float, bytes]], again: Again, stems: Stems | None
    ) -> None:
        self.folder, self.supervisor, self.take, self.heard, self.again, self.stems = folder, supervisor, take, heard, again, stems
        self.events: list[AnyEvent] = Log.read(folder).events
        self.files = [folder / "events.jsonl"]
        monitor = take.record[-1]
        # The monitor goes through the callback alone: its lag is the way through JACK and back.
        self.way = lag(take.signal[0], monitor)

    def judge(self) -> int:
        """Write everything, print the summary, return the exit code."""
        accuracy = self._accuracy()
        self._write_audio()
        self._write_midi()
        latency = self._latency()
        notes_on = sum(isinstance(e, NoteOn) for e in self.events)
        notes_off = sum(isinstance(e, NoteOff) for e in self.events)
        hanging = _hanging(self.heard)
        own, score = (sum(isinstance(e, Note) and e.part == part for e in self.events) for part in ("performer", "score"))
        late = {o.name: self._late_frames(o.name) / self.take.signal.shape[1] for o in self.supervisor.plan.outputs}
        checks = [
            ("median position error", accuracy.percentile(50), "<=", MEDIAN_S, "s"),
            ("90th percentile of the position error", accuracy.percentile(90), "<=", NINETIETH_S, "s"),
            ("back after the jump in", max(accuracy.relock_s, default=0.0), "<=", RELOCK_S, "s"),
            ("least share of frames on time", 1.0 - max(late.values()), ">=", CLEAN, ""),
            ("notes heard at the MIDI port", float(sum(m[0] & 0xF0 == 0x90 for _, m in self.heard)), ">=", 1.0, ""),
            ("notes of the network", float(own), ">=", 1.0, ""),
            ("notes of the score played along", float(score), ">=", 1.0, ""),
            ("notes left hanging", float(hanging), "<=", 0.0, ""),
            ("frames that differ when the recording is replayed", float(self.again.n_different), "<=", 0.0, "frames"),
            *((f"{name}: measured minus stated latency", float(abs(m - s)), "<=", 0.0, "frames") for name, (s, m) in latency.items()),
            *(self.stems.checks() if self.stems else []),
        ]
        failed = [c for c in checks if not (c[1] <= c[3] if c[2] == "<=" else c[1] >= c[3])]
        self._print(accuracy, latency, late, (notes_on, notes_off))
        print(f"  of the notes {own} are the network's, {score} the score's own, played along from bar 17 on")
        if self.stems:
            print(self.stems.show())
            self.files += self.stems.files
        summary = {
            "latency_frames": {name: {"stated": s, "measured": m} for name, (s, m) in latency.items()},
            "error_s": {str(q): accuracy.percentile(q) for q in (50, 75, 90, 95)},
            "within": {str(t): accuracy.within(t) for t in (0.05, 0.1, 0.2, 0.5, 1.0)},
            "lost": accuracy.lost,
            "relock_s": accuracy.relock_s,
            "late": late,
            "replay": asdict(self.again),
            "notes_on": notes_on,
            "notes_off": notes_off,
            "notes_by_part": {"performer": own, "score": score},
            "stems": self.stems.summary() if self.stems else None,
            "checks": {name: {"value": value, "rule": f"{rule} {limit}"} for name, value, rule, limit, _ in checks},
        }
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        self.files.append(self.folder / "summary.json")
        print("files:", *(f"  {path}" for path in self.files), sep="\n")
        for name, value, rule, limit, unit in failed:
            print(f"FAILED: {name} is {value:.3g} {unit}, expected {rule} {limit:g} {unit}")
        print("demo failed" if failed else f"demo passed: {len(checks)} checks")
        return 1 if failed else 0

    def _print(self, accuracy: Accuracy, latency: dict[str, tuple[int, int]], late: dict[str, float], notes: tuple[int, int]) -> None:
        print("summary")
        for output in self.supervisor.plan.outputs:
            stated, measured = latency.get(output.name, (output.latency, output.latency))
            terms = " + ".join(f"{t.frames} ({t.cause})" for t in output.terms) or "0 (callback alone)"
            print(
                f"  {output.name}: {1000 * stated / RATE:.1f} ms stated, {measured} frames measured = {terms}; late {late[output.name]:.2%}"
            )
        print(f"  through JACK and back, all outputs alike: {self.way} frames, {1000 * self.way / RATE:.1f} ms")
        p = "  ".join(f"p{q} {1000 * accuracy.percentile(q):.0f}" for q in (50, 75, 90, 95))
        w = "  ".join(f"{accuracy.within(t):.0%} <= {1000 * t:.0f}" for t in (0.05, 0.1, 0.2, 0.5))
        print(f"  position error against the known performance, ms: {p}; {w}; lost {accuracy.lost:.1%}")
        print(f"  after the skipped repeat: found again after {', '.join(f'{s:.2f} s' for s in accuracy.relock_s)}")
        heard = sum(m[0] & 0xF0 == 0x90 for _, m in self.heard)
        print(f"  notes: {notes[0]} sent, {notes[1]} released, {heard} heard at the MIDI port, {_hanging(self.heard)} left hanging")
        again = self.again
        print(
            f"  the session's recording lived through again: {again.n_different} of {again.n_frames} frames differ,"
            f" {again.n_same_notes} of {again.n_notes} notes are the same"
        )
        print(f"  tape faults: {self.take.faults}")

    def _accuracy(self) -> Accuracy:
        """Positions against the truth, each at the time it was available."""
        positions = [e for e in self.events if isinstance(e, Position) and e.state != "WAITING"]
        time_s = np.array([(p.available_frame - self.take.origin) / RATE for p in positions])
        return judge(read_truth(TRUTH), time_s, np.array([p.quarter for p in positions]))

    def _aligned(self, output: OutputPlan, channel: int) -> Array:
        start = self.way + output.latency
        return self.take.record[channel : channel + 1, start:]

    def _latency(self) -> dict[str, tuple[int, int]]:
        """(stated, measured) of the separated pair: their sum is the input, so the lag of the sum is their latency."""
        pair = [o for o in self.supervisor.plan.outputs if o.track >= 0]
        measured = lag(self.take.signal[0], self.take.record[: len(pair)].sum(axis=0)) - self.way
        return {o.name: (o.latency, measured) for o in pair}

    def _late_frames(self, output: str) -> int:
        return sum(e.n_frames for e in self.events if isinstance(e, Miss) and e.output == output)

    def _write_audio(self) -> None:
        for channel, output in enumerate(self.supervisor.plan.outputs):
            if output.track >= 0:
                self._write(f"{output.name}.wav", self._aligned(output, channel))
        self._write("input.wav", self.take.signal)

    def _write(self, name: str, x: Array) -> None:
        audio_file.write(self.folder / name, np.ascontiguousarray(x), RATE)
        self.files.append(self.folder / name)

    def _write_midi(self) -> None:
        """What the MIDI port heard, as a file on the recording's time axis, and FluidSynth's rendering of it."""
        track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
        last = 0
        for at, message in self.heard:
            tick = max(last, round(1000 * at))  # 500 ticks a quarter at 120 bpm: a tick is a millisecond
            track.append(mido.Message.from_bytes(list(message), time=tick - last))
            last = tick
        path = self.folder / "generated.mid"
        mido.MidiFile(ticks_per_beat=500, tracks=[track]).save(path)
        self.files.append(path)
        soundfont = next((s for s in FONTS if Path(s).exists()), None)
        if shutil.which("fluidsynth") is None or soundfont is None:
            print("generated.wav is left out: FluidSynth or its soundfont is missing (apt-get install fluidsynth fluid-soundfont-gm)")
            return
        wav = self.folder / "generated.wav"
        command = ["fluidsynth", "-ni", "-q", "-r", str(RATE), "-O", "float", "-T", "wav", "-F", str(wav), soundfont, str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.files.append(wav)
        generated, _ = audio_file.read(wav)
        n = max(generated.shape[1], self.take.signal.shape[1])
        mix = np.zeros((2, n), np.float32)
        mix[:, : self.take.signal.shape[1]] += 0.7 * self.take.signal
        mix[:, : generated.shape[1]] += 0.7 * generated
        self._write("together.wav", mix)


def _hanging(heard: list[tuple[float, bytes]]) -> int:
    """Keys still down after the last message."""
    down: set[tuple[int, int]] = set()
    for _, message in heard:
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if kind == 0x90 and message[2] > 0:
            down.add((channel, message[1]))
        elif kind in (0x80, 0x90):
            down.discard((channel, message[1]))
    return len(down)
