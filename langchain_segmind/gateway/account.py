"""The account behind the key: its balance, its rate limit, a ledger that tests can read."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from langchain_segmind.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEDGER_LENGTH = 20_000
LEDGER_BYTES = 128 * 1024 * 1024
"""What is kept of the latest requests, so that a gateway can run for weeks."""

DECIMALS = 10
"""Segmind gives its balances to ten decimals."""

PathName = Literal["v1", "v2"]


@dataclass(frozen=True)
class Post:
    """A POST that arrived, whatever became of it."""

    request_id: str
    """The id it was given, and its job's."""
    path: str
    """Of its URL, as `/v1/llama-v3p1-70b-instruct`."""
    body: bytes
    """As it was sent; empty where the key was wrong, since then it is not read."""
    headers: Mapping[str, str] = field(repr=False)
    """By their names in lower case; the key is left out."""

    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)

    @property
    def size(self) -> int:
        """The bytes it takes to remember it."""
        return len(self.body) + len(self.path) + sum(map(len, chain(*self.headers.items())))


@dataclass(frozen=True)
class Charge:
    """A request that was billed."""

    request_id: str
    """The id of its `Post`."""
    path: PathName
    """Whether a call or a job was billed."""
    cost: float
    """Credits."""
    remaining: float
    """Credits that were left afterwards."""
    prompt_tokens: int
    """Tokens of the prompt, as the engine counts them."""
    completion_tokens: int
    """Tokens that were generated."""


class Account:
    """A balance that goes down, safely from any thread, and never below zero."""

    def __init__(
        self, balance: float, free: float, prompt_price: float, completion_price: float
    ) -> None:
        self._credits = balance
        self._free = free
        self._prompt_price = prompt_price
        self._completion_price = completion_price
        self._lock = threading.Lock()
        self._posts: deque[Post] = deque()
        self._bytes = 0
        self._charges: deque[Charge] = deque(maxlen=LEDGER_LENGTH)
        self.post_count = 0
        """How many POSTs arrived."""
        self.charge_count = 0
        """How many requests were billed."""

    @property
    def credits(self) -> float:
        """The credits that were paid for."""
        return round(self._credits, DECIMALS)

    @property
    def free_credits(self) -> float:
        """The credits that were a gift."""
        return round(self._free, DECIMALS)

    @property
    def remaining(self) -> float:
        """All credits that are left."""
        return round(self._credits + self._free, DECIMALS)

    @property
    def posts(self) -> list[Post]:
        """The latest POSTs that arrived, oldest first."""
        with self._lock:
            return list(self._posts)

    @property
    def charges(self) -> list[Charge]:
        """The latest requests that were billed, oldest first."""
        with self._lock:
            return list(self._charges)

    @property
    def billed_ids(self) -> list[str]:
        """The ids of the requests that were billed, oldest first."""
        return [charge.request_id for charge in self.charges]

    @property
    def billed_bodies(self) -> list[Any]:
        """The bodies that were billed, oldest first: equal ones were paid twice."""
        bodies = {post.request_id: post for post in self.posts}
        return [bodies[key].json() for key in self.billed_ids if key in bodies]

    def top_up(self, amount: float) -> None:
        """Add credits."""
        with self._lock:
            self._credits += amount

    def record(self, post: Post) -> None:
        """Note that a POST arrived."""
        with self._lock:
            self._posts.append(post)
            self.post_count += 1
            self._bytes += post.size
            while self._bytes > LEDGER_BYTES or len(self._posts) > LEDGER_LENGTH:
                self._bytes -= self._posts.popleft().size

    def require(self, prompt_tokens: int) -> None:
        """Refuse a call whose prompt alone costs more than is left."""
        needed = round(prompt_tokens * self._prompt_price, DECIMALS)
        if self.remaining <= 0 or self.remaining < needed:
            raise ApiError(
                406,
                f"Not enough credits: you have {self.remaining:.10f} credits left "
                f"and this request needs {needed:.10f}.",
            )

    def charge(
        self, request_id: str, path: PathName, prompt_tokens: int, completion_tokens: int
    ) -> Charge:
        """Bill a request; the last one pays what is left."""
        price = prompt_tokens * self._prompt_price + completion_tokens * self._completion_price
        with self._lock:
            cost = min(round(price, DECIMALS), self.remaining)
            from_gift = min(cost, self._free)
            self._free -= from_gift
            self._credits = max(self._credits - (cost - from_gift), 0.0)
            charge = Charge(
                request_id, path, cost, self.remaining, prompt_tokens, completion_tokens
            )
            self._charges.append(charge)
            self.charge_count += 1
        return charge


class RateLimit:
    """A number of requests in a window that starts with the first of them."""

    def __init__(self, limit: int, window: float, clock: Callable[[], float]) -> None:
        """Let `limit` requests through in `window` seconds; 0 lets all through."""
        self._limit = limit
        self._window = window
        self._clock = clock
        self._resets_at = 0.0
        self._left = limit

    def count(self) -> None:
        """Count a request, or refuse it."""
        if not self._limit:
            return
        if self._clock() >= self._resets_at:
            self._resets_at, self._left = self._clock() + self._window, self._limit
        if not self._left:
            raise ApiError(429, f"Rate limit exceeded: {self._limit} requests per minute.")
        self._left -= 1

    def headers(self) -> dict[str, str]:
        """Say what is left of the window, as answers of every status do."""
        if not self._limit:
            return {}
        now = self._clock()
        is_open = now < self._resets_at
        reset = datetime.fromtimestamp(self._resets_at if is_open else now + self._window, UTC)
        written = reset.isoformat(timespec="milliseconds")
        return {
            "x-rate-limit-remaining": str(self._left if is_open else self._limit),
            "x-rate-limit-reset-at-utc": written.replace("+00:00", "Z"),
        }
