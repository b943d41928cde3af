"""From a configuration to somebody who plays: what `[generation]` says, as limits, wishes and an `Accompanist`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rtserver import zoo
from rtserver.config.music import Generation
from rtserver.errors import ConfigError
from rtserver.following.score import Score
from rtserver.generation.constraints import Constraints
from rtserver.generation.metre import Metre
from rtserver.generation.modes import Accompanist
from rtserver.generation.performer import Performer
from rtserver.generation.written import Harmony, WrittenPart
from rtserver.transport import Transport

WISHES = {"part": "part", "density": "controls", "register": "controls"}  # what a model has to take for each


def constraints_of(generation: Generation) -> Constraints:
    """The hard limits that a configuration states. Raises `ConfigError` with the path of the field where they contradict each other."""
    g = generation
    with_steps = {"min_dt": g.min_dt, "max_dt": g.max_dt, "min_duration": g.min_duration, "max_duration": g.max_duration}
    try:
        return Constraints(g.scale, g.pitch_low, g.pitch_high, g.polyphony, g.grid, **with_steps, chord=g.chord)
    except ConfigError as error:
        raise ConfigError(f"generation.{error.field}", error.message) from None


def check_generation_model(generation: Generation) -> None:
    """Whether the performer can be what is asked for: limits that leave something to play, a model that takes the wishes.

    Raises `ConfigError` with the path of the field, or `ModelError`.
    """
    constraints_of(generation)
    _, step = zoo.verified_file(generation.model)
    _, pitch = zoo.verified_file(f"{generation.model}-pitch")
    for name, needs in WISHES.items():
        if getattr(generation, name) not in (0.0, "unknown") and needs not in {**step["inputs"], **pitch["inputs"]}:
            raise ConfigError(f"generation.{name}", f"the model {generation.model!r} was trained without it: leave it out")


def played_parts(score: Score, whole: Score, generation: Generation, followed: Sequence[str | int]) -> WrittenPart:
    """The parts that are to be played as written, on the quarter axis of `score`, which is followed.

    whole : the same score with all parts. Those that `generation.parts` names; else those that are not `followed`.
    """
    from rtserver.following.parse import choose  # brings in the parsers

    names = list(whole.parts)
    wanted: list[str | int] = list(generation.parts)
    if not wanted and followed:
        heard = choose(names, tuple(followed))
        wanted = [k + 1 for k in range(len(names)) if k not in heard]
    return WrittenPart.of_score(whole, wanted, _shift(score, whole))


def accompanist_of(
    generation: Generation,
    transport: Transport,
    score: Score | None = None,
    whole: Score | None = None,
    followed: Sequence[str | int] = (),
) -> Accompanist:
    """Somebody who plays as `generation` says, along `score` where there is one (`whole`: with all parts, where that has not).

    followed : the parts that `score` was reduced to; empty: none is left out.
    """
    g = generation
    performer = Performer(g.model, g.seed, temperature=g.temperature, top_p=g.top_p, part=g.part)
    written = harmony = None
    if score is not None:
        whole = whole or score
        written = played_parts(score, whole, g, followed)
        harmony = Harmony.of_score(whole, _shift(score, whole))
    accompanist = Accompanist(
        performer,
        transport,
        g.mode,
        constraints=constraints_of(g),
        channel=g.channel - 1,
        level=float(g.velocity),
        patience=g.patience,
        metre=Metre.fixed(g.metre) if score is None else Metre.of_score(score),
        written=written,
        fill=g.fill,
        harmony=harmony,
        listen=g.listen,
    )
    change(accompanist, None, g)
    return accompanist


def change(accompanist: Accompanist, before: Generation | None, after: Generation) -> None:
    """Let it play as `after` says, from its next note on. Raises `ConfigError`; then nothing has changed.

    before : what it plays by; None where it has just been made.
    """
    constraints = constraints_of(after)

    def new(*names: str) -> bool:
        return before is None or any(getattr(before, name) != getattr(after, name) for name in names)

    if new("density", "register"):
        accompanist.ask(after.density or None, after.register or None)
    if new("higher", "sooner"):
        accompanist.steer(after.higher, after.sooner)
    if before is not None and new("temperature", "top_p"):
        accompanist.set_sampling(after.temperature, after.top_p)
    if constraints != accompanist.planner.constraints:
        accompanist.constrain(constraints)
    accompanist.turns.patience = after.patience
    accompanist.planner.fill = after.fill


def with_value(generation: Generation, name: str, value: float | str | bool) -> Generation:
    """`generation` with another value of the field called `name`."""
    whole = isinstance(getattr(generation, name), int) and not isinstance(value, bool | str)
    return msgspec.structs.replace(generation, **{name: round(value) if whole else value})  # pyright: ignore[reportArgumentType]


def _shift(score: Score, whole: Score) -> float:
    """Quarters from the axis of `whole` to that of `score`: each counts from its own first sounding note."""
    return float(score.bar_quarter[0] - whole.bar_quarter[0])
