"""A budget that is never passed: what is in flight is counted at the dearest it can be.

What a call may cost is bounded by its tokens and by what a token may cost. Segmind has no list of
prices that a program can ask for, so each answer is asked: if an answer of 1,000 and 300 tokens
cost 0.0009 credits, no token of a prompt costs more than a thousandth of that and none of an answer
more than a 300th, however the two share it. The least of all such bounds holds. Until the first
answer has come, one call is in flight, at an assumed price; from then on at most twice as many as
have been answered.

An answer is no longer than `max_tokens`. Where a call has none, nobody knows how long it may get:
it is counted as four times the longest answer seen. Set `max_tokens` for a bound that always holds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_segmind.credits import format_credits
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ASSUMED_PRICE = 1e-6
"""Credits a token before any answer has said: what hosted models of 70B cost, 0.9 a million."""
UNSEEN_ANSWER = 64
"""Tokens of an answer before one has been seen, where a call has no `max_tokens`."""
LONGER_THAN_SEEN = 4
SHORTEST_BOUND = 32
"""Tokens that an answer may always have, where a call has no `max_tokens`."""


class BudgetReachedError(SegmindError):
    """What is left of the budget does not cover one more call at its dearest; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many tokens a call may take, at most."""

    prompt: int
    completion: int | None
    """`max_tokens`, for each of its choices; None where it has none."""


class Prices:
    """The dearest that a token can be, by what answers cost."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.answers = 0
        self._prompt = self._completion = float("inf")
        self._longest = UNSEEN_ANSWER
        self._underestimate = self._overrun = 1.0

    def learn(self, size: Size, usage: Mapping[str, Any] | None, cost: float) -> None:
        """Take what an answer cost for a bound of what its tokens can cost."""
        used = usage or {}
        prompt = _count(used.get("prompt_tokens")) or size.prompt
        completion = _count(used.get("completion_tokens")) or 1
        self.answers += 1
        self._underestimate = max(self._underestimate, prompt / size.prompt)
        if size.completion is not None:  # A model may not honour it.
            self._overrun = max(self._overrun, completion / size.completion)
        seen = 0 if self.answers == 1 else self._longest
        self._longest = max(seen, SHORTEST_BOUND, LONGER_THAN_SEEN * completion)
        if cost > 0:
            self._prompt = min(self._prompt, cost / prompt)
            self._completion = min(self._completion, cost / completion)

    def dearest(self, prompt: float, said: float, unsaid: int) -> float:
        """Bound what calls may cost.

        Args:
            prompt: Tokens of their prompts together, as estimated.
            said: Their `max_tokens` together.
            unsaid: How many have none.
        """
        known = self._prompt < float("inf")
        of_prompt, of_answer = (
            (self._prompt, self._completion) if known else (ASSUMED_PRICE, ASSUMED_PRICE)
        )
        answers = said * self._overrun + unsaid * self._longest
        return of_prompt * prompt * self._underestimate + of_answer * answers


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class Budget:
    """Lets calls go as long as all that are in flight fit, and so many as have been answered."""

    def __init__(
        self,
        limit: float | None,
        *,
        spent: float = 0.0,
        min_credits: float | None = None,
        balance: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Set the limit.

        Args:
            limit: Credits; None for none.
            spent: What was spent of it before.
            min_credits: What the account has to keep.
            balance: Gives what the account was last seen to hold.
        """
        self.limit = limit
        self.spent = spent
        self.prices = Prices()
        self._least = min_credits
        self._balance = balance
        self._prompt = self._said = self._lost = 0.0
        self._unsaid = self._in_flight = 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to count."""
        return self.limit is not None or self._least is not None

    async def reserve(self, size: Size, *, is_sent: bool = False) -> None:
        """Wait until a call fits, first come, first served.

        Args:
            size: The call's.
            is_sent: It is under way already, and only to be counted.

        Raises:
            BudgetReachedError: It does not fit though nothing else is in flight.
        """
        if self.is_limited and not is_sent:
            async with self._turn:
                while (why := self._obstacle(size)) is not None:
                    if not self._in_flight:
                        raise BudgetReachedError(why)
                    self._changed.clear()
                    await self._changed.wait()
                self._add(size, 1)
        else:
            self._add(size, 1)

    def learn(self, size: Size, usage: Mapping[str, Any] | None, cost: float | None) -> None:
        """Take what an answer cost for a bound of what the next ones can cost."""
        if self.is_limited and cost is not None:
            self.prices.learn(size, usage, cost)

    def settle(self, size: Size, cost: float | None) -> None:
        """Take a call out of what is in flight: for its cost, or the dearest where that is lost."""
        self._add(size, -1)
        if cost is None:
            cost = self._dearest_of(size)
            self._lost += cost
        self.spent += cost
        self._changed.set()

    def _add(self, size: Size, count: int) -> None:
        self._in_flight += count
        self._prompt += count * size.prompt
        if size.completion is None:
            self._unsaid += count
        else:
            self._said += count * size.completion

    def _dearest_of(self, size: Size) -> float:
        return self.prices.dearest(size.prompt, size.completion or 0, size.completion is None)

    def _obstacle(self, size: Size) -> str | None:
        """Say why a call does not fit now."""
        if self._in_flight >= max(1, 2 * self.prices.answers):
            return "The first answers are waited for."
        one = self._dearest_of(size)
        dearest = self.prices.dearest(self._prompt, self._said, self._unsaid) + one
        if self.limit is not None and self.spent + dearest > self.limit:
            return (
                f"{format_credits(self.spent)} of {format_credits(self.limit)} credits are spent, "
                f"and one more call may cost {format_credits(one)}."
            )
        balance = self._balance()
        if self._least is not None and balance is not None and balance - dearest < self._least:
            return (
                f"{format_credits(balance)} credits are left, {format_credits(self._least)} are to "
                f"stay, and one more call may cost {format_credits(one)}."
            )
        return None
