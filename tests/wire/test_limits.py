"""Token buckets and accounts, with a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtserver.wire.limits import BURST, MAX_CLIENTS, NEWCOMERS_BURST, OTHERS, RATE, Accounts, Bucket

steps = st.lists(st.floats(0, 0.5), max_size=60)


@given(st.floats(0.5, 100), st.floats(1, 50), steps)
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(rate: float, burst: float, waits: list[float]) -> None:
    bucket, now, granted = Bucket(rate, burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        granted += bucket.take(now) == 0.0
    assert granted <= burst + rate * now + 1e-6


@given(st.floats(0.5, 100), st.floats(1, 50), steps)
def test_who_waits_as_long_as_told_is_served(rate: float, burst: float, waits: list[float]) -> None:
    bucket, now = Bucket(rate, burst, 0.0), 0.0
    for wait in waits:
        now += wait
        retry_after_s = bucket.take(now)
        if retry_after_s:
            now += retry_after_s + 1e-6
            assert bucket.take(now) == 0.0


def test_a_burst_is_granted_and_no_more() -> None:
    accounts = Accounts(0.0)
    waits = [accounts.of("a", 0.0).bucket.take(0.0) for _ in range(int(BURST) + 1)]
    assert waits[:-1] == [0.0] * int(BURST)
    assert waits[-1] == 1 / RATE


def test_clients_have_buckets_of_their_own() -> None:
    accounts = Accounts(0.0)
    for _ in range(int(BURST)):
        accounts.of("a", 0.0).bucket.take(0.0)
    assert accounts.of("a", 0.0).bucket.take(0.0) > 0
    assert accounts.of("b", 0.0).bucket.take(0.0) == 0


def test_a_flood_of_identities_shares_one_bucket() -> None:
    accounts = Accounts(0.0)
    granted = sum(accounts.of(f"{i}", 0.0).bucket.take(0.0) == 0.0 for i in range(100_000))
    assert granted == NEWCOMERS_BURST + BURST


def test_a_flood_of_identities_does_not_touch_a_client_that_is_known() -> None:
    accounts = Accounts(0.0)
    good = accounts.of("good", 0.0)
    for i in range(10_000):
        accounts.of(f"{i}", 0.0).bucket.take(0.0)
    assert accounts.of("good", 0.0) is good
    assert good.bucket.take(0.0) == 0.0


def test_the_table_of_clients_does_not_grow() -> None:
    accounts = Accounts(0.0)
    for i in range(5 * MAX_CLIENTS):
        accounts.of(f"{i}", float(i)).requests += 1
    assert len(accounts.latest(100 * MAX_CLIENTS)) == MAX_CLIENTS


def test_the_others_are_listed_once_they_asked() -> None:
    accounts = Accounts(0.0)
    for i in range(200):
        accounts.of(f"{i}", 0.0).requests += 1
    assert accounts.latest(10)[OTHERS].requests == 200 - NEWCOMERS_BURST


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100)), max_size=30))
def test_what_clients_say_they_lost_adds_up_and_never_shrinks(reports: list[tuple[str, int]]) -> None:
    accounts, before, most = Accounts(0.0), 0, dict[str, int]()
    for who, n in reports:
        accounts.lost(accounts.of(who, 0.0), n, 0)
        most[who] = max(most.get(who, 0), n)
        assert accounts.lost_events >= before
        before = accounts.lost_events
    assert accounts.lost_events == sum(most.values())


def test_who_asked_lately_is_there() -> None:
    accounts = Accounts(0.0)
    for who, at_s in (("a", 0.0), ("b", 8.0)):
        account = accounts.of(who, at_s)
        account.requests += 1
        account.bucket.take(at_s)
    accounts.of("c", 8.0)  # has not asked yet
    assert [accounts.active(now_s) for now_s in (8.0, 12.0, 30.0)] == [2, 1, 0]
