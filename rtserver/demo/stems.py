"""The second part of the demonstration: a band, separated live by a network into drums, bass and the piano, an output each.

Each stem's sound is known, so it can be said how close the outputs come to it, and how close the medians would have come without the
network. The band plays sounds of the sound font that the network has also heard in training: what it does with others is told by its card.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rtserver.audio import file as audio_file
from rtserver.config import Config, parse
from rtserver.demo.band import STEMS, band
from rtserver.demo.stage import CHANNELS, RATE
from rtserver.demo.tape import lag, play, start
from rtserver.node import Array, Spec
from rtserver.preflight import preflight
from rtserver.roles.supervisor import Supervisor
from rtserver.separation.graph import preset, separation
from rtserver.separation.nowhere import Nowhere
from rtserver.show import Song

MODEL = "stems3-int8"
# What makes the demonstration fail: the network is 1 to 2 dB ahead of its medians here. And the share of frames that must be on time.
AHEAD_DB, DRUMS_DB, CLEAN = 0.5, 1.0, 0.9
EXACT = 1e-4  # stems add up to the input, but for rounding, where nothing was late

Check = tuple[str, float, str, float, str]  # name, value, rule, limit, unit


@dataclass(frozen=True)
class Stems:
    """What came out.

    Latency in frames; share of frames in which the three outputs add up to the input; SI-SDR in dB of each stem, over those frames: of the
    input taken for it, of the medians alone, of the network as it was heard.
    """

    stated: int
    measured: int
    on_time: float
    si_sdr_db: dict[str, tuple[float, float, float]]
    files: tuple[Path, ...]

    def ahead(self, stem: str) -> float:
        """dB by which the network is ahead of the medians."""
        _, medians, network = self.si_sdr_db[stem]
        return network - medians

    def checks(self) -> list[Check]:
        mean = float(np.mean([self.ahead(stem) for stem in STEMS]))
        return [
            ("stems: measured minus stated latency", float(abs(self.measured - self.stated)), "<=", 0.0, "frames"),
            ("stems: share of frames on time", self.on_time, ">=", CLEAN, ""),
            ("stems: the network's drums ahead of the medians'", self.ahead("drums"), ">=", DRUMS_DB, "dB"),
            ("stems: the network ahead of the medians, mean", mean, ">=", AHEAD_DB, "dB"),
        ]

    def summary(self) -> dict[str, object]:
        """As JSON has it."""
        return {key: value for key, value in asdict(self).items() if key != "files"}

    def show(self) -> str:
        """A line for the outputs and one for each stem."""
        ms = 1e3 * self.stated / RATE
        lines = [
            f"stems of a band, by {MODEL}: {ms:.1f} ms stated, {self.measured} frames measured; {self.on_time:.2%} of the frames on time"
        ]
        for stem, (mixture, medians, network) in self.si_sdr_db.items():
            lines.append(
                f"  {stem:6} SI-SDR {network:5.2f} dB by the network, {medians:5.2f} by medians alone, {mixture:5.2f} the input as it is"
            )
        return "\n".join(lines)


def settings(scratch: Path, period: int) -> Config:
    """The show: three stems out, the dry input as monitor."""
    return parse(
        {
            "name": "rtserver-demo-band",
            "audio": {"block_size": period, "spare_blocks": 2, "device": "system", "sample_rate": RATE},
            "separation": {"preset": "stage", "model": MODEL},
            "outputs": {stem: {"source": stem, "channels": [k + 1]} for k, stem in enumerate(STEMS)}
            | {"monitor": {"source": "dry", "channels": [CHANNELS], "align": False}},
            "generation": {"enabled": False},
            "midi": {"api": "null"},
            "wire": {key: f"ipc://{scratch}/{key}" for key in ("control", "events", "bulk")},
        }
    )


def separate_band(folder: Path, scratch: Path, period: int) -> Stems:
    """Play the band into a live server of its own, write what comes out, and say how close it is.

    Raises `SynthesisError` where FluidSynth is missing, and `RtserverError` where the server does not start.
    """
    scratch.mkdir()
    truth = band(RATE)
    mixture = np.sum([truth[stem] for stem in STEMS], axis=0)
    config = settings(scratch, period)
    supervisor = Supervisor(preflight([Song("band", config)], scratch), scratch)
    try:
        start(supervisor)
        take = play(supervisor, mixture, CHANNELS, scratch, lambda: None)
        outputs = {output.name: output.latency for output in supervisor.plan.outputs}
    finally:
        supervisor.close()
    way = lag(take.signal[0], take.record[-1])
    measured = lag(take.signal[0], take.record[: len(STEMS)].sum(axis=0)) - way
    stated = outputs[STEMS[0]]
    heard = {stem: take.record[k : k + 1, way + stated :] for k, stem in enumerate(STEMS)}
    files = [folder / f"{name}.wav" for name in (*STEMS, "band")]
    for file, sound in zip(files, (*heard.values(), mixture), strict=True):
        audio_file.write(file, np.ascontiguousarray(sound), RATE)
    n = min(mixture.shape[1], heard[STEMS[0]].shape[1])
    exact = np.abs(np.sum([heard[stem][0, :n] for stem in STEMS], axis=0) - mixture[0, :n]) < EXACT
    alone = _medians(config, mixture)
    scores = {
        stem: tuple(_si_sdr(truth[stem][0, :n][exact], x[0, :n][exact]) for x in (mixture, alone[stem], heard[stem])) for stem in STEMS
    }
    return Stems(stated, measured, float(exact.mean()), {k: (a, b, c) for k, (a, b, c) in scores.items()}, tuple(files))


def _medians(config: Config, mixture: Array) -> dict[str, Array]:
    """The same stems as they are where the network says nothing."""
    graph = separation(config.separation, RATE, n_channels=1, source=Nowhere())
    graph.prepare(Spec.signal(RATE, 1, preset(config.separation.preset, RATE).hop_size))
    return graph.freewheel(mixture)


def _si_sdr(reference: Array, estimate: Array) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (J. Le Roux et al., "SDR – half-baked or well done?", ICASSP 2019)."""
    r, e = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (reference, estimate))
    target = (e @ r) / (r @ r + 1e-9) * r
    return float(10.0 * np.log10((target @ target + 1e-9) / (np.sum((e - target) ** 2) + 1e-9)))
