"""The follower by hand: it goes where it is told, and follows on from there."""

from __future__ import annotations

import numpy as np
import pytest

from rtserver.demo import SCORE
from rtserver.dsp.layout import N_FEATURES
from rtserver.errors import ScoreError
from rtserver.events import Command, Event, Position
from rtserver.following.follower import Follower
from rtserver.following.hand import Hand, nearest_bar, nearest_beat
from rtserver.following.score import load_score
from rtserver.following.states import JUMPED, LOCKED, WAITING
from rtserver.node import Spec

RATE, HOP = 48000, 480
DEMO = load_score(SCORE)
LINES = DEMO.bar_quarter
BAR = float(LINES[3] - LINES[2])


class Stage:
    """Somebody plays stretches of the score on keys, a hop at a time; the follower listens, a hand is on it."""

    def __init__(self) -> None:
        self.follower = Follower(DEMO)
        self.follower.prepare(Spec(RATE, HOP, (N_FEATURES,)))
        self.hand = Hand(self.follower, RATE)
        self.frame = 0

    def say(self, name: str, value: float | str | None = None, ago: int = 0) -> None:
        self.hand.obey(Command(self.frame, self.frame - ago, name, value))

    def play(self, begin: float, end: float) -> list[tuple[float, Position]]:
        """Play quarters `begin` to `end` at the written tempo: (true quarter at its end, position) of each hop."""
        score, notes = DEMO, DEMO.notes
        start = float(score.seconds_at(begin))
        n_hops = round((float(score.seconds_at(end)) - start) * RATE / HOP)
        wanted = (notes.onset_quarter >= begin - 1e-6) & (notes.onset_quarter < end - 1e-6)
        at = ((score.seconds_at(notes.onset_quarter[wanted]) - start) * RATE / HOP).astype(int)
        pitch = notes.pitch[wanted]
        heard: list[tuple[float, Position]] = []
        for n in range(n_hops):
            self.frame += HOP
            events: list[Event] = []
            self.follower.process_keys(pitch[at == n].tolist(), self.frame, events.append)
            for event in events:
                assert isinstance(event, Position)
                heard.append((float(score.quarter_at(start + (n + 1) * HOP / RATE)), self.hand.take(event)))
        return heard


def off(heard: list[tuple[float, Position]]) -> float:
    """The 90th percentile of the error, quarters: a note that is late is none."""
    return float(np.percentile([abs(position.quarter - true) for true, position in heard], 90))


def test_a_tap_at_a_named_bar_puts_a_follower_right_that_is_elsewhere() -> None:
    stage = Stage()
    stage.play(0.0, 6.0)
    stage.say("tap", "bar 6")
    heard = stage.play(float(DEMO.quarter_of_bar(6)), float(DEMO.quarter_of_bar(8)))
    assert off(heard) < 0.3
    assert all(position.state != WAITING for _, position in heard)
    assert heard[-1][1].state == LOCKED


def test_a_tap_takes_the_nearest_bar_line_as_of_the_moment_it_came() -> None:
    stage = Stage()
    stage.play(0.0, float(LINES[3]) + 0.4)
    stage.say("tap", ago=round(RATE * 0.02))
    ((_, first), *_) = stage.play(float(LINES[3]), float(LINES[3]) + 0.2)
    a_hop = HOP / RATE * first.tempo_bpm / 60.0
    assert first.quarter == pytest.approx(LINES[3] + 3 * a_hop, abs=2.1 * a_hop)


def test_a_tap_in_silence_begins_at_the_beginning() -> None:
    stage = Stage()
    for _ in range(3):
        stage.play(0.0, 0.05)
        stage.say("reset")
    stage.say("tap", "bar 1")
    heard = stage.play(0.0, 8.0)
    assert off(heard) < 0.3


def test_untap_goes_back_by_what_the_tap_went() -> None:
    stage = Stage()
    last = stage.play(0.0, 6.0)[-1][1]
    stage.say("tap", "bar 6")
    stage.say("untap")
    ((_, after), *_) = stage.play(6.0, 6.1)
    assert after.quarter == pytest.approx(last.quarter, abs=0.15)
    with pytest.raises(ScoreError, match="no tap to undo"):
        stage.say("untap")


def test_a_tap_keeps_the_tempo() -> None:
    stage = Stage()
    before = stage.play(0.0, 12.0)[-1][1].tempo_bpm
    stage.say("tap")
    assert stage.play(12.0, 12.1)[0][1].tempo_bpm == pytest.approx(before, rel=0.06)


def test_in_a_loop_the_beginning_comes_after_the_end() -> None:
    stage = Stage()
    stage.say("loop", "bar 3 to bar 4")
    begin, end = float(LINES[2]), float(LINES[4])
    stage.play(0.0, begin)
    for _ in range(3):
        heard = stage.play(begin, end)
        assert off(heard) < 0.3
        assert all(begin - 0.3 < position.quarter < end + 0.1 for _, position in heard[10:])
        assert all(np.diff([position.quarter for _, position in heard[30:]]) >= -1.0)
        assert heard[-1][1].state in (LOCKED, JUMPED), "it has turned to the beginning"


def test_without_the_loop_it_goes_on() -> None:
    stage = Stage()
    stage.say("loop", "bar 3 to bar 4")
    stage.play(0.0, float(LINES[3]))
    stage.say("loop", "off")
    assert off(stage.play(float(LINES[3]), float(LINES[7]))) < 0.3


def test_start_at_is_where_reset_goes() -> None:
    stage = Stage()
    begin = float(DEMO.quarter_of_bar(5))
    stage.say("start_at", "bar 5")
    assert off(stage.play(begin, begin + BAR)) < 0.3
    stage.say("reset")
    assert off(stage.play(begin, begin + BAR)) < 0.3


def test_a_place_that_is_not_there_changes_nothing() -> None:
    stage = Stage()
    stage.play(0.0, 4.0)
    for name in ("seek", "tap", "start_at"):
        with pytest.raises(ScoreError, match="no bar '999'"):
            stage.say(name, "bar 999")
    assert off(stage.play(4.0, 8.0)) < 0.3


def test_the_nearest_bar_line_and_beat() -> None:
    line = float(LINES[5])
    assert nearest_bar(DEMO, line + 0.3 * BAR) == line
    assert nearest_bar(DEMO, line - 0.3 * BAR) == line
    assert nearest_beat(DEMO, line + 1.2) == pytest.approx(line + 1.0)
    assert nearest_beat(DEMO, line - 0.2) == pytest.approx(line)
