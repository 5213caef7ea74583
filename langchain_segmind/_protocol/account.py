"""What this process knows of a Segmind account: its balance, and how fast it may be asked.

One `Account` for each host and key, shared by every model, thread and event loop of the process.
It does no I/O; the clock's readings are arguments.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from langchain_segmind._protocol.retry import (
    JOBS_IN_STEP,
    LONGEST_RESET,
    on_the_beat,
    poll_delay,
    slowed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

ACCOUNTS_REMEMBERED = 1_000
"""How many are kept though no model uses them: a server whose users bring keys sees many."""
LONG_AGO = float("-inf")
SLOWDOWN_THAT_COUNTS = 0.05
"""Seconds between two polls that are too few to remember."""


class Ledger:
    """The last balance seen, told apart from older ones that arrive late."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._balance: float | None = None
        self._seen_at = LONG_AGO
        self._stated_at = LONG_AGO
        self._crossed: set[float] = set()

    @property
    def balance(self) -> float | None:
        """What the account had left when it was last seen; None where no answer has said."""
        return self._balance

    def note(self, remaining: float | None, *, asked_at: float, now: float) -> None:
        """Take the balance an answer carries, where it is news.

        Calls overlap: an answer to a request sent before the last balance was seen may be older
        than that balance. Since calls only ever spend, it is then believed where it is lower.
        """
        with self._lock:
            if remaining is None or asked_at < self._stated_at:
                return
            known = self._balance
            if known is None or remaining < known or asked_at >= self._seen_at:
                self._balance, self._seen_at = remaining, now

    def state(self, balance: float, *, now: float) -> None:
        """Take the balance that `get_credits` was told: it settles what came before."""
        with self._lock:
            self._balance, self._seen_at, self._stated_at = balance, now, now

    def falls_below(self, threshold: float) -> bool:
        """Tell, once for each time, that the balance has fallen below a threshold."""
        with self._lock:
            is_below = self._balance is not None and self._balance < threshold
            if not is_below:
                self._crossed.discard(threshold)
                return False
            is_news = threshold not in self._crossed
            self._crossed.add(threshold)
            return is_news


class RequestWindow:
    """When requests went, or will go: no more than a number of them in any window of time.

    Segmind counts in windows that begin at a time of their own. Only a sliding window never puts
    more than the limit into one of those; a token bucket lets nearly twice as many through.
    """

    def __init__(self) -> None:
        """Start without requests."""
        self._lock = threading.Lock()
        self._slots: list[float] = []
        self._paused_until = LONG_AGO

    def reserve(self, *, now: float, limit: int, seconds: float) -> float:
        """Give the time at which one more request may go, and count it."""
        with self._lock:
            slot = self._next(now, limit, seconds)
            insort(self._slots, slot)
            return slot

    def reserve_now(self, *, now: float, limit: int, seconds: float) -> bool:
        """Count one more request if it may go at once."""
        with self._lock:
            if self._next(now, limit, seconds) > now:
                return False
            insort(self._slots, now)
            return True

    def release(self, slot: float) -> None:
        """Give back what was not used."""
        with self._lock:
            if slot in self._slots:
                self._slots.remove(slot)

    def pause(self, until: float) -> None:
        """Let nothing go before the server's window resets; what went before no longer counts."""
        with self._lock:
            self._paused_until = max(self._paused_until, until)
            self._slots = [slot for slot in self._slots if slot >= self._paused_until]

    def is_overtaken(self, slot: float) -> bool:
        """Tell that a pause was called after a slot was reserved, which now lies in it."""
        return slot < self._paused_until

    def _next(self, now: float, limit: int, seconds: float) -> float:
        del self._slots[: bisect_right(self._slots, now - seconds)]
        slot = max(now, self._paused_until)
        if len(self._slots) < limit:
            return slot
        return max(slot, self._slots[-limit] + seconds)


class PollPacing:
    """How often all jobs of the account are asked after, together."""

    def __init__(self) -> None:
        """Start without jobs."""
        self._lock = threading.Lock()
        self._jobs = 0
        self._slowdown = 0.0
        self._resume_at = LONG_AGO

    @contextmanager
    def job(self) -> Iterator[None]:
        """Count a job for as long as it is waited for."""
        with self._lock:
            self._jobs += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= 1

    def delay(self, polls: int, interval: float, *, now: float, jitter: float) -> float:
        """Give the seconds before the next poll of a job that was polled so often."""
        own = poll_delay(polls, interval, self._jobs, jitter)
        delay = max(own, self._slowdown * (1 + jitter))
        return delay if self._jobs < JOBS_IN_STEP else on_the_beat(now, delay)

    def held_back(self, *, now: float, jitter: float) -> float:
        """Give the seconds that a poll which is due has to wait since others were refused."""
        left = self._resume_at - now
        # Those who waited together do not come back together.
        return left + self._slowdown * jitter if left > 0 else 0.0

    def refused(self, reset: float | None, interval: float, *, now: float) -> None:
        """Slow every job down: one of them was answered with 429."""
        with self._lock:
            if now < self._resume_at:
                return  # It was under way when another one was refused: that is no second refusal.
            self._slowdown = slowed(self._slowdown, interval)
            wait = self._slowdown if reset is None else min(reset, LONGEST_RESET)
            self._resume_at = now + wait

    def accepted(self) -> None:
        """Come back to speed, by a tenth for each round of polls."""
        if self._slowdown:
            with self._lock:
                kept = self._slowdown * (1 - 0.1 / max(self._jobs, 1))
                self._slowdown = kept if kept > SLOWDOWN_THAT_COUNTS else 0.0


class Account:
    """One key at one host."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.ledger = Ledger()
        self.requests = RequestWindow()
        self.polls = PollPacing()


_SALT = secrets.token_bytes(16)
_LOCK = threading.Lock()
_ACCOUNTS: WeakValueDictionary[tuple[str, bytes], Account] = WeakValueDictionary()
"""By host and hash: no key is kept, nor anything that outlives the process."""
_RECENT: OrderedDict[tuple[str, bytes], Account] = OrderedDict()
"""Those that are remembered even while no model uses them."""


def account_of(base_url: str, api_key: SecretStr) -> Account:
    """Give what this process knows of a key at a host."""
    digest = hashlib.blake2b(api_key.get_secret_value().encode(), key=_SALT).digest()
    name = (urlsplit(base_url).netloc.lower(), digest)
    with _LOCK:
        account = _ACCOUNTS.get(name)
        if account is None:
            account = _ACCOUNTS[name] = Account()
        _RECENT[name] = account
        _RECENT.move_to_end(name)
        if len(_RECENT) > ACCOUNTS_REMEMBERED:
            _RECENT.popitem(last=False)
        return account
