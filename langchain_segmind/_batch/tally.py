"""How a run goes: what is done, what it cost, and what is still to come."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_segmind.credits import format_credits

if TYPE_CHECKING:
    from langchain_segmind._batch.results import BatchResult


@dataclass(slots=True)
class Tally:
    """The results of a run, counted as they come."""

    total: int
    """How many answers are wanted."""
    spent_before: float = 0.0
    """Credits that earlier runs paid."""
    done: int = 0
    failed: int = 0
    unknown: int = 0
    replayed: int = 0
    """Of those done, how many were paid for before."""
    paid: int = 0
    spent: float = 0.0
    """Credits that this run paid."""
    unstated: int = 0
    """Answers that did not say what they cost."""
    cut: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def count(self, result: BatchResult) -> None:
        """Count a result."""
        if result.error is None:
            self.done += 1
            self.replayed += result.replayed
        else:
            self.errors[type(result.error).__name__] += 1
            self.unknown += result.is_unknown
            self.failed += not result.is_unknown
        if result.raw is not None and not result.replayed:
            self.paid += 1
            self.cut += b'"finish_reason": "length"' in result.raw
        self.unstated += result.cost is None and not result.is_unknown
        self.spent += result.cost or 0.0

    @property
    def left(self) -> int:
        """How many answers have not come to anything yet."""
        return max(self.total - self.done - self.failed - self.unknown, 0)

    @property
    def spent_in_all(self) -> float:
        """Credits that this run and earlier ones paid."""
        return self.spent_before + self.spent

    @property
    def a_minute(self) -> float:
        """Answers a minute that were paid for, since the start."""
        return 60 * self.paid / max(time.monotonic() - self.started, 1e-3)

    @property
    def projected(self) -> float | None:
        """Credits that all of it will cost; None before the first answer."""
        if not self.paid:
            return None
        return self.spent_in_all + self.left * self.spent / self.paid

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take, at the pace so far."""
        return 60 * self.left / self.a_minute if self.paid else None


def in_words(tally: Tally, balance: float | None) -> str:
    """Say in one line how it goes."""
    parts = [
        f"{tally.done:,} of {tally.total:,} done",
        f"{tally.failed:,} failed",
        f"{tally.unknown:,} unknown",
        f"{tally.a_minute:,.0f} a minute",
        f"{format_money(tally.spent_in_all)} credits spent",
    ]
    if (projected := tally.projected) is not None:
        parts.append(f"{format_money(projected)} projected")
    if balance is not None:
        parts.append(f"{format_money(balance)} left on the account")
    if (seconds := tally.seconds_left) is not None:
        parts.append(f"{format_time(seconds)} to go")
    return ", ".join(parts)


_DIME = 0.1


def format_money(amount: float) -> str:
    """Give credits with as many digits as a person reads."""
    return format_credits(round(amount, 4 if abs(amount) >= _DIME else 6))


def format_time(seconds: float) -> str:
    """Give a span of time as `1:02:03`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
