"""A hidden semi-Markov model of somebody who plays from a score: which moment sounds, since when, and how fast.

The state is (event, age, tempo). *Event* is a moment of the score at which something begins, *age* the hops since it began, and *tempo*
the logarithm of how much longer than written a moment lasts, as a Gaussian belief (mean, variance) that each hypothesis carries and that is
sharpened whenever a moment has been left. Every event of the score is a state; only those with a share of the belief cost anything.

Equations: durations are log-logistic in the age, of scale ``0.5513 sqrt(v + R)`` (the logistic distribution with that standard deviation),
mixed with a wide one for fermatas and hesitations; R is the variance of a human's timing. Leaving after age a observes
``y = log(a / d)``, and the tempo follows as in a Kalman filter with gain ``v / (v + R)``. Arrivals of one hop at one event are merged by
their moments.

References: A. Cont, "A coupled duration-focused architecture for real-time music-to-score alignment", IEEE TPAMI 32(6), 2010; Y. Jiang and
C. Raphael, "Score following with hidden tempo using a switching state-space model", ISMIR 2020.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

N_HYPOTHESES = 16384  # ten times what a usual hop needs
PRUNE = 1e-11
WIDEST, NARROWEST = 0.25, 0.0004  # variance of the tempo
KNOWN_TEMPO = 0.04  # the same of a player who goes on elsewhere
LONGEST_STEP = 0.7  # in log tempo, from one event
LARGEST_HAZARD = 0.7

# Rows of the numbers that a hop gives back.
REPORT, AGE, TEMPO, LOCAL, GAIN, AWAY, AWAY_FROM, N_STATE = range(8)


@dataclass(frozen=True)
class Timing:
    """How people play: few, global, musical constants.

    Attributes
    ----------
    expression : float
        Standard deviation of the logarithm of a duration around what the tempo says.
    jitter_s : float
        The same in seconds, of a single onset: in fast notes it is what counts.
    drift : float
        Growth of the tempo's variance a second.
    pause, pause_scale, pause_late : float
        Share of moments that are held, and the log-logistic of how long.
    slowest, fastest : float
        Limits of the logarithm of the tempo's ratio.
    """

    expression: float = 0.15
    jitter_s: float = 0.02
    drift: float = 0.05
    pause: float = 0.08
    pause_scale: float = 0.7
    pause_late: float = 0.1
    slowest: float = 1.8
    fastest: float = 1.8


@dataclass(frozen=True)
class Places:
    """Where the player may be: around the present place, or, against long odds, anywhere.

    Attributes
    ----------
    behind, ahead : int
        Events around the reported one whose hypotheses speak at once.
    near_leak, far_leak : float
        Odds, a hop with an onset, of a start from an event close by, or from anywhere in the score.
    switch_s, switch_events : float
        For so long, and over so many events, must all belief be elsewhere before the report goes there.
    evidence : float
        Nats that the last hops must speak for an event before somebody is believed to have leapt there.
    share : float
        Of the belief in the neighbourhood, what may still lie before the reported event. With the median, 0.5, more onsets are told
        early than late, as a moment that is due is believed in before it can be heard.
    step_back : float
        Of the same, what must lie before the reported event before the report goes back: in a pause the player may have stopped on a moment
        or just before it, and nothing tells which.
    """

    behind: int = 12
    ahead: int = 30
    near_leak: float = 1e-6
    far_leak: float = 1e-9
    near_behind: int = 6
    near_ahead: int = 8
    switch_s: float = 0.8
    switch_events: int = 4
    evidence: float = 2.0
    last: int = 6  # events at the end where nobody leaps to: nothing would contradict it afterwards
    share: float = 0.45
    step_back: float = 0.7


@jit("float64(float64)")
def _logistic(x: float) -> float:
    if x < -700.0:
        return 0.0
    return 1.0 / (1.0 + np.exp(-x))


@jit(
    "int64(int64, float64, int32[::1], int32[::1], float64[::1], float64[::1], float64[::1],"
    " float64[::1], float64[::1], float64[:,::1], int32[::1], int64)"
)
def advance(  # noqa: PLR0917
    n: int, dt: float, event: I32, birth: I32, p: F64, m: F64, v: F64, duration: F64, timing: F64, arriving: F64, touched: I32, count: int
) -> int:
    """Let every hypothesis grow a hop older; what leaves its event arrives at the next. Returns the new count.

    `arriving` (n_events, 4) is zero, and is again afterwards: mass, and its first and second moment of tempo and its variance.
    """
    expression, jitter, drift, pause, scale, late = timing[0], timing[1], timing[2], timing[3], timing[4], timing[5]
    slowest, fastest = timing[6], timing[7]
    n_events = len(duration)
    n_touched = 0
    for h in range(count):
        k = event[h]
        if k >= n_events - 1:
            continue
        written = duration[k]
        centre = np.log(written) + m[h]
        lasts = np.exp(centre)
        noise = expression * expression + (jitter / lasts) ** 2
        spread = 0.5513 * np.sqrt(v[h] + noise)
        age = (n - birth[h]) * dt
        young, old = np.log(max(age - 0.5 * dt, 1e-4)) - centre, np.log(age + 0.5 * dt) - centre
        before, after = _logistic(young / spread), _logistic(old / spread)
        held_before, held_after = _logistic((young - late) / scale), _logistic((old - late) / scale)
        played, held = (1.0 - pause) * (after - before), pause * (held_after - held_before)
        surviving = (1.0 - pause) * (1.0 - before) + pause * (1.0 - held_before)
        hazard = min((played + held) / max(surviving, 1e-12), LARGEST_HAZARD)
        leaving = p[h] * hazard
        if leaving < 1e-16:
            continue
        p[h] -= leaving
        gain = played / max(played + held, 1e-300) * v[h] / (v[h] + noise)
        error = min(max(np.log(max(age, 0.5 * dt) / written) - m[h], -LONGEST_STEP), LONGEST_STEP)
        mean = min(max(m[h] + gain * error, -fastest), slowest)
        variance = min(max(v[h] * (1.0 - gain) + drift * min(lasts, 2.0), NARROWEST), WIDEST)
        goal = k + 1
        if arriving[goal, 0] == 0.0:
            touched[n_touched] = goal
            n_touched += 1
        arriving[goal, 0] += leaving
        arriving[goal, 1] += leaving * mean
        arriving[goal, 2] += leaving * mean * mean
        arriving[goal, 3] += leaving * variance
    for i in range(n_touched):
        goal = touched[i]
        if count < len(p):
            mass = arriving[goal, 0]
            mean = arriving[goal, 1] / mass
            event[count], birth[count], p[count], m[count] = goal, n, mass, mean
            v[count] = min(arriving[goal, 3] / mass + max(arriving[goal, 2] / mass - mean * mean, 0.0), WIDEST)
            count += 1
        arriving[goal, :] = 0.0
    return count


@jit("float64(int64, int32[::1], int32[::1], float64[::1], int32[::1], float64[:,::1], float64[::1], float64, float64[::1], int64)")
def weigh(  # noqa: PLR0917
    n: int, event: I32, birth: I32, p: F64, chord: I32, evidence: F64, held: F64, held_weight: float, state: F64, count: int
) -> float:
    """Multiply every hypothesis by what the hop says of its event at its age. Returns the new sum.

    `evidence` (n_chords, n_ages + 1) in nats; the last column holds for all greater ages. `held` (n_events,): how well what sounds on fits,
    at most 0; it counts in full once an event has passed its attack. ``state[GAIN]``: nats that `evidence` gave to the belief as a whole.
    """
    n_ages = evidence.shape[1] - 1
    total, gained = 0.0, 0.0
    for h in range(count):
        k = event[h]
        age = min(n - birth[h], n_ages)
        begun = p[h] * np.exp(evidence[chord[k], age])
        gained += begun
        p[h] = begun * np.exp(held_weight * held[k] * age / n_ages)
        total += p[h]
    state[GAIN] = np.log(max(gained, 1e-30))
    return total


@jit(
    "int64(int64, int32[::1], int32[::1], float64[::1], float64[::1], float64[::1], int32[::1], float64[::1], float64[::1], float64[::1],"
    " float64[::1], float64, int64)"
)
def leap(  # noqa: PLR0917
    n: int,
    event: I32,
    birth: I32,
    p: F64,
    m: F64,
    v: F64,
    chord: I32,
    recent: F64,
    prior: F64,
    places: F64,
    state: F64,
    total: float,
    count: int,
) -> int:
    """Believe a little that the player has just begun somewhere else, where the last hops speak for it. Returns the new count.

    `recent` (n_chords,): nats that the hops since `n - 3` gave to an event that began then. `prior` (n_events,): how likely it is that
    somebody goes there, 1 in the mean.
    """
    near_leak, far_leak, evidence = places[2], places[3], places[8]
    near_first, near_last = int(state[REPORT] - places[4]), int(state[REPORT] + places[5])
    n_events = len(chord)
    far = far_leak / n_events
    for k in range(n_events - int(places[9])):
        nats = recent[chord[k]]
        near = near_first <= k <= near_last
        if nats > (0.0 if near else evidence) and count < len(p):
            mass = (near_leak / (near_last - near_first + 1) if near else far * prior[k]) * np.exp(nats)
            if mass > PRUNE:
                event[count], birth[count], p[count], m[count], v[count] = k, n - 3, mass * total, state[TEMPO], 0.04
                count += 1
    return count


@jit(
    "int64(int64, float64, int32[::1], int32[::1], float64[::1], float64[::1], float64[::1], float64[::1], float64[::1], float64[::1],"
    " int64)"
)
def settle(  # noqa: PLR0917
    n: int, dt: float, event: I32, birth: I32, p: F64, m: F64, v: F64, mass: F64, places: F64, state: F64, count: int
) -> int:
    """Scale the belief to 1, drop what is negligible, and decide what to report. Returns the new count.

    `mass` (n_events,) is all 0 before and after. `state`: see the row names at the top of the file.
    """
    total = 0.0
    for h in range(count):
        total += p[h]
    room = len(p) // 2  # the other half is for those that arrive and leap
    limit = PRUNE
    while limit < 1.0 / room:  # beyond, all are alike, and the first are as good as any
        kept = 0
        for h in range(count):
            kept += p[h] > limit * total
        if kept <= room:
            break
        limit *= 10.0
    kept, weight = 0, 0.0
    for h in range(count):
        if p[h] > limit * total and kept < room:
            event[kept], birth[kept], p[kept], m[kept], v[kept] = event[h], birth[h], p[h], m[h], v[h]
            weight += p[h]
            kept += 1
    for h in range(kept):
        p[h] /= weight
        mass[event[h]] += p[h]
    n_events = len(mass)
    report = int(state[REPORT])
    first, last = max(report - int(places[0]), 0), min(report + int(places[1]), n_events - 1)
    local = 0.0
    for k in range(first, last + 1):
        local += mass[k]
    far_best, far_event = 0.0, -1
    for h in range(kept):
        k = event[h]
        if (k < first or k > last) and mass[k] > far_best:
            far_best, far_event = mass[k], k
    if local < 0.05:
        if state[AWAY] == 0.0:
            state[AWAY_FROM] = far_event
        state[AWAY] += dt
        if state[AWAY] >= places[6] and abs(far_event - state[AWAY_FROM]) >= places[7]:
            report = far_event
            state[AWAY] = 0.0
            first, last = max(report - int(places[0]), 0), min(report + int(places[1]), n_events - 1)
            local = 0.0
            for k in range(first, last + 1):
                local += mass[k]
    else:
        state[AWAY] = max(state[AWAY] - 10.0 * dt, 0.0)
    if local > 0.0:
        before, below = 0.0, 0.0
        for k in range(first, report):
            before += mass[k]
        for k in range(first, last + 1):
            below += mass[k]
            if below >= places[10] * local:
                if k > report or before >= places[11] * local:
                    report = k
                break
    weight, age, tempo = 0.0, 0.0, 0.0
    for h in range(kept):
        if event[h] == report:
            weight += p[h]
            age += p[h] * (n - birth[h])
            tempo += p[h] * m[h]
    for h in range(kept):
        mass[event[h]] = 0.0
    state[REPORT], state[LOCAL] = report, local
    if weight > 0.0:
        state[AGE], state[TEMPO] = age / weight * dt, tempo / weight
    return kept


class StateSpace:
    """The belief about where somebody is among `n_events` moments, updated once a hop.

    Parameters
    ----------
    duration_s : float64 (n_events,)
        Nominal seconds from each event to the next.
    chord : int32 (n_events,)
        Index of the set of pitches that begins there.
    hop_s : float
    prior : float64 (n_events,), optional
        How likely a leap to each event is, in any unit; alike if omitted.
    """

    def __init__(  # noqa: PLR0917
        self,
        duration_s: F64,
        chord: I32,
        hop_s: float,
        prior: F64 | None = None,
        timing: Timing | None = None,
        places: Places | None = None,
    ) -> None:
        t, w = timing or Timing(), places or Places()
        self.duration = np.ascontiguousarray(duration_s, np.float64)
        self.chord = np.ascontiguousarray(chord, np.int32)
        self.hop_s = hop_s
        self._prior = np.ones(len(self.duration)) if prior is None else np.ascontiguousarray(prior / prior.mean(), np.float64)
        self._timing, self._places = (np.array(astuple(x), np.float64) for x in (t, w))  # kernels count on the order of the fields
        n = len(self.duration)
        self._event, self._birth = np.zeros(N_HYPOTHESES, np.int32), np.zeros(N_HYPOTHESES, np.int32)
        self._p, self._m, self._v = (np.zeros(N_HYPOTHESES) for _ in range(3))
        self._arriving, self._touched, self._mass = np.zeros((n, 4)), np.zeros(2 * N_HYPOTHESES, np.int32), np.zeros(n)
        self.state = np.zeros(N_STATE)
        self.held = np.zeros(n)
        self._count, self._n = 0, 0

    def begin(self, event: int, age: int = 0, tempo: float = 0.0, variance: float = 0.15) -> None:
        """Believe that `event` began `age` hops ago, and nothing else."""
        self._event[0], self._birth[0], self._p[0], self._m[0], self._v[0] = event, self._n - age, 1.0, tempo, variance
        self._count = 1
        self.state[:] = 0.0
        self.state[REPORT], self.state[LOCAL], self.state[AGE], self.state[TEMPO] = event, 1.0, age * self.hop_s, tempo

    def begin_among(self, event: I32, age: I32, share: F64, tempo: float) -> None:
        """Believe in several events (n,), each begun so many hops ago and with its share; the middle one is reported until the next hop."""
        n = self._count = len(event)
        self._event[:n], self._birth[:n], self._p[:n] = event, self._n - age, share / np.sum(share)
        self._m[:n], self._v[:n] = tempo, KNOWN_TEMPO
        self.state[:] = 0.0
        self.state[REPORT], self.state[LOCAL] = event[n // 2], 1.0
        self.state[AGE], self.state[TEMPO] = age[n // 2] * self.hop_s, tempo

    @property
    def events(self) -> I32:
        """The events of all hypotheses, with repetitions."""
        return self._event[: self._count]

    @property
    def belief(self) -> F64:
        """The probability of each hypothesis; the sum is 1."""
        return self._p[: self._count]

    def advance(self) -> None:
        """A hop goes by, of which nothing is known yet."""
        self._n += 1
        self._count = advance(
            self._n, self.hop_s, self._event, self._birth, self._p, self._m, self._v, self.duration, self._timing, self._arriving,
            self._touched, self._count,
        )  # fmt: skip

    def update(self, evidence: F64, held_weight: float, recent: F64 | None) -> None:
        """What the hop said: nats by chord and age (see `weigh`), how much `held` counts, and, if there was an onset, `recent`."""
        total: Any = weigh(
            self._n, self._event, self._birth, self._p, self.chord, evidence, self.held, held_weight, self.state, self._count
        )
        if recent is not None:
            self._count = leap(
                self._n, self._event, self._birth, self._p, self._m, self._v, self.chord, recent, self._prior, self._places, self.state,
                total, self._count,
            )  # fmt: skip
        self._count = settle(
            self._n, self.hop_s, self._event, self._birth, self._p, self._m, self._v, self._mass, self._places, self.state, self._count
        )
