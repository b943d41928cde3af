"""What the counters of a trial mean."""

from __future__ import annotations

import pytest

from rtserver.config import Config, parse
from rtserver.config.midi import MidiPort
from rtserver.operations.trial import PortNote, channel_of, loading, measured, note
from rtserver.show import Song

BLOCKS_A_SECOND = 48000 / 128
NONE = {"callbacks": round(10 * BLOCKS_A_SECOND), "input_overflows": 0, "output_underflows": 0, "long_intervals": 0, "misses": 0}


def states(**counted: int) -> dict[str, str]:
    return {check.name: check.state for check in measured(NONE | counted, 10.0, Config())}


def test_what_cannot_load_is_said_without_a_device() -> None:
    config = parse(
        {
            "audio": {"sample_rate": 96000},
            "separation": {"model": "stems3-int8"},
            "outputs": {"drums": {"source": "drums", "channels": [1]}},
        }
    )
    found = loading([Song("song", config)])
    assert found.state == "fail" and "was made for 44100 and 48000 Hz" in found.found
    assert loading([Song("song", parse({}))]).state == "ok"


def test_a_clean_run_has_nothing_to_mend() -> None:
    assert set(states().values()) == {"ok"}


@pytest.mark.parametrize(
    ("counter", "name"), [("input_overflows", "xruns"), ("output_underflows", "xruns"), ("long_intervals", "late callbacks")]
)
@pytest.mark.parametrize(("n", "state"), [(1, "warn"), (7, "warn"), (8, "fail")])
def test_more_than_one_block_in_500_fails(counter: str, name: str, n: int, state: str) -> None:
    assert states(**{counter: n})[name] == state


@pytest.mark.parametrize(("n", "state"), [(15, "warn"), (16, "fail")])
def test_misses_are_counted_against_the_blocks_of_all_outputs(n: int, state: str) -> None:
    assert states(misses=n)["misses"] == state


def test_an_xrun_that_is_reported_for_both_directions_is_one() -> None:
    (xruns,) = (c for c in measured(NONE | {"input_overflows": 3, "output_underflows": 3}, 10.0, Config()) if c.name == "xruns")
    assert xruns.found.startswith("3 in")


def test_a_device_that_stands_still_fails() -> None:
    assert states(callbacks=round(5 * BLOCKS_A_SECOND))["callbacks"] == "fail"


def test_whatever_is_wrong_has_a_remedy() -> None:
    for check in measured(NONE | {"misses": 1, "long_intervals": 100, "callbacks": 10}, 10.0, Config()):
        assert (check.state == "ok") == (not check.remedy), check


@pytest.mark.parametrize(
    ("port", "channel"),
    [
        (MidiPort(), 5),
        (MidiPort(channels={"5": 1}), 5),
        (MidiPort(channels={"2": 1}), 2),
        (MidiPort(programs={"10": 0}), 10),
        (MidiPort(programs={"5": 0, "10": 0}), 5),
    ],
)
def test_a_port_gets_its_note_on_a_channel_that_it_plays(port: MidiPort, channel: int) -> None:
    assert channel_of(port, 5) == channel


ON, OFF = {"sent_ns": 3_000_000, "due_ns": 1_000_000}, {"sent_ns": 0, "due_ns": 0}


@pytest.mark.parametrize(
    ("port", "state", "found"),
    [
        (PortNote("lead", 1, 1, 7, ON, OFF), "ok", "2.00 ms late"),
        (PortNote("lead", 1, 2, 7, ON, OFF), "warn", "at try 2"),
        (PortNote("lead", 1, 3, 7), "fail", "no note-on was sent in 3 tries"),
        (PortNote("lead", 1, 3, 7, ON), "fail", "no note-off"),
    ],
)
def test_a_note_counts_when_both_its_ends_were_sent(port: PortNote, state: str, found: str) -> None:
    check = note(port)
    assert (check.name, check.state) == ("note on MIDI port lead, channel 1", state)
    assert found in check.found
    assert bool(check.remedy) == (state != "ok")
