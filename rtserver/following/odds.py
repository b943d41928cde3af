"""For every moment that may be meant: how likely is it, from all that was heard, that its chord began a hops ago?

Templates and network each have their word, and the words are weighed by a logistic regression for each age, fitted on true and false
moments (``models/following/fit.py``): nats for "it began then" against "it did not". What is said of an onset repeats itself from hop to
hop, so a hop adds only what is new: the odds of an onset a hops ago less those that the hop before gave to an onset a - 1 hops ago.

Nothing is worked out for moments that nobody believes in, so that a hop costs no more in a long score; `elsewhere` looks through all
chords, in hops with an onset only, and gives up early on most.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtserver.kernels import jit

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

N_AGES = 10
N_TEMPLATE_AGES = 7  # an onset older than that has left the difference over 30 ms
LEAST, MOST = -3.0, 5.0  # nats that templates may say in one hop
LIMIT = 12.0  # nats for or against a moment in all
UNEXPLAINED = 0.4  # nats against a chord that sounds on, from the strongest rise
SINCE = 3  # hops: of so long ago is the onset from which somebody is believed to have leapt
NEVER = -1000

# The tables are fitted by models/following/fit.py.
# What the cosine of a rise with a chord's partials says. Rows: hops since the onset. Columns: 1, strength, cosine, their product.
TEMPLATE = np.array(
    [
        [-0.02, 0.35, 0.77, -3.51],
        [-0.67, 0.10, 3.66, -1.32],
        [-1.52, -0.16, 4.95, 2.32],
        [-2.09, -0.45, 5.37, 4.52],
        [-2.58, -0.59, 6.78, 4.90],
        [-1.65, -1.70, 5.03, 7.48],
        [-1.16, -1.96, 4.08, 8.04],
    ]
)
# Columns: what templates have said since the onset; the sum, mean, least and most of what the network says of the chord's pitches;
# strength; logarithm of the number of pitches; 1.
TEMPLATES, SUM, MEAN, LOWEST, HIGHEST, STRENGTH, SIZE, ONE = range(8)
WEIGHTS = np.array(
    [
        [1.16, 0.05, -0.26, -0.01, 0.07, 0.04, 0.12, -0.11],
        [0.84, 0.08, -0.40, 0.09, 0.33, -0.13, -0.31, -0.09],
        [0.38, 0.15, -0.27, 0.11, 0.34, -0.71, -0.63, -0.17],
        [0.25, 0.19, -0.18, 0.11, 0.31, -0.99, -0.73, -0.09],
        [0.21, 0.20, -0.05, 0.08, 0.20, -0.89, -0.81, -0.04],
        [0.20, 0.19, 0.05, 0.05, 0.13, -0.40, -0.91, -0.24],
        [0.19, 0.17, 0.11, 0.06, 0.11, 0.17, -0.99, -0.52],
        [0.18, 0.16, 0.14, 0.08, 0.12, 0.73, -0.98, -0.97],
        [0.18, 0.18, 0.19, 0.07, 0.09, 1.04, -1.03, -1.18],
        [0.19, 0.20, 0.38, -0.03, 0.02, 1.29, -1.21, -1.22],
    ]
)
WEIGHTS_TEMPLATES = np.zeros((N_AGES, 8))  # without a network
WEIGHTS_TEMPLATES[:, TEMPLATES] = 1.02, 1.16, 0.73, 0.50, 0.40, 0.35, 0.32, 0.32, 0.32, 0.32
WEIGHTS_TEMPLATES[:, ONE] = 0.0, 0.01, 0.01, 0.02, 0.04, 0.03, 0.01, 0.01, 0.01, 0.01


@jit("float64(float64[:,::1], int64, float64, float64)")
def said_in_hop(template: F64, age: int, strength: float, cosine: float) -> float:
    """Nats of one hop, from templates."""
    row = template[age]
    return min(max(row[0] + row[1] * strength + row[2] * cosine + row[3] * strength * cosine, LEAST), MOST)


@jit("float64(int64, int64, float64, float64, float64[:,::1], float64[::1], int32[::1], int64, int64)")
def weighed(age: int, size: int, templates: float, strength: float, nats: F64, weight: F64, pitch: I32, first: int, last: int) -> float:  # noqa: PLR0917
    """Nats for an onset of a chord, ``pitch[first:last]`` (indices into `nats`, (n_ages, n_pitches)), of which `size` are within it."""
    total, lowest, highest = 0.0, 0.0, 0.0
    found = False
    for i in range(first, last):
        p = pitch[i]
        if 0 <= p < nats.shape[1]:
            said = nats[age, p]
            total += said
            lowest = min(lowest, said) if found else said
            highest = max(highest, said) if found else said
            found = True
    n = max(size, 1)
    odds = (
        weight[0] * templates
        + weight[1] * total
        + weight[2] * total / n
        + weight[3] * lowest
        + weight[4] * highest
        + weight[5] * strength
        + weight[6] * np.log(n)
        + weight[7]
    )
    return min(max(odds, -LIMIT), LIMIT)


@jit("float64(float32[:,::1], int64, float32[:,::1], int64)")
def cosine_of(onset: F32, u: int, rises: F32, row: int) -> float:
    """Cosine of a chord with the rise of a hop, both of unit length."""
    total = 0.0
    for i in range(onset.shape[1]):
        total += onset[u, i] * rises[row, i]
    return min(total, 1.0)


@jit(
    "void(int64, int32[::1], int32[::1], float32[:,::1], int32[::1], int32[::1], boolean[::1], float32[:,::1], float64[::1],"
    " float64[:,:,::1], float64[:,::1], float64[:,::1], int64[::1], float32[:,::1], float64[:,::1], float64[:,::1])"
)
def of_events(  # noqa: PLR0917
    n: int, events: I32, chord: I32, onset: F32, start: I32, pitch: I32, restless: npt.NDArray[np.bool_], rises: F32, strengths: F64,
    nats: F64, template: F64, weights: F64, told: npt.NDArray[np.int64], cosines: F32, said: F64, out: F64,
) -> None:  # fmt: skip
    """Set `out` (n_chords, n_ages + 1) for the chords of `events`: what hop `n` adds for every age, and last, for none of late.

    `rises` (n_rows, 107), `strengths` (n_rows,), `cosines` (n_chords, n_rows) are rings: hop i lies in row ``i % n_rows``. `nats`
    (2, n_ages, n_pitches): what the network says of pitches at odd and even hops. `told`: the hop up to which `cosines` and `said`
    (n_chords, n_ages), the odds in all, are known of a chord.
    """
    n_ages, n_rows = said.shape[1], len(strengths)
    now, before = nats[n % 2], nats[(n - 1) % 2]
    for k in events:
        u = chord[k]
        if told[u] == n:
            continue
        first, last = start[u], start[u + 1]
        size = 0
        for i in range(first, last):
            size += 0 <= pitch[i] < nats.shape[2]
        for i in range(max(n - n_ages + 1, told[u] + 1), n + 1):
            cosines[u, i % n_rows] = cosine_of(onset, u, rises, i % n_rows)
        known = told[u] == n - 1
        for age in range(n_ages - 1, -1, -1):
            templates = 0.0  # up to the hop before, of an onset `age` hops ago
            for a in range(age):
                if a < len(template):
                    row = (n - age + a) % n_rows
                    templates += said_in_hop(template, a, strengths[row], cosines[u, row])
            already = 0.0
            if age > 0:
                if known:
                    already = said[u, age - 1]
                else:
                    already = weighed(age - 1, size, templates, strengths[(n - 1) % n_rows], before, weights[age - 1], pitch, first, last)
            if age < len(template):
                templates += said_in_hop(template, age, strengths[n % n_rows], cosines[u, n % n_rows])
            odds = weighed(age, size, templates, strengths[n % n_rows], now, weights[age], pitch, first, last)
            out[u, age] = odds - already
            said[u, age] = odds
        out[u, n_ages] = 0.0 if restless[u] else -UNEXPLAINED * strengths[n % n_rows]
        told[u] = n


@jit(
    "void(int64, float32[:,::1], int32[::1], int32[::1], float32[:,::1], float64[::1], float64[:,:,::1], float64[:,::1], float64[:,::1],"
    " float64[::1])"
)
def elsewhere(  # noqa: PLR0917
    n: int, onset: F32, start: I32, pitch: I32, rises: F32, strengths: F64, nats: F64, template: F64, weights: F64, out: F64
) -> None:
    """Set `out` (n_chords,): nats that every chord began `SINCE` hops ago, or -1 where they cannot be above 0. Rings as in `of_events`."""
    n_rows = len(strengths)
    now, weight = nats[n % 2], weights[SINCE]
    possible = 0.0  # the most that templates can have said of any chord
    for a in range(SINCE + 1):
        strength = strengths[(n - SINCE + a) % n_rows]
        possible += max(said_in_hop(template, a, strength, 0.0), said_in_hop(template, a, strength, 1.0))
    for u in range(len(start) - 1):
        first, last = start[u], start[u + 1]
        size = 0
        for i in range(first, last):
            size += 0 <= pitch[i] < nats.shape[2]
        out[u] = -1.0
        if weighed(SINCE, size, possible, strengths[n % n_rows], now, weight, pitch, first, last) > 0.0:
            templates = 0.0
            for a in range(SINCE + 1):
                row = (n - SINCE + a) % n_rows
                templates += said_in_hop(template, a, strengths[row], cosine_of(onset, u, rises, row))
            out[u] = weighed(SINCE, size, templates, strengths[n % n_rows], now, weight, pitch, first, last)
