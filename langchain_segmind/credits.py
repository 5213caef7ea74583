"""Where money is counted: what an answer cost and left, and what the account holds.

Costs stay in `response_metadata["credits"]`. `usage_metadata` has an unofficial place for them,
`total_cost`, which langchain-core sets to 0 for cached answers; but its own sums
(`AIMessageChunk + AIMessageChunk`, `get_usage_metadata_callback`) raise on a number that is not
whole, so nothing but tokens goes there.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypedDict

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration

from langchain_segmind._protocol.per_process import PerProcess
from langchain_segmind.exceptions import SegmindError, SegmindOutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_core.outputs import LLMResult

LOST_ATTEMPTS = "lost_attempts"
"""Where `response_metadata` counts what was sent for an answer before, and may be billed too."""
PROVIDER = "segmind"
"""What `response_metadata["model_provider"]` says."""
DECIMALS = 10
"""Segmind counts credits in ten decimals: what a sum of floats has beyond them is no money."""


class CreditsDict(TypedDict):
    """The form `Credits` has in `response_metadata` and `generation_info`."""

    remaining: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Credits:
    """The accounting of one answer, in Segmind credits (US dollars)."""

    remaining: float | None = None
    """What the account had left afterwards; None where the answer did not say."""
    cost: float | None = None
    """What the answer cost; None where the answer did not say."""

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Credits:
        """Read `x-remaining-credits` and `x-cost` (segmind-api: v1, response headers)."""
        return cls(remaining=remaining_credits(headers), cost=amount(headers.get("x-cost")))

    @classmethod
    def from_metrics(cls, metrics: object) -> Credits:
        """Read `remaining_credits` and `cost` of a v2 job's `metrics`."""
        if not isinstance(metrics, dict):
            return cls()
        return cls(
            remaining=amount(metrics.get("remaining_credits")), cost=amount(metrics.get("cost"))
        )

    def as_dict(self) -> CreditsDict:
        """Give the form that goes into metadata."""
        return {"remaining": self.remaining, "cost": self.cost}

    def __repr__(self) -> str:
        return f"Credits(remaining={_spell(self.remaining)}, cost={_spell(self.cost)})"


@dataclass(frozen=True, slots=True)
class CreditBalance:
    """What an account holds, in Segmind credits (US dollars)."""

    credits: float
    """What was paid for."""
    free_credits: float
    """What was a gift."""
    as_of: datetime | None = field(default=None, compare=False)
    """When it was so, by Segmind's clock; None where the answer does not say."""
    total: float = field(init=False)
    """Both together."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", round(self.credits + self.free_credits, DECIMALS))

    def __repr__(self) -> str:
        return (
            f"CreditBalance(credits={_spell(self.credits)}, "
            f"free_credits={_spell(self.free_credits)}, total={_spell(self.total)})"
        )

    @classmethod
    def from_answer(cls, data: object, headers: Mapping[str, str]) -> Self | None:
        """Read the answer of `/v1/get-user-credits`; None where it holds no balance."""
        if not isinstance(data, dict):
            return None
        amounts = amount(data.get("credits")), amount(data.get("free-credits"))
        if amounts == (None, None):
            return None
        return cls(amounts[0] or 0.0, amounts[1] or 0.0, _date(headers))


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return None


class CreditsCallbackHandler(BaseCallbackHandler):
    """Adds up what Segmind's answers cost, and tells the bill where it is printed.

    `get_credits_callback` puts one in place.
    """

    def __init__(self, outer: CreditsCallbackHandler | None = None) -> None:
        """Add up what Segmind's answers cost, from nothing; `outer` counts them too."""
        self.cost: float = 0.0
        """Credits spent, as far as the answers said."""
        self.calls: int = 0
        """Answers that came from Segmind."""
        self.cached: int = 0
        """Answers that came from LangChain's cache: they cost nothing and are no calls."""
        self.remaining: float | None = None
        """The balance that the last answer named."""
        self.tokens: UsageMetadata = add_usage(None, None)
        """Tokens of the answers that came from Segmind."""
        self._outer = outer
        self._lock = PerProcess(threading.Lock)
        self._unknown_without_id = 0
        self._unknown_ids: set[str] = set()

    @property
    def unknown(self) -> int:
        """Requests that may have cost what `cost` does not say.

        Their answer was lost, whether or not the call was sent again (`retry_unknown_outcome`), or
        it named no cost. A job whose answer is fetched after all (`resume`) is counted then, and
        is unknown no more.
        """
        return self._unknown_without_id + len(self._unknown_ids)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Count what has been answered."""
        for generations in response.generations:
            # Further choices of one answer repeat what it cost.
            if generations and isinstance(generation := generations[0], ChatGeneration):
                self._count(generation.message)
        if self._outer is not None:
            self._outer.on_llm_end(response, **kwargs)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        """Count what was paid for and could not be used, and what nobody knows of."""
        if isinstance(error, SegmindError):
            with self._lock.get():
                self._spend((error.credits or Credits()).as_dict())
                # A journal's own error is of a call that was sent, and counted, before.
                if not isinstance(error, SegmindOutcomeUnknownError):
                    self._note_unknown(error.request_id, error.lost_attempts)
        if self._outer is not None:
            self._outer.on_llm_error(error, **kwargs)

    def _note_unknown(self, request_id: str | None, attempts: int) -> None:
        """Count attempts of one call; no more than the last of them has an id."""
        if attempts and request_id is not None:
            self._unknown_ids.add(request_id)
            attempts -= 1
        self._unknown_without_id += attempts

    def _count(self, message: object) -> None:
        if not isinstance(message, AIMessage):
            return
        metadata = message.response_metadata
        if metadata.get("model_provider") != PROVIDER or "credits" not in metadata:
            return
        with self._lock.get():
            if metadata["credits"] == CACHED.as_dict():
                self.cached += 1
                return
            self.calls += 1
            self._unknown_ids.discard(metadata.get("request_id"))
            self._spend(metadata["credits"])
            is_unstated = metadata["credits"]["cost"] is None
            self._note_unknown(metadata.get("request_id"), int(is_unstated))
            self._note_unknown(None, metadata.get(LOST_ATTEMPTS, 0))
            self.tokens.update(add_usage(self.tokens, message.usage_metadata))

    def _spend(self, credits: CreditsDict) -> None:
        self.cost = round(self.cost + (credits["cost"] or 0.0), DECIMALS)
        if credits["remaining"] is not None:
            self.remaining = credits["remaining"]

    def __str__(self) -> str:
        """Tell the bill in words."""
        bill = f"{self.calls:,} call{'' if self.calls == 1 else 's'}"
        bill += f": {format_credits(self.cost)} credits"
        if self.unknown:
            bill += f", {self.unknown:,} of unknown cost"
        return bill if self.remaining is None else f"{bill}, {format_credits(self.remaining)} left"

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(cost={_spell(self.cost)}, calls={self.calls}, "
            f"cached={self.cached}, unknown={self.unknown}, remaining={_spell(self.remaining)}, "
            f"tokens={dict(self.tokens)})"
        )


_COUNTING: ContextVar[CreditsCallbackHandler | None] = ContextVar("segmind_credits", default=None)


@cache
def _register_hook() -> None:
    """Make langchain-core look for a handler, once: its own callbacks add a hook at each use."""
    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(_COUNTING, inheritable=True)


@contextmanager
def get_credits_callback() -> Iterator[CreditsCallbackHandler]:
    """Count what is spent on Segmind inside a `with` block, in threads, tasks and chains too.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama, get_credits_callback

        llm = ChatSegmindLlama()
        with get_credits_callback() as spent:
            llm.batch(["Tell me a joke on cats", "Tell me a joke on dogs"])
        print(spent, spent.cost, spent.tokens["total_tokens"])
        ```
    """
    _register_hook()
    handler = CreditsCallbackHandler(_COUNTING.get())
    token = _COUNTING.set(handler)
    try:
        yield handler
    finally:
        _COUNTING.reset(token)


CACHED = Credits(cost=0.0)
"""The accounting of an answer from LangChain's cache: nothing was spent, no balance was seen."""


_MOST = 1e12
"""More than any account holds or any answer takes; the sum of larger numbers may be infinite."""


def remaining_credits(headers: Mapping[str, str]) -> float | None:
    """Read `x-remaining-credits`; None where an answer does not say, or not sensibly."""
    return amount(headers.get("x-remaining-credits"))


def amount(value: object) -> float | None:
    """Read a number, as of credits; what is no sensible one is unknown."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if abs(amount) <= _MOST else None


def format_credits(amount: float) -> str:
    """Give an amount as money: two decimals, and more where it has them, as 0.0101475."""
    # A float has 15 digits that are sure: of a million, the tenth decimal is noise.
    whole, _, decimals = f"{Decimal(f'{amount:.15g}'):z,.{DECIMALS}f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


class Money(float):
    """An amount that is shown as one in a `repr`."""

    def __repr__(self) -> str:
        return _spell(self)


def llm_output_of(message: AIMessage) -> dict[str, Any]:
    """Give what LangChain's `llm_output` says of an answer: its model, credits and tokens."""
    output = {name: message.response_metadata.get(name) for name in ("model_name", "credits")}
    if message.usage_metadata is not None:
        output["token_usage"] = dict(message.usage_metadata)
    return output


def _spell(amount: float | None) -> str:
    """Give an amount as a `repr` does, in which commas stand between the fields."""
    return "None" if amount is None else format_credits(amount).replace(",", "")
