"""When requests and polls of an account may go; the clock's readings are arguments."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_segmind._protocol.retry import (
    JOBS_IN_STEP,
    LONGEST_RESET,
    on_the_beat,
    poll_delay,
    slowed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_AGO = float("-inf")
SLOWDOWN_THAT_COUNTS = 0.05
"""Seconds between two polls that are too few to remember."""


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
