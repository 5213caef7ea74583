"""Where money is counted: what an answer cost and left, and what the account holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        return cls(
            remaining=_amount(headers.get("x-remaining-credits")),
            cost=_amount(headers.get("x-cost")),
        )

    @classmethod
    def from_metrics(cls, metrics: object) -> Credits:
        """Read `remaining_credits` and `cost` of a v2 job's `metrics`."""
        if not isinstance(metrics, dict):
            return cls()
        return cls(
            remaining=_amount(metrics.get("remaining_credits")), cost=_amount(metrics.get("cost"))
        )

    def as_dict(self) -> CreditsDict:
        """Give the form that goes into metadata."""
        return {"remaining": self.remaining, "cost": self.cost}

    def or_else(self, other: Credits) -> Credits:
        """Fill what is unknown from another account of the same answer."""
        return Credits(
            remaining=other.remaining if self.remaining is None else self.remaining,
            cost=other.cost if self.cost is None else self.cost,
        )


def _amount(value: object) -> float | None:
    """Read an amount of credits; what is no finite number is unknown."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) else None
