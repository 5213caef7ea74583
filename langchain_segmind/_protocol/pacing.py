"""When requests and polls of an account may go; the clock's readings are arguments."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right, insort
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_segmind._protocol import retry
from langchain_segmind._protocol.retry import (
    JOBS_IN_STEP,
    LONGEST_RESET,
    PROBE_INTERVAL,
    RateLimit,
    align_delay,
    backoff,
    poll_delay,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_AGO = float("-inf")
SAME_WINDOW = 1.0
"""Seconds by which two answers may name the reset of one window differently."""

SLOWER, FASTER = 1.1, 1.02
"""By how much a refused poll stretches the waits of all jobs, and an answered one shortens them.

The pace falls while more than one poll in six is refused, and rises while it is less."""
MOST_SLOWDOWN = 100.0
MOST_AT_ONCE = 50
"""Requests in any second: a thousand connections that open together send their requests seconds
late, and so into the minute of those that come after them on open connections."""


class ServerWindow:
    """What the server says is left of its own window, less what was sent since it said so."""

    def __init__(self) -> None:
        """Know of no window."""
        self.resets_at = self._asked_at = LONG_AGO
        self.left = 0

    def observe(self, limit: RateLimit, sent_since: int, *, asked_at: float, now: float) -> None:
        """Take what an answer names, when so many more have been sent since it was asked for.

        Some of those may be counted already, if an answer names what was left when it was given
        and not when it was asked for. The request that went last says what is left of all.
        """
        left = limit.remaining - sent_since
        resets_at = now + min(limit.reset, LONGEST_RESET)
        is_same = self.is_known(now) and abs(resets_at - self.resets_at) < SAME_WINDOW
        if is_same and asked_at <= self._asked_at:
            self.left = min(self.left, limit.remaining)  # It was overtaken.
        elif is_same:
            self.left, self._asked_at = left, asked_at
        elif resets_at > self.resets_at:
            self.resets_at, self.left, self._asked_at = resets_at, left, asked_at

    def is_known(self, now: float) -> bool:
        """Tell whether anything is known of the time it is then."""
        return now < self.resets_at

    def is_used_up(self, now: float) -> bool:
        """Tell that nothing more would be let through then."""
        return now < self.resets_at and self.left <= 0


class RequestWindow:
    """When requests went, or will go: no more than a number of them in any window of time.

    Segmind counts in windows that begin at a time of their own. Only a sliding window never puts
    more than the limit into one of those; a token bucket lets nearly twice as many through. Where
    answers name what is left and until when, that counts more than the number.
    """

    def __init__(self) -> None:
        """Start without requests."""
        self._lock = threading.Lock()
        self._slots: list[float] = []
        self._paused_until = LONG_AGO
        self._server = ServerWindow()
        self._spare = self._named = 0

    def reserve(self, *, now: float, limit: int, seconds: float) -> float:
        """Give the time at which one more request may go, and count it."""
        with self._lock:
            slot = self._next(now, limit, seconds)
            self._take(slot)
            return slot

    def reserve_now(self, *, now: float, limit: int, seconds: float) -> bool:
        """Count one more request if it may go at once."""
        with self._lock:
            if self._next(now, limit, seconds) > now:
                return False
            self._take(now)
            return True

    def advance(self, slot: float, *, now: float, limit: int, seconds: float) -> float:
        """Give a reserved place of earlier, where there is room that was not there before."""
        with self._lock:
            earlier = self._next(now, limit, seconds, before=slot)
            if earlier >= slot:
                return slot
            self._slots.remove(slot)
            self._take(earlier)
            return earlier

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

    def observe(self, limit: RateLimit, *, asked_at: float, now: float) -> None:
        """Take what the answer to a request names, which was sent at `asked_at`."""
        with self._lock:
            sent_since = len(self._slots) - bisect_right(self._slots, asked_at)
            later = len(self._slots) - bisect_right(self._slots, now + limit.reset)
            self._server.observe(limit, sent_since - later, asked_at=asked_at, now=now)
            # Others who use the key may want the same: half of it, until an answer says more.
            self._spare = max(self._server.left // 2, 0)
            self._named = limit.remaining

    def is_overtaken(self, slot: float) -> bool:
        """Tell that a pause was called after a slot was reserved, which now lies in it."""
        return slot < self._paused_until

    def waiting(self, now: float) -> int:
        """Count the places that are reserved for later."""
        return len(self._slots) - bisect_right(self._slots, now)

    def _next(self, now: float, limit: int, seconds: float, before: float = math.inf) -> float:
        """Give when one more may go, behind all that go before a time."""
        del self._slots[: bisect_right(self._slots, now - seconds)]
        ahead = bisect_left(self._slots, before)
        slot = max(now, self._paused_until)
        if self._server.is_used_up(slot):
            slot = self._server.resets_at
        if ahead >= MOST_AT_ONCE:
            slot = max(slot, self._slots[ahead - MOST_AT_ONCE] + 1.0)
        if ahead >= limit and not self._has_spare(slot, limit):
            slot = max(slot, self._slots[ahead - limit] + seconds)
        return slot

    def _has_spare(self, now: float, limit: int) -> bool:
        """Tell that the plan was given too low: more is left than it has in all."""
        is_open = self._server.is_known(now) and now >= self._paused_until
        return is_open and self._spare > 0 and self._named > limit

    def _take(self, slot: float) -> None:
        insort(self._slots, slot)
        if self._server.is_known(slot):
            self._server.left -= 1
            self._spare -= 1


class PollPacing:
    """How often all jobs of the account are asked after, together.

    A refusal that names its end stops everyone until then; several in a row that name none stop
    everyone ever longer, between which one poll tries. Each refusal slows everyone down a little,
    and each poll that is answered takes a part of that back: refusals here and there cost next to
    nothing, and under a limit the pace settles where few are refused. Once one was, polls are known
    to count, and what answers name as left is gone by.
    """

    def __init__(self) -> None:
        """Start without jobs."""
        self._lock = threading.Lock()
        self._jobs = 0
        self._slowdown = 1.0
        self._in_a_row = 0
        self._resume_at = LONG_AGO
        self._next_slot = LONG_AGO
        self._probe_at = LONG_AGO
        self._sent = 0
        self._are_counted = False
        self._server = ServerWindow()

    @contextmanager
    def count_job(self) -> Iterator[None]:
        """Count a job for as long as it is waited for."""
        with self._lock:
            self._jobs += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= 1

    def seconds_to_next_poll(
        self, polls: int, interval: float, *, now: float, jitter: float
    ) -> float:
        """Give the seconds before the next poll of a job that was polled so often."""
        delay = poll_delay(polls, interval, self._jobs, jitter) * self._slowdown
        if self._jobs < JOBS_IN_STEP:
            return delay
        return align_delay(now, delay, max(interval, self._jobs / retry.POLLS_PER_SECOND))

    def seconds_until_allowed(self, *, now: float) -> float:
        """Give the seconds that a poll which is due has to wait, or 0 and count it as sent."""
        with self._lock:
            if self._are_counted and self._server.is_used_up(now):
                self._pause(self._server.resets_at)  # It would be refused.
            if now >= max(self._resume_at, self._probe_at):
                if self._in_a_row > 1:  # One at a time, until one is answered.
                    self._probe_at = now + PROBE_INTERVAL
                self._sent += 1
                self._server.left -= 1
                return 0.0
            # Those who waited together do not come back together.
            slot = max(self._next_slot, self._resume_at, self._probe_at)
            self._next_slot = slot + self._slowdown / retry.POLLS_PER_SECOND
            return slot - now

    @property
    def sent(self) -> int:
        """How many polls have been sent, for `observe`."""
        return self._sent

    def observe(self, limit: RateLimit, *, sent: int, now: float) -> None:
        """Take what the answer to a poll names, before which so many had been sent."""
        with self._lock:
            self._server.observe(limit, self._sent - sent, asked_at=sent, now=now)

    def record_refusal(self, reset: float | None, *, now: float, jitter: float) -> None:
        """Slow every job down: one of them was answered with 429, and maybe told until when."""
        with self._lock:
            self._are_counted = True
            if reset is None:
                if now < self._resume_at:
                    return  # It was under way when the pause began.
                self._in_a_row += 1
                if self._in_a_row > 1:  # The first pauses are short, in case that is all.
                    self._pause(now + backoff(self._in_a_row / 2 - 3, jitter))
            else:
                self._pause(now + min(reset, LONGEST_RESET))
            self._slowdown = min(self._slowdown * SLOWER, MOST_SLOWDOWN)

    def record_success(self) -> None:
        """Come back to speed."""
        with self._lock:
            self._in_a_row = 0
            self._slowdown = max(self._slowdown / FASTER, 1.0)

    def _pause(self, until: float) -> None:
        if until > self._resume_at:
            self._resume_at = self._next_slot = until
