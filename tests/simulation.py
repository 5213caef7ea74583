"""Many jobs of one account at once, over a clock that jumps from one event to the next."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.account import Account
from langchain_segmind._protocol.calls import Clock, Exchanges
from langchain_segmind._protocol.queue import run_job
from langchain_segmind._protocol.types import Request, Sleep
from tests.flows import UNIX, completion, reply

if TYPE_CHECKING:
    from langchain_segmind._protocol.types import Command, Outcome, Response

ROUND_TRIP = 0.03
"""Seconds from a request to its answer; the server sees it after half of them."""

Refuse = Callable[[float], "dict[str, str] | None"]
"""Gives the headers of a poll's refusal, or None where it is answered."""


class Limit:
    """So many polls in a window that the first of them begins; the client's clock may be ahead."""

    def __init__(self, requests: int, *, names_rest: bool = False, ahead: float = 0.0) -> None:
        self._requests, self._names_rest = requests, names_rest
        self._ahead = ahead
        self._resets_at, self._used = 0.0, 0

    def __call__(self, now: float) -> dict[str, str] | None:
        if now >= self._resets_at:
            self._resets_at, self._used = now + 60.0, 0
        self._used += 1
        return self.headers if self._used > self._requests else None

    @property
    def headers(self) -> dict[str, str]:
        """What an answer names."""
        named = {"x_rate_limit_reset_at_utc": f"{UNIX + self._resets_at - self._ahead:.3f}"}
        if self._names_rest:
            named["x_rate_limit_remaining"] = str(max(0, self._requests - self._used))
        return named


@dataclass
class Simulation:
    """A server, and jobs that are submitted to it at once."""

    refuse: Refuse = lambda _: None
    jobs: int = 100
    longest: float = 1.0
    """Seconds that a job takes at most; a fifth of it at least."""
    seed: int = 1
    now: float = 0.0
    polls: int = 0
    refusals: int = 0
    _done_at: dict[str, float] = field(default_factory=dict)

    def run(self) -> Simulation:
        """Run until every job has its answer, which `now` is the time of then."""
        chance = random.Random(self.seed)
        clock = Clock(lambda: self.now, lambda: UNIX + self.now, chance.random)
        exchanges = Exchanges(Account(), clock, max_retries=0, timeout=None, queue_timeout=3600.0)
        order = itertools.count()
        events: list[Any] = []
        for number in range(self.jobs):
            flow = run_job(f"{number}", b"{}", exchanges)
            self._done_at[f"job-{number}"] = self.longest * (0.2 + 0.8 * chance.random())
            events.append((0.0, next(order), flow, None))
        while events:
            self.now, _, flow, outcome = heapq.heappop(events)
            try:
                seconds, outcome = self._perform(flow.send(outcome))
            except StopIteration:
                continue
            heapq.heappush(events, (self.now + seconds, next(order), flow, outcome))
        return self

    def _perform(self, command: Command) -> tuple[float, Outcome]:
        """Give the seconds that a command takes, and what comes of it."""
        match command:
            case Sleep(seconds):
                return seconds, None
            case Request("POST", path):
                return ROUND_TRIP, reply({"request_id": f"job-{path.rpartition('/')[2]}"})
            case Request("GET", path):
                return ROUND_TRIP, self._answer(path, self.now + ROUND_TRIP / 2)
            case _:
                return 0.0, None

    def _answer(self, path: str, now: float) -> Response:
        self.polls += 1
        if (refusal := self.refuse(now)) is not None:
            self.refusals += 1
            return reply({"error": "slow down"}, 429, **refusal)
        is_done = now >= self._done_at[path.split("/")[3]]
        status = {"status": "COMPLETED" if is_done else "PROCESSING"}
        body = status if path.endswith("/status") else {**status, "output": completion()}
        return reply(body, **getattr(self.refuse, "headers", {}))
