"""What a worker is told takes effect by frames alone; what was late is told, and can be late again."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rtserver.config import Config, Recording
from rtserver.events import Command, Event, Gap, Late, MidiIn, Param, Position
from rtserver.roles.agenda import Agenda, declared_frame
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP = 480
N_HOPS = 20


def new_session() -> Session:
    layout = Layout()
    Session.declare(layout, 1, 1, 5)
    return Session.create(layout, Setup(Config(recording=Recording(folder="shows")), "nowhere"))


SESSION = new_session()


def run(arrivals: list[list[Event]], late: list[Late] | None = None) -> tuple[list[list[Event]], list[Late]]:
    """What is taken at each hop, and what is told to be late, where ``arrivals[k]`` comes before hop k."""
    agenda = Agenda(SESSION, "performer")
    agenda.postpone(late or [])
    taken = []
    for k in range(N_HOPS):
        for event in arrivals[k]:
            agenda.add(event)
        taken.append(agenda.due((k + 1) * HOP))
    return taken, [event for event in SESSION.receive("gateway") if isinstance(event, Late)]


def an_event(number: int, frame: int, kind: int) -> Event:
    made: list[Event] = [
        Position(frame - 960, frame, number, number, 100.0, 1.0, "LOCKED"),
        MidiIn(frame - 480, frame, "midi_in", bytes([0x90, number % 128, 1 + number // 128])),
        Param(frame, 0, f"generation.p{number}", 1.0),
        Command(frame, 0, f"c{number}"),
    ]
    return made[kind]


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[Event, int]]:
    """Events and the hop before which each comes; those of one kind come in the order of their frames, as through a ring."""
    schedule = []
    for kind in range(4):
        frames = sorted(draw(st.lists(st.integers(0, (N_HOPS - 2) * HOP), max_size=8, unique=kind == 0)))
        hop = 0
        for number, frame in enumerate(frames):
            hop = max(hop, draw(st.integers(0, N_HOPS - 1)))
            schedule.append((an_event(number, frame, kind), hop))
    return schedule


def by_hop(schedule: list[tuple[Event, int]]) -> list[list[Event]]:
    return [[event for event, hop in schedule if hop == k] for k in range(N_HOPS)]


@given(schedules(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_what_comes_in_time_takes_effect_at_its_frame_whenever_it_came(schedule: list[tuple[Event, int]], random) -> None:
    def early(event: Event) -> int:
        return random.randint(0, max((declared_frame(event) + HOP - 1) // HOP - 1, 0))

    # Those of one kind keep their order: a ring does.
    taken, late = run(by_hop([(event, 0) for event, _ in schedule]))
    orderly = sorted(((event, early(event)) for event, _ in schedule), key=lambda entry: declared_frame(entry[0]))
    again, late_again = run(by_hop(orderly))
    assert late == late_again == []
    assert [sorted(map(repr, hop)) for hop in taken] == [sorted(map(repr, hop)) for hop in again]
    for k, events in enumerate(taken):
        assert all(k == 0 or declared_frame(event) > k * HOP for event in events)
        assert all(declared_frame(event) <= (k + 1) * HOP for event in events)


@given(schedules())
@settings(max_examples=300, deadline=None)
def test_what_was_late_is_late_again_in_a_replay(schedule: list[tuple[Event, int]]) -> None:
    """The replay has every event at once and is told what was late: it takes the same events at the same hops in the same order."""
    live, late = run(by_hop(schedule))
    n_taken = sum(map(len, live))
    assert n_taken == len(schedule)
    replayed, late_again = run(by_hop([(event, 0) for event, _ in schedule]), late)
    assert replayed == live
    assert late_again == late


def test_what_is_late_is_told_with_both_frames() -> None:
    event = Param(700, 500, "generation.mode", "continue")
    taken, late = run([[], [], [event], *([[]] * (N_HOPS - 3))])
    assert taken[2] == [event]
    assert late == [Late(700, 700, "performer", "param generation.mode", 3 * HOP)]


def test_the_recorder_hears_what_was_late() -> None:
    session = new_session()
    agenda = Agenda(session, "follower")
    agenda.due(960)
    agenda.add(Command(480, 480, "seek", 4.0))
    agenda.due(1440)
    assert session.receive("recorder") == [Late(480, 480, "follower", "command seek", 1440)]


def test_what_waited_before_the_first_hop_is_not_late() -> None:
    taken, late = run([[Command(0, 0, "reset")], *([[]] * (N_HOPS - 1))])
    assert taken[0] == [Command(0, 0, "reset")]
    assert late == []


def test_what_is_not_for_a_worker_is_left_out() -> None:
    taken, _ = run([[Gap(0, 0, 480, "")], *([[]] * (N_HOPS - 1))])
    assert taken == [[]] * N_HOPS


def test_a_worker_of_the_second_deck_tells_by_its_name(tmp_path: Path) -> None:
    layout = Layout()
    Session.declare(layout, 1, 1, 5)
    first = Session.create(layout, Setup(Config(recording=Recording(folder="shows")), str(tmp_path)))
    session = Session.attach(first.block.fd, 1)
    agenda = Agenda(session, "performer")
    agenda.due(960)
    agenda.add(Command(480, 480, "panic"))
    agenda.due(1440)
    (late,) = first.receive("recorder")
    assert isinstance(late, Late)
    assert late.role == "performer.b"
