"""Pacing: as many requests as the plan allows, at once where it allows that, and no more.

Home-made after weighing what exists: docs/decisions/rate-limiter.md.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import closing
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from langchain_core.rate_limiters import BaseRateLimiter

from langchain_segmind._protocol.account import Account

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

logger = logging.getLogger("langchain_segmind")

LOOKS_PER_SECOND = 1000
"""How often all that wait together look whether they may go earlier."""
WINDOW = 62.0
"""Seconds in which the plan's requests may go: a minute, and two for those that travel slowly."""


class SegmindRateLimiter(BaseRateLimiter):
    """Lets as many requests a minute through as the account's plan allows.

    The first call goes at once, and so do as many as the plan allows; then each waits until its
    minute has passed. Every model of this process with the same key and host counts into the same
    minute, whether it was given this limiter or another one: a model joins the limiter it is given
    to its account. Retries count, as do submits to the queue. When Segmind answers 429 and says
    when the limit resets, everyone waits for that.

    Where answers name how many requests are left and until when, that is believed more than the
    number given here: nothing is sent that would be refused. Where more are left than the plan was
    said to have, they go earlier, by halves of them, since other processes may use the key.

    Several processes can share a limiter of your own: a `BaseRateLimiter` that asks wherever they
    count together. If it has a method `pause(seconds)`, it is told of each 429 at once.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama, SegmindRateLimiter

        llm = ChatSegmindLlama(rate_limiter=SegmindRateLimiter(requests_per_minute=60))
        ```
    """

    def __init__(
        self,
        *,
        requests_per_minute: int,
        count_polls: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        async_sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Let as many requests a minute through as the account's plan allows.

        Args:
            requests_per_minute: What the plan allows.
            count_polls: Whether asking after a queued job counts as a request too.
            clock: Gives seconds that only grow.
            sleep: Waits in a blocking call.
            async_sleep: Waits on an event loop.

        Raises:
            ValueError: Less than one request a minute.
        """
        if requests_per_minute < 1:
            raise ValueError("requests_per_minute must be at least 1")
        self.requests_per_minute = requests_per_minute
        self.count_polls = count_polls
        self._clock = clock
        self._sleep = sleep
        self._async_sleep = async_sleep
        self._account = Account()
        self._hears_answers = False

    def __repr__(self) -> str:
        pace = f"requests_per_minute={self.requests_per_minute}"
        return f"{type(self).__name__}({pace}{', count_polls=True' if self.count_polls else ''})"

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait until one more request may go, or tell whether it may go at once."""
        if not blocking:
            return self._account.requests.reserve_now(**self._terms())
        with closing(self._waits()) as waits:
            for seconds in waits:
                self._sleep(seconds)
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Wait, on the event loop, until one more request may go, or tell whether it may now."""
        if not blocking:
            return self._account.requests.reserve_now(**self._terms())
        with closing(self._waits()) as waits:
            for seconds in waits:
                await self._async_sleep(seconds)
        return True

    def pause(self, seconds: float) -> None:
        """Let nothing go for so long: another process, say, was answered with 429."""
        self._account.requests.pause(self._clock() + seconds)

    def joined_to(self, account: Account) -> Self:
        """Give a limiter of the same pace that counts with everyone who uses the account."""
        if self._account is account:
            return self
        joined = copy(self)
        joined._account, joined._hears_answers = account, True  # noqa: SLF001 - of the same class.
        return joined

    def _waits(self) -> Generator[float, None, None]:
        """Reserve a place, and say how long to wait for it, until it is there."""
        window = self._account.requests
        slot = window.reserve(**self._terms())
        if (left := slot - self._clock()) >= 1.0:
            logger.info("The plan's limit is reached, waiting %.1f s", left)
        try:
            while True:
                if window.is_overtaken(slot):
                    slot = window.reserve(**self._terms())
                elif self._hears_answers:
                    slot = window.advance(slot, **self._terms())
                if (left := slot - self._clock()) <= 0:
                    return
                yield min(left, self._seconds_to_look_again())
        except GeneratorExit:
            window.release(slot)
            raise

    def _seconds_to_look_again(self) -> float:
        """Give how long a place may stand: the next answer may say that there is room."""
        if not self._hears_answers:
            return math.inf
        return 1.0 + self._account.requests.waiting(self._clock()) / LOOKS_PER_SECOND

    def _terms(self) -> dict[str, Any]:
        return {"now": self._clock(), "limit": self.requests_per_minute, "seconds": WINDOW}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Share the count with copies in this process."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copy or pickle the pace; what has been counted belongs to this process."""
        return {**self.__dict__, "_account": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _account=Account())


def pause_of(limiter: BaseRateLimiter | None) -> Callable[[float], object] | None:
    """Give what a limiter of the user's is told of a 429 by; ours knows from its account."""
    if limiter is None or isinstance(limiter, SegmindRateLimiter):
        return None
    return getattr(limiter, "pause", None)


class DeferredRateLimiter(BaseRateLimiter):
    """A limiter that the exchange asks, once it is known that something will be sent.

    LangChain asks a model's limiter before the model is called: an answer from the journal, or a
    job that is resumed, would take a slot that it does not need.
    """

    def __init__(self, limiter: BaseRateLimiter) -> None:
        self.limiter = limiter

    def __repr__(self) -> str:
        return repr(self.limiter)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Let LangChain's own question pass."""
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Let LangChain's own question pass."""
        return True
