"""Who is heard when: the delay of every output and what it is made of.

An output's sample for session frame m is its track's sample m − delay. The delay of a track that the engine makes is the
hand-off (`reblock.handoff_latency`) plus, where outputs share a device channel, what aligns it to the latest of them; the track itself
lags the input by the latency of its nodes.

The plan of a song is laid out on one of two decks: rows of outputs and routes in the callback's table, tracks in a pool of rings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rtserver.audio import table as t
from rtserver.audio.clicks import fill_bursts
from rtserver.config import Config
from rtserver.errors import ConfigError
from rtserver.reblock import reblock_latency
from rtserver.shared.memory import Block, Layout
from rtserver.shared.session import MAX_TRACK_CHANNELS, MAX_TRACKS, Session, Setup, Track


@dataclass(frozen=True)
class Term:
    """One part of a latency, in frames, and its cause."""

    frames: int
    cause: str


@dataclass(frozen=True)
class Branch:
    """What is made of one input. `tracks` maps the outputs of its graph, in order, to the latency of their nodes in frames, of which
    `deferred` are those by which a network elsewhere may take longer."""

    input: str
    hop_size: int
    tracks: dict[str, int]
    deferred: int = 0


@dataclass(frozen=True)
class OutputPlan:
    """How one output is fed. `track` indexes the plan's tracks; −1 is the dry input, −2 the click."""

    name: str
    track: int
    terms: tuple[Term, ...]
    delay: int  # frames between a track's sample and the session frame at which it is heard
    fallback_dry: bool
    sources: tuple[int, ...]  # device input channels of its input, from 0
    channels: tuple[int, ...]  # device channels, from 0
    gain_db: float
    mute: bool
    bypass: bool

    @property
    def latency(self) -> int:
        """Frames from the input of a frame to the session frame at which this output plays it. The device's own is not in it."""
        return sum(term.frames for term in self.terms)


@dataclass(frozen=True)
class Plan:
    """The audio side of a song."""

    sample_rate: int
    block_size: int
    hop_size: int  # the grid on which every branch's hops fall: a stream starts on it
    n_features: int
    inputs: dict[str, tuple[int, ...]]  # device channels of each, from 0
    tracks: tuple[Track, ...]
    outputs: tuple[OutputPlan, ...]

    @property
    def device_in(self) -> int:
        """Input channels that the device must have."""
        return max(c for channels in self.inputs.values() for c in channels) + 1

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


def plan(config: Config, branches: list[Branch], n_features: int) -> Plan:
    """Work out every delay. `n_features` counts the values in one feature vector. Raises `ConfigError`."""
    audio = config.audio
    inputs = {name: tuple(c - 1 for c in source.channels) for name, source in config.inputs.items()}
    tracks = _tracks(branches, inputs)
    by_name = {(track.input, track.source): track for track in tracks}
    base: dict[str, list[Term]] = {}
    for name, output in config.outputs.items():
        base[name] = []
        if output.source in ("dry", "click"):
            continue
        track = by_name.get((config.input_of(output), output.source))
        if track is None:
            there = ", ".join(track.source for track in tracks if track.input == config.input_of(output)) or "none"
            raise ConfigError(f"outputs.{name}.source", f"no track {output.source!r}; the graph has {there}")
        branch = next(b for b in branches if b.input == track.input)
        hop_size = branch.hop_size
        base[name] = [
            Term(track.latency - branch.deferred, "window: synthesis window minus hop"),
            Term(branch.deferred, f"network in a worker: {branch.deferred // hop_size} hop(s) of {hop_size}"),
            Term(reblock_latency(audio.block_size, hop_size), f"cutting blocks of {audio.block_size} into hops of {hop_size}"),
            Term(audio.block_size, "hand-over to the engine: one block"),
            Term(audio.spare_blocks * audio.block_size, f"slack: {audio.spare_blocks} spare block(s)"),
        ]
    total = {name: sum(term.frames for term in terms) for name, terms in base.items()}
    plans: list[OutputPlan] = []
    for name, output in config.outputs.items():
        sharing = [n for n, o in config.outputs.items() if set(o.channels) & set(output.channels) and o.source != "click"]
        aligned = max(total[n] for n in sharing) if output.align and output.source != "click" else total[name]
        terms = [term for term in (*base[name], Term(aligned - total[name], "alignment with outputs on the same channel")) if term.frames]
        track = by_name.get((config.input_of(output), output.source))
        plans.append(
            OutputPlan(
                name,
                tracks.index(track) if track else t.CLICK if output.source == "click" else t.DRY,
                tuple(terms),
                aligned - (track.latency if track else 0),
                output.on_late == "dry",
                inputs[config.input_of(output)],
                tuple(c - 1 for c in output.channels),
                output.gain_db,
                output.mute,
                output.bypass,
            )
        )
    hop_size = math.lcm(*(b.hop_size for b in branches), 1)
    made = Plan(audio.sample_rate, audio.block_size, hop_size, n_features, inputs, tracks, tuple(plans))
    _check_limits(made)
    return made


def _tracks(branches: list[Branch], inputs: dict[str, tuple[int, ...]]) -> tuple[Track, ...]:
    """Lay the branches' tracks out in the pool, one after the other. With one input a track is called as its source."""
    tracks: list[Track] = []
    first = 0
    for branch in branches:
        n_channels = len(inputs[branch.input])
        for source, latency in branch.tracks.items():
            name = source if len(inputs) == 1 else f"{branch.input}.{source}"
            tracks.append(Track(name, branch.input, source, first, n_channels, latency))
            first += n_channels
    return tuple(tracks)


def open_session(setup: Setup, plan: Plan, device: tuple[int, int] | None = None) -> Session:
    """A new session with this plan on its first deck, and heard. `device`: channels to open, in and out; None: what the plan needs."""
    layout = Layout()
    t.declare(layout)
    n_in, n_out = device or (plan.device_in, plan.device_out)
    Session.declare(layout, n_in, n_out, plan.n_features)
    session = Session.create(layout, setup)
    _fill_device(session.block, plan, n_in, n_out)
    fill(session.block, plan, 0)
    session.block["audio.table"][[t.DECKS + t.START, t.DECKS + t.END]] = (-t.FOREVER, t.FOREVER)
    return session


def _fill_device(block: Block, plan: Plan, n_in: int, n_out: int) -> None:
    """What holds for the whole session. Offsets count in elements of the array's type from the start of the block."""
    table = block["audio.table"]
    table[[t.DEVICE_IN, t.DEVICE_OUT]] = (n_in, n_out)
    table[[t.BLOCK_SIZE, t.SAMPLE_RATE, t.HOP_SIZE]] = (plan.block_size, plan.sample_rate, 1)
    table[t.METER_SIZE] = round(t.METER_S * plan.sample_rate)
    for samples, span, mask, name in ((t.IN_SAMPLES, t.IN_SPAN, t.IN_MASK, "input"), (t.PLAYED, t.PLAYED_SPAN, t.PLAYED_MASK, "played")):
        table[samples] = block.offset(f"{name}.samples") // 4
        table[span] = block.offset(f"{name}.span") // 8
        table[mask] = block[f"{name}.samples"].shape[1] - 1
    for cell, name, size in (
        (t.MIX, "mix", 4),
        (t.PENDING, "pending", 8),
        (t.VALUES, "values", 4),
        (t.LOG, "log", 8),
        (t.METER, "meter", 4),
        (t.METERS, "meters", 4),
        (t.INTERVALS, "intervals", 8),
        (t.TIMES, "times", 8),
        (t.TIMESPEC, "timespec", 8),
        (t.CLICKS, "clicks", 8),
        (t.CLICK_COUNTS, "clicks.count", 8),
        (t.VOICES, "voices", 8),
        (t.BURSTS, "bursts", 4),
    ):
        table[cell] = block.offset(f"audio.{name}") // size
    table[t.BURST_SIZE] = fill_bursts(block["audio.bursts"], plan.sample_rate)
    for deck in range(t.N_DECKS):
        table[[t.DECKS + deck * t.DECK_WIDTH + t.START, t.DECKS + deck * t.DECK_WIDTH + t.END]] = t.FOREVER


def lay_out(block: Block, plan: Plan, deck: int) -> None:
    """Lay a plan out on a deck that held another song: nothing of that is left, not even what a late start would play backwards."""
    for name in ("spans", "features.count", "features.frames", "position"):
        block[f"deck{deck}.{name}"][:] = 0
    block[f"deck{deck}.samples"][: sum(track.n_channels for track in plan.tracks)] = 0.0
    fill(block, plan, deck)


def fill(block: Block, plan: Plan, deck: int) -> None:
    """Lay a plan out on a deck that is not heard: the callback may run meanwhile."""
    table = block["audio.table"]
    head = t.DECKS + deck * t.DECK_WIDTH
    table[head + t.N_OUTPUTS] = 0
    table[[head + t.START, head + t.END]] = t.FOREVER
    table[head + t.LOG_READ] = table[t.LOG_WRITTEN]
    table[[head + t.CLICKS_READ, head + t.CLICKS_BEGUN, head + t.SCRIPTED]] = (block["audio.clicks.count"][deck], 0, 0)
    block["audio.voices"][deck] = 0
    clicks = [k for k, output in enumerate(plan.outputs) if output.track == t.CLICK]
    table[head + t.CLICK_OUTPUT] = deck * t.MAX_OUTPUTS + clicks[0] if clicks else -1
    table[t.HOP_SIZE] = math.lcm(int(table[t.HOP_SIZE]), plan.hop_size)
    step = np.float32(1.0 / (t.RAMP_S * plan.sample_rate))
    routes: list[tuple[int, int, int, int]] = []
    capacity = block[f"deck{deck}.samples"].shape[1]
    for k, output in enumerate(plan.outputs):
        o = deck * t.MAX_OUTPUTS + k
        row = table[t.OUTPUTS + o * t.OUTPUT_WIDTH :][: t.OUTPUT_WIDTH]
        row[:] = 0
        row[[t.TRACK, t.DELAY, t.DRY_DELAY, t.FALLBACK_DRY]] = (output.track, output.delay, output.latency, int(output.fallback_dry))
        row[[t.MISS_FROM, t.ABSENT_FROM]] = -1
        first = 0
        if output.track >= 0:
            first = plan.tracks[output.track].first
            row[t.SAMPLES] = block.offset(f"deck{deck}.samples") // 4
            row[t.SPAN] = block.offset(f"deck{deck}.spans") // 8 + 2 * output.track
            row[t.MASK] = capacity - 1
        level, bypass = level_of(output.gain_db, output.mute), float(output.bypass)
        block["audio.mix"][o] = (level, level, bypass, bypass, 1.0, step)
        block["audio.pending"][o] = t.NOTHING
        block[f"deck{deck}.levels"][k] = (output.gain_db, output.mute, output.bypass)
        n = len(output.sources)
        routes += [(o, first + i % n, output.sources[i % n], channel) for i, channel in enumerate(output.channels)]
    for r, route in enumerate(routes):
        table[t.ROUTES + (deck * t.MAX_ROUTES + r) * t.ROUTE_WIDTH :][: t.ROUTE_WIDTH] = route
    table[head + t.N_ROUTES] = len(routes)
    table[head + t.N_OUTPUTS] = len(plan.outputs)


def level_of(gain_db: float, mute: bool) -> float:
    """The factor that a gain in dB and a mute make."""
    return 0.0 if mute else 10.0 ** (gain_db / 20.0)


def _check_limits(plan: Plan) -> None:
    n_routes = sum(len(o.channels) for o in plan.outputs)
    for field, what, count, limit in (
        ("inputs.*.channels", "highest device channel", plan.device_in, t.MAX_CHANNELS),
        ("outputs.*.channels", "highest device channel", plan.device_out, t.MAX_CHANNELS),
        ("outputs", "outputs", len(plan.outputs), t.MAX_OUTPUTS),
        ("outputs", "output channels in all", n_routes, t.MAX_ROUTES),
        ("inputs", "separated tracks", len(plan.tracks), MAX_TRACKS),
        ("inputs", "channels of separated tracks in all", sum(track.n_channels for track in plan.tracks), MAX_TRACK_CHANNELS),
    ):
        if count > limit:
            raise ConfigError(field, f"expected at most {limit} as {what}, got {count}")
