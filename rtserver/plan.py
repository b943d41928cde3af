"""Who is heard when: the delay of every output and what it is made of.

An output's sample for session frame m is its track's sample m − delay. The delay of a track that the engine makes is the
hand-off (`reblock.handoff_latency`) plus, where outputs share a device channel, what aligns it to the latest of them; the track itself
lags the input by the latency of its nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtserver.audio import table as t
from rtserver.config import Config
from rtserver.errors import ConfigError
from rtserver.reblock import reblock_latency
from rtserver.shared.memory import Block, Layout
from rtserver.shared.session import Session, Setup

TRACKS = ("harmonic", "percussive")  # what the graph of `pipeline` puts out, in this order


@dataclass(frozen=True)
class Term:
    """One part of a latency, in frames, and its cause."""

    frames: int
    cause: str


@dataclass(frozen=True)
class OutputPlan:
    """How one output is fed. `track` indexes the graph's outputs; −1 is the dry input."""

    name: str
    track: int
    terms: tuple[Term, ...]
    delay: int  # frames between a track's sample and the session frame at which it is heard
    fallback_dry: bool
    channels: tuple[int, ...]  # device channels, from 0
    gain: float

    @property
    def latency(self) -> int:
        """Frames from the input of a frame to the session frame at which this output plays it. The device's own is not in it."""
        return sum(term.frames for term in self.terms)


@dataclass(frozen=True)
class Plan:
    """The audio side of a session."""

    sample_rate: int
    block_size: int
    hop_size: int
    n_features: int
    n_channels: int
    in_channels: tuple[int, ...]  # device channels, from 0
    tracks: tuple[str, ...]
    outputs: tuple[OutputPlan, ...]

    @property
    def device_in(self) -> int:
        """Input channels that the device must have."""
        return max(self.in_channels) + 1

    @property
    def device_out(self) -> int:
        """Output channels that the device must have."""
        return max(c for o in self.outputs for c in o.channels) + 1

    def report(self) -> list[dict[str, object]]:
        """Latency of every output and what it is made of, ready for JSON."""
        return [
            {
                "output": o.name,
                "frames": o.latency,
                "seconds": o.latency / self.sample_rate,
                "terms": [{"frames": term.frames, "cause": term.cause} for term in o.terms],
            }
            for o in self.outputs
        ]


def plan(config: Config, tracks: dict[str, int], hop_size: int, n_features: int) -> Plan:
    """Work out every delay.

    Parameters
    ----------
    config : Config
    tracks : dict
        Outputs of the graph in order, with the latency of their nodes in frames.
    hop_size : int
        Frames the engine processes at a time.
    n_features : int
        Values in one feature vector.
    """
    audio = config.audio
    names = tuple(tracks)
    base: dict[str, list[Term]] = {}
    for name, output in config.outputs.items():
        if output.source == "dry":
            base[name] = []
            continue
        if output.source not in tracks:
            raise ConfigError(f"outputs.{name}.source", f"no track {output.source!r}; the graph has {', '.join(names)}")
        base[name] = [
            Term(tracks[output.source], "window: synthesis window minus hop"),
            Term(reblock_latency(audio.block_size, hop_size), f"cutting blocks of {audio.block_size} into hops of {hop_size}"),
            Term(audio.block_size, "hand-over to the engine: one block"),
            Term(audio.spare_blocks * audio.block_size, f"slack: {audio.spare_blocks} spare block(s)"),
        ]
    total = {name: sum(term.frames for term in terms) for name, terms in base.items()}
    plans: list[OutputPlan] = []
    for name, output in config.outputs.items():
        sharing = [n for n, o in config.outputs.items() if set(o.channels) & set(output.channels)]
        aligned = max(total[n] for n in sharing) if output.align else total[name]
        terms = [term for term in (*base[name], Term(aligned - total[name], "alignment with outputs on the same channel")) if term.frames]
        track = names.index(output.source) if output.source != "dry" else -1
        node_latency = tracks[output.source] if track >= 0 else 0
        plans.append(
            OutputPlan(
                name,
                track,
                tuple(terms),
                aligned - node_latency,
                output.on_late == "dry",
                tuple(c - 1 for c in output.channels),
                0.0 if output.mute else 10.0 ** (output.gain_db / 20.0),
            )
        )
    in_channels = tuple(c - 1 for c in next(iter(config.inputs.values())).channels)
    return Plan(audio.sample_rate, audio.block_size, hop_size, n_features, config.n_channels, in_channels, names, tuple(plans))


def open_session(setup: Setup, plan: Plan) -> Session:
    """A new session of this plan, its callback table filled."""
    layout = Layout()
    t.declare(layout, len(plan.outputs))
    Session.declare(layout, plan.n_channels, len(plan.tracks), plan.n_features)
    session = Session.create(layout, setup)
    fill(session.block, plan)
    return session


def fill(block: Block, plan: Plan) -> None:
    """Write a plan into the callback's table. Offsets count in elements of the array's type from the start of the block."""
    table = block["audio.table"]
    routes = [
        (o, source % plan.n_channels, channel) for o, output in enumerate(plan.outputs) for source, channel in enumerate(output.channels)
    ]
    _check_limit("inputs.*.channels", "input channels", plan.n_channels, t.MAX_CHANNELS)
    _check_limit("outputs", "outputs", len(plan.outputs), t.MAX_OUTPUTS)
    _check_limit("outputs", "output channels in all", len(routes), t.MAX_ROUTES)
    table[[t.N_CHANNELS, t.N_OUTPUTS, t.N_ROUTES]] = (plan.n_channels, len(plan.outputs), len(routes))
    table[[t.DEVICE_IN, t.DEVICE_OUT]] = (plan.device_in, plan.device_out)
    table[[t.BLOCK_SIZE, t.SAMPLE_RATE, t.HOP_SIZE]] = (plan.block_size, plan.sample_rate, plan.hop_size)
    table[t.IN_SAMPLES] = block.offset("input.samples") // 4
    table[t.IN_SPAN] = block.offset("input.span") // 8
    table[t.IN_MASK] = block["input.samples"].shape[1] - 1
    table[t.MIX] = block.offset("audio.mix") // 4
    table[t.PENDING] = block.offset("audio.pending") // 8
    table[t.MISSES] = block.offset("audio.misses") // 8
    table[t.INTERVALS] = block.offset("audio.intervals") // 8
    table[t.TIMESPEC] = block.offset("audio.timespec") // 8
    table[t.IN_MAP : t.IN_MAP + plan.n_channels] = plan.in_channels
    step = np.float32(1.0 / (t.RAMP_S * plan.sample_rate))
    for o, output in enumerate(plan.outputs):
        row = table[t.OUTPUTS + o * t.OUTPUT_WIDTH :][: t.OUTPUT_WIDTH]
        row[[t.TRACK, t.DELAY, t.FALLBACK_DRY, t.MISS_FROM]] = (output.track, output.delay, int(output.fallback_dry), -1)
        row[t.DRY_DELAY] = output.latency
        if output.track >= 0:
            row[t.SAMPLES] = block.offset(f"track{output.track}.samples") // 4
            row[t.SPAN] = block.offset(f"track{output.track}.span") // 8
            row[t.MASK] = block[f"track{output.track}.samples"].shape[1] - 1
        block["audio.mix"][o] = (output.gain, output.gain, 1.0, step)
    for r, route in enumerate(routes):
        table[t.ROUTES + r * t.ROUTE_WIDTH :][: t.ROUTE_WIDTH] = route


def _check_limit(field: str, what: str, count: int, limit: int) -> None:
    if count > limit:
        raise ConfigError(field, f"expected at most {limit} {what}, got {count}")
