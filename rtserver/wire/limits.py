"""Who asks how much: a token bucket and an account for each client of the control socket. Pure: the caller brings the time.

However many identities there are, this table does not grow, and those that come in a flood share one bucket.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

RATE, BURST = 500.0, 500.0  # requests a second and at once, per client: half of what a role's ring holds
NEWCOMERS_RATE, NEWCOMERS_BURST = 10.0, 100.0  # new clients a second and at once that get a bucket of their own
MAX_CLIENTS = 1024
ACTIVE_S = 10.0  # a client that asked so long ago or less counts as being there
OTHERS = "others"  # the account of all who got none


@dataclass
class Bucket:
    """Tokens that come at `rate` a second, `burst` at most."""

    rate: float
    burst: float
    filled_s: float
    tokens: float = -1.0

    def take(self, now_s: float) -> float:
        """Take a token: 0 if there was one, else the seconds until there is."""
        tokens = self.burst if self.tokens < 0 else min(self.burst, self.tokens + max(now_s - self.filled_s, 0.0) * self.rate)
        self.filled_s = now_s
        self.tokens = max(tokens - 1.0, 0.0) if tokens >= 1.0 else tokens
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self.rate


class Account:
    """One client: its bucket, the name it gave, what it asked and what it says that it lost."""

    def __init__(self, now_s: float) -> None:
        self.bucket = Bucket(RATE, BURST, now_s)
        self.name = ""
        self.hello_s: float | None = None
        self.answered: deque[str] = deque()  # ids of its requests whose replies are kept
        self.requests = self.refused = self.rate_limited = self.lost_events = self.lost_bulk = 0

    def report(self) -> dict[str, int]:
        """What ``status`` tells of it."""
        return {
            "requests": self.requests,
            "refused": self.refused,
            "rate_limited": self.rate_limited,
            "lost_events": self.lost_events,
            "lost_bulk": self.lost_bulk,
        }


class Accounts:
    """The clients by identity, the latest last. The one that has been silent longest makes room."""

    def __init__(self, now_s: float) -> None:
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._newcomers = Bucket(NEWCOMERS_RATE, NEWCOMERS_BURST, now_s)
        self._others = Account(now_s)
        self._others.name = OTHERS
        self.lost_events = self.lost_bulk = 0

    def of(self, who: str, now_s: float) -> Account:
        """The account of the client with this identity."""
        account = self._accounts.get(who)
        if account is None:
            if self._newcomers.take(now_s):
                return self._others
            account = self._accounts[who] = Account(now_s)
            if len(self._accounts) > MAX_CLIENTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(who)
        return account

    def lost(self, account: Account, events: int, bulk: int) -> None:
        """A client reports totals of messages that it lost. They only grow."""
        more_events, more_bulk = max(events - account.lost_events, 0), max(bulk - account.lost_bulk, 0)
        account.lost_events += more_events
        account.lost_bulk += more_bulk
        self.lost_events += more_events
        self.lost_bulk += more_bulk

    def active(self, now_s: float) -> int:
        """How many clients have asked something in the last `ACTIVE_S`."""
        return sum(account.requests > 0 and now_s - account.bucket.filled_s <= ACTIVE_S for account in self._accounts.values())

    def latest(self, n: int) -> dict[str, Account]:
        """The `n` clients that asked last, and the others, by identity."""
        names = list(self._accounts)[-n:]
        return {name: self._accounts[name] for name in names} | ({OTHERS: self._others} if self._others.requests else {})
