"""What can go wrong on the way to Segmind, on purpose and repeatably."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Variant = TypeVar("Variant")


@dataclass(frozen=True)
class Faults:
    """The share of requests that break, by kind; together at most 1."""

    error_rate: float = 0.0
    """Answered with a 500, 502 or 503 in Segmind's JSON; not billed."""
    drop_before_rate: float = 0.0
    """The connection closes before anything is processed; not billed."""
    drop_after_rate: float = 0.0
    """The connection closes after processing; billed."""
    half_body_rate: float = 0.0
    """The connection closes in the middle of the answer; billed."""
    malformed_rate: float = 0.0
    """Answered with 200 and a body of no use; billed."""
    proxy_timeout_rate: float = 0.0
    """Answered as by a proxy that gave up: 502, 504, 520, 522 or 524, in HTML; billed."""
    latency: float = 0.0
    """Seconds added to every answer."""

    def __post_init__(self) -> None:
        """Refuse shares that make no sense."""
        rates = self.shares().values()
        if min(rates) < 0 or sum(rates) > 1 or self.latency < 0:
            raise ValueError("Fault rates must lie between 0 and 1 and add up to at most 1.")

    def shares(self) -> dict[str, float]:
        """Give the share of each kind: `error`, `drop_before` and so on."""
        return {
            name.removesuffix("_rate"): share
            for name, share in vars(self).items()
            if name != "latency"
        }


class FaultSource:
    """Draws the fate of one request after the other."""

    def __init__(self, faults: Faults, seed: int) -> None:
        """Start the draws that belong to a seed."""
        self.latency = faults.latency
        self._shares = faults.shares()
        self._random = Random(seed)  # noqa: S311  Repeatable is what is wanted here.

    def draw(self) -> str | None:
        """Say what goes wrong with the next request, if anything."""
        drawn = self._random.random()
        for kind, share in self._shares.items():
            if drawn < share:
                return kind
            drawn -= share
        return None

    def happens(self, rate: float) -> bool:
        """Say whether something that happens at this rate happens now."""
        return self._random.random() < rate

    def pick(self, variants: Sequence[Variant]) -> Variant:
        """Choose a variant."""
        return self._random.choice(variants)
