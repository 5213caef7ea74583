"""A budget that is never passed: what is in flight is counted at the dearest it can be.

What a call may cost is bounded by its tokens and by what a token may cost. Segmind has no list of
prices that a program can ask for, so each answer is asked: if an answer of 1,000 and 300 tokens
cost 0.0009 credits, no token of a prompt costs more than a thousandth of that and none of an answer
more than a 300th, however the two share it. The least of all such bounds holds for a model. Until
its first answer has come, one of its calls is in flight, at an assumed price; from then on at most
twice as many as have been answered.

An answer is no longer than `max_tokens`. A call that has none is given one: `LONGEST_ANSWER`, or,
where the rest of the budget does not cover as many, four times the longest answer so far.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_segmind._batch.report import format_money
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIRST_PRICE = 5e-6
"""Credits a token before any answer has said: more than any hosted Llama costs."""
LONGEST_ANSWER = 2_048
"""Tokens that an answer may have where its call does not say: Llama's seldom have half as many."""
UNSEEN_ANSWER, LONGER_THAN_SEEN = 64, 4
CONTEXT = 131_072
"""Tokens that an answer may have had which was not bounded when its call was sent."""


class BudgetReachedError(SegmindError):
    """What is left of the budget does not cover one more call at its dearest; nothing was sent."""


class Size(NamedTuple):
    """How many tokens a call may take, at most."""

    prompt: int
    completion: int | None
    """`max_tokens`; None where it has none."""
    model: str = ""


class Prices:
    """The dearest that a model's tokens can be, by what answers cost, and what is in flight."""

    def __init__(self) -> None:
        self.answers = self.in_flight = 0
        self.counted = Size(0, 0)
        """Tokens of what is in flight, or lost: its cost is not known, and it stays counted."""
        self.likely = UNSEEN_ANSWER
        """Tokens that the next answer will hardly pass."""
        self._prompt = self._completion = float("inf")
        self._underestimate = self._overrun = 1.0

    def learn(self, size: Size, usage: Mapping[str, Any] | None, cost: float) -> None:
        """Take what an answer cost for a bound of what its tokens can cost."""
        used = usage or {}
        prompt = _count(used.get("prompt_tokens")) or size.prompt
        completion = _count(used.get("completion_tokens")) or 1
        self.answers += 1
        self.likely = max(self.likely, LONGER_THAN_SEEN * completion)
        self._underestimate = max(self._underestimate, prompt / size.prompt)
        # A model may not honour it.
        self._overrun = max(self._overrun, completion / (size.completion or completion))
        if cost > 0:
            self._prompt = min(self._prompt, cost / prompt)
            self._completion = min(self._completion, cost / completion)

    def add(self, size: Size, times: int, *, calls: int) -> None:
        """Count the tokens of a call so many times more, and calls in flight; or less of both."""
        prompt, completion, _ = self.counted
        self.counted = Size(
            prompt + times * size.prompt, (completion or 0) + times * (size.completion or 0)
        )
        self.in_flight += calls

    def bound_counted(self) -> float:
        """Bound what is counted."""
        return self.bound_cost(self.counted.prompt, self.counted.completion or 0)

    def bound_cost(self, prompt: float, completion: float) -> float:
        """Bound what calls may cost whose prompts and answers have so many tokens together."""
        prompt, completion = prompt * self._underestimate, completion * self._overrun
        if self._prompt == float("inf"):
            return FIRST_PRICE * (prompt + completion)
        return self._prompt * prompt + self._completion * completion


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class Budget:
    """Lets calls go as long as all that are in flight fit, and so many as have been answered."""

    def __init__(
        self,
        limit: float | None,
        *,
        spent: float | None = None,
        min_credits: float | None = None,
        balance: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Set the limit.

        Args:
            limit: Credits; None for none.
            spent: What was spent of it before; None counts that as replays are met.
            min_credits: What the account has to keep.
            balance: Gives what the account was last seen to hold.
        """
        self.spent, self.counts_replays = spent or 0.0, spent is None
        self.is_limited = limit is not None or min_credits is not None
        self._prices: defaultdict[str, Prices] = defaultdict(Prices)
        self._limit, self._least, self._balance = limit, min_credits, balance
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def reserve(self, size: Size) -> Size:
        """Wait until a call fits, first come, first served; give it with a bound of its answer.

        Raises:
            BudgetReachedError: It does not fit though nothing else is in flight.
        """
        async with self._turn:
            while isinstance(fit := self._fit(size), str):
                if not any(prices.in_flight for prices in self._prices.values()):
                    raise BudgetReachedError(fit)
                self._changed.clear()
                await self._changed.wait()
            return self.count(fit)

    def count(self, size: Size, *, is_lost: bool = False) -> Size:
        """Count a call that is sent, or was sent and lost before, at its dearest."""
        size = size._replace(completion=size.completion or CONTEXT)
        self._prices[size.model].add(size, 1, calls=0 if is_lost else 1)
        return size

    def learn(self, size: Size, usage: Mapping[str, Any] | None, cost: float | None) -> None:
        """Take what an answer cost for a bound of what the next ones can cost."""
        if self.is_limited and cost is not None:
            self._prices[size.model].learn(size, usage, cost)

    def settle(self, size: Size, cost: float | None, lost: int = 0) -> None:
        """Take a call out of what is in flight, for its cost; what is lost of it stays counted."""
        if self.is_limited:
            times = lost if cost is None else lost - 1
            self._prices[size.model].add(size, times, calls=-1)
            self.spent += cost or 0.0
            self._changed.set()

    def _fit(self, size: Size) -> Size | str:
        """Bound the answer so that the call fits, or say why it does not."""
        prices = self._prices[size.model]
        if prices.in_flight >= max(1, 2 * prices.answers):
            return "The first answers are waited for."
        why = ""
        for most in (size.completion,) if size.completion else (LONGEST_ANSWER, prices.likely):
            why = self._obstacle(prices.bound_cost(size.prompt, most))
            if not why:
                return size._replace(completion=most)
        return why

    def _obstacle(self, one: float) -> str:
        """Say what does not cover one more call of such a cost; nothing where all is well."""
        counted = sum(prices.bound_counted() for prices in self._prices.values())
        more = f"and one more call may cost {format_money(one)}."
        if counted:
            more = f"{format_money(counted)} more may be, {more}"
        if self._limit is not None and self.spent + counted + one > self._limit:
            spent, limit = format_money(self.spent), format_money(self._limit)
            return f"{spent} of {limit} credits are spent, {more}"
        balance, least = self._balance(), self._least
        if least is not None and balance is not None and balance - counted - one < least:
            left, least_left = format_money(balance), format_money(least)
            return f"{left} credits are left, {least_left} are to stay, {more}"
        return ""
