"""The picture as lines of text. A pure function: the same picture gives the same lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rtserver.monitor.source import Picture

SILENT_S = 1.0  # ten heartbeats missed
FLOOR_DB = -60.0
BAR = 30  # characters of a meter
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# What counts of each role, in words; the rest is in --json.
WORTH_SAYING = {
    "audio": ("long_intervals", "input_overflows", "output_underflows", "misses", "late_clicks", "clipped", "nonfinite_in"),
    "engine": ("lagged_frames", "restarts", "nonfinite", "late_masks", "nonfinite_masks", "slow_networks"),
    "separator": ("skipped_hops", "nonfinite"),
    "follower": ("late_hops", "lost_hops", "own_keys"),
    "performer": ("late_notes", "late_clicks", "nonfinite"),
    "midi": ("late_notes", "dropped_notes", "port_errors", "panics"),
    "gateway": ("bad_messages", "dropped_events", "dropped_bulk"),
}


def lines(picture: Picture) -> list[str]:
    """All lines, top to bottom."""
    return [
        *_head(picture),
        *_music(picture),
        *_meters(picture.meters),
        *_latencies(picture),
        *_roles(picture.status.get("roles", {})),
        *_hops(picture.status.get("hop_times", {})),
        *_connections(picture.status),
        *_news(picture.news),
    ]


def _head(picture: Picture) -> Iterator[str]:
    frame = int(picture.status.get("frame", 0))
    since = f"{frame / picture.sample_rate:.0f} s" if picture.sample_rate else ""
    state = f"SILENT for {picture.silent_s:.0f} s" if picture.silent_s > SILENT_S else "playing"
    yield f"{picture.server}  {state}  {since}  {picture.sample_rate} Hz"


def _music(picture: Picture) -> Iterator[str]:
    position = picture.position
    if position is not None:
        where = f"quarter {position['quarter']:8.2f}  {position['tempo_bpm']:5.1f} bpm"
        yield f"position   {where}  {position['state']:7}  confidence {position['confidence']:.2f}"
    held = " ".join(f"{pitch_name(pitch)}" for _, pitch, *_ in picture.notes)
    yield f"notes      {len(picture.notes):2} held  {held}"


def _meters(meters: dict[str, Any] | None) -> Iterator[str]:
    if meters is None:
        return
    for side in ("inputs", "outputs"):
        for meter in meters.get(side, ()):
            name = f"{meter['name']} {meter['channel']}"
            clipped = f"  CLIPPED {meter['clipped']}" if meter["clipped"] else ""
            yield f"{side[:-1]:8}   {name:16} {bar(meter['rms_db'], meter['peak_db'])} {meter['peak_db']:6.1f} dB{clipped}"


def _latencies(picture: Picture) -> Iterator[str]:
    latencies: dict[str, int] = picture.status.get("latencies", {})
    if latencies and picture.sample_rate:
        told = (f"{name} {frames} frames ({frames / picture.sample_rate * 1e3:.1f} ms)" for name, frames in latencies.items())
        yield f"latency    {', '.join(told)}"


def _roles(roles: dict[str, dict[str, Any]]) -> Iterator[str]:
    if roles:
        yield f"{'role':10} {'state':9} {'pid':>7} {'restarts':>8} {'priority':>8} {'locked':>6} {'memory':>8}"
    for name, role in roles.items():
        memory = role.get("memory_bytes", 0)
        row = f"{name:10} {role['state']:9} {role['pid']:7} {role['restarts']:8} {role.get('priority', 0):8}"
        row += f" {'yes' if role.get('locked') else 'no':>6} {f'{memory >> 20} MB' if memory else '':>8}"
        counters = role.get("counters", {})
        told = [f"{key} {counters[key]}" for key in WORTH_SAYING.get(name.partition(".")[0], ()) if counters.get(key)]
        yield f"{row}  {', '.join(told)}".rstrip()


def _hops(hop_times: dict[str, dict[str, float]]) -> Iterator[str]:
    if hop_times:
        yield f"{'time of a hop':24} {'p50':>9} {'p99':>9} {'most':>9}"
    for name, times in hop_times.items():
        yield f"{name:24} {ms(times['p50_s'])} {ms(times['p99_s'])} {ms(times['max_s'])}"


def _connections(status: dict[str, Any]) -> Iterator[str]:
    clients: dict[str, float] = status.get("clients", {})
    lost = {name: n for name, n in status.get("lost_events", {}).items() if n}
    if clients:
        yield f"clients    {', '.join(sorted(clients))}"
    if lost:
        yield f"lost       {', '.join(f'{n} events of {name}' for name, n in lost.items())}"


def _news(news: Iterable[dict[str, Any]]) -> Iterator[str]:
    for event in news:
        rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("kind", "frame", "available_frame") and value != "")
        yield f"{event['frame']:>12} {event['kind']:6} {rest}"


def bar(rms_db: float, peak_db: float) -> str:
    """A meter of `BAR` characters from `FLOOR_DB` to 0 dBFS: RMS as a bar, the peak as a line."""
    filled, peak = (round(BAR * min(max(1 - db / FLOOR_DB, 0.0), 1.0)) for db in (rms_db, peak_db))
    cells = ["#"] * filled + ["."] * (BAR - filled)
    if peak:
        cells[peak - 1] = "|"
    return "".join(cells)


def ms(seconds: float) -> str:
    """Milliseconds in nine characters."""
    return f"{seconds * 1e3:6.3f} ms"


def pitch_name(pitch: int) -> str:
    """60 is C4."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"
