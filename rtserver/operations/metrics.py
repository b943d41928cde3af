"""The shared counters as Prometheus reads them. Nothing is computed until somebody asks; who counts never knows of it.

Names begin with ``rt_`` and are in base units. Counters begin anew when the role that counts is started anew, as Prometheus expects;
those of the audio role last as long as the session.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from rtserver.audio import table as t
from rtserver.shared.histogram import Histogram, HopTimes
from rtserver.shared.session import (
    BEAT_NS,
    COUNTERS,
    EVENT_PATHS,
    LOCKED,
    MEMORY,
    N_DECKS,
    PID,
    POSITION,
    RESTARTS,
    ROLES,
    STATE,
    UP,
    Session,
)

# name -> (what it says, label, {label's value: (role, counter)})
COUNTED: dict[str, tuple[str, str, dict[str, tuple[str, str]]]] = {
    "rt_callbacks": ("Callbacks of the audio device", "", {"": ("audio", "callbacks")}),
    "rt_xruns": (
        "Blocks that the device lost or that came late",
        "kind",
        {
            "input_overflow": ("audio", "input_overflows"),
            "output_underflow": ("audio", "output_underflows"),
            "late_callback": ("audio", "long_intervals"),
        },
    ),
    "rt_misses": ("Stretches of an output whose samples came late; their fallback was heard", "", {"": ("audio", "misses")}),
    "rt_clipped_samples": ("Samples beyond full scale sent to the device", "", {"": ("audio", "clipped")}),
    "rt_nonfinite": (
        "Values that were no numbers, and were replaced",
        "where",
        {
            "input": ("audio", "nonfinite_in"),
            "output": ("audio", "nonfinite_out"),
            "engine": ("engine", "nonfinite"),
            "performer": ("performer", "nonfinite"),
        },
    ),
    "rt_hops": ("Hops that the engine has processed", "", {"": ("engine", "hops")}),
    "rt_lagged_frames": ("Frames of input that the engine skipped because it had fallen behind", "", {"": ("engine", "lagged_frames")}),
    "rt_masks": (
        "Hops of a separation network whose masks were late or no numbers, so that medians stood in, or that took too long",
        "kind",
        {"late": ("engine", "late_masks"), "nonfinite": ("engine", "nonfinite_masks"), "slow": ("engine", "slow_networks")},
    ),
    "rt_late_hops": (
        "Feature vectors that the follower took late, or never",
        "kind",
        {"late": ("follower", "late_hops"), "lost": ("follower", "lost_hops")},
    ),
    "rt_positions": ("Positions in the score that were told", "", {"": ("follower", "positions")}),
    "rt_notes": (
        "Notes at the MIDI port",
        "kind",
        {
            "on": ("midi", "notes_on"),
            "off": ("midi", "notes_off"),
            "late": ("midi", "late_notes"),
            "dropped": ("midi", "dropped_notes"),
        },
    ),
    "rt_midi_messages_in": ("MIDI messages that came in", "", {"": ("midi", "messages_in")}),
    "rt_midi_port_errors": ("MIDI messages that a port refused", "", {"": ("midi", "port_errors")}),
    "rt_panics": ("Times that every note was ended", "", {"": ("midi", "panics")}),
    "rt_requests": (
        "Requests of clients",
        "kind",
        {
            "answered": ("gateway", "commands"),
            "refused": ("gateway", "bad_messages"),
            "rate_limited": ("gateway", "rate_limited"),
            "denied": ("gateway", "denied"),
        },
    ),
    "rt_wire_dropped": (
        "Messages that a client did not take in time",
        "class",
        {"events": ("gateway", "dropped_events"), "bulk": ("gateway", "dropped_bulk"), "replies": ("gateway", "dropped_replies")},
    ),
    "rt_log_failures": ("Lines of the log that were lost", "", {"": ("gateway", "log_failures")}),
}
LONGEST_S = {"rt_note_lateness_max_seconds": ("midi", "late_ns_max"), "rt_performer_query_max_seconds": ("performer", "query_ns_max")}
# Of the follower; nothing is told where nothing has been followed yet.
FOLLOWED: dict[str, tuple[str, str]] = {
    "rt_position_quarters": ("quarter", "Quarters from the first sounding note of the score"),
    "rt_tempo_bpm": ("tempo_bpm", "Quarters a minute, as the player plays"),
    "rt_confidence": ("confidence", "How sure the follower is, 0 to 1"),
}
QUANTILES = (0.5, 0.99, 1.0)


class SessionCollector(Collector):
    """What a session counts, read when asked."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from self._counted()
        yield from self._roles()
        yield from self._times()
        yield from self._rest()

    def _counters(self, role: str) -> dict[str, int]:
        return t.counters(self.session.block) if role == "audio" else self.session.counters(role)

    def _counted(self) -> Iterator[Metric]:
        known = {role: self._counters(role) for role in ("audio", *COUNTERS)}
        for name, (says, label, sources) in COUNTED.items():
            family = CounterMetricFamily(name, says, labels=[label] if label else [])
            for value, (role, counter) in sources.items():
                if counter in known[role]:
                    family.add_metric([value] if label else [], known[role][counter])
            yield family
        for name, (role, counter) in LONGEST_S.items():
            yield GaugeMetricFamily(name, f"The longest since the {role} role started", known[role].get(counter, 0) * 1e-9)

    def _roles(self) -> Iterator[Metric]:
        rows = {name: self.session.role(name) for name in ROLES}
        rows = {name: row for name, row in rows.items() if row[PID]}
        now_ns = time.monotonic_ns()
        yield _of(
            CounterMetricFamily, "rt_restarts", "Times that a role was started again", "role", ((n, r[RESTARTS]) for n, r in rows.items())
        )
        yield _of(
            GaugeMetricFamily, "rt_role_up", "Whether a role has prepared and runs", "role", ((n, r[STATE] == UP) for n, r in rows.items())
        )
        yield _of(GaugeMetricFamily, "rt_role_locked", "Whether its memory is locked", "role", ((n, r[LOCKED]) for n, r in rows.items()))
        yield _of(GaugeMetricFamily, "rt_role_memory_bytes", "Memory of a role (PSS)", "role", ((n, r[MEMORY]) for n, r in rows.items()))
        ages = ((n, max(now_ns - int(r[BEAT_NS]), 0) * 1e-9) for n, r in rows.items())
        yield _of(GaugeMetricFamily, "rt_role_heartbeat_age_seconds", "Time since its last heartbeat", "role", ages)

    def _times(self) -> Iterator[Metric]:
        hops = HistogramMetricFamily("rt_hop_seconds", "Time that the engine of a deck takes for a hop, by node", labels=["node", "deck"])
        for deck in range(N_DECKS):
            for name, times in HopTimes(self.session.block, deck).all().items():
                hops.add_metric([name, str(deck)], *_buckets(times))
        yield hops
        took = HistogramMetricFamily("rt_callback_seconds", "Time that a callback of the audio device takes")
        took.add_metric([], *_buckets(Histogram(self.session.block["audio.times"])))
        yield took
        callbacks = int(self.session.block["audio.table"][t.CALLBACKS])
        intervals = self.session.block["audio.intervals"][: min(max(callbacks - 1, 0), t.INTERVAL_RING)]
        quantiles = np.quantile(intervals, QUANTILES) * 1e-9 if len(intervals) else np.zeros(len(QUANTILES))
        values = ((str(q), float(v)) for q, v in zip(QUANTILES, quantiles, strict=True))
        yield _of(GaugeMetricFamily, "rt_callback_interval_seconds", f"Of the last {t.INTERVAL_RING} callbacks", "quantile", values)

    def _rest(self) -> Iterator[Metric]:
        session = self.session
        yield GaugeMetricFamily("rt_clients", "Clients that asked something in the last 10 s", session.counters("gateway")["clients"])
        position = session.block[f"deck{t.heard(session.block)}.position"]
        if position[POSITION.index("frame")]:
            for name, (key, says) in FOLLOWED.items():
                yield GaugeMetricFamily(name, says, float(position[POSITION.index(key)]))
        latencies = session.setup.latencies.items()
        yield _of(GaugeMetricFamily, "rt_latency_frames", "Frames by which an output lags its input", "output", latencies)
        lost = ((producer, session.ring(producer, "gateway").dropped[0]) for producer, to in EVENT_PATHS.items() if "gateway" in to)
        yield _of(CounterMetricFamily, "rt_events_lost", "Events that the gateway had no room for", "producer", lost)
        yield GaugeMetricFamily("rt_notes_sounding", "Notes that sound", int((session.block["notes"] > 0).sum()))
        yield CounterMetricFamily("rt_frames", "Session frames so far", session.frame)
        rate = session.clock.line()[2] if session.clock.running else 0.0
        yield GaugeMetricFamily("rt_device_rate_hz", "Frames a second of the device, by our clock", rate)


def _buckets(times: Histogram) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus has it: (upper edge in seconds, how many up to it), and the sum in seconds."""
    buckets = [(str(edge_s), float(count)) for edge_s, count in times.cumulative()]
    return [*buckets, ("+Inf", buckets[-1][1])], times.sum_s


def _of(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, says: str, label: str, values: Iterable[tuple[str, float]]
) -> Metric:
    family = kind(name, says, labels=[label])
    for value, number in values:
        family.add_metric([value], float(number))
    return family
