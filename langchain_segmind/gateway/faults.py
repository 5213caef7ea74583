"""What can go wrong on the way to Segmind, on purpose and repeatably."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random


class Fault(Enum):
    """One way for an exchange to break."""

    ERROR = "error"
    """A 500, 502 or 503 in Segmind's JSON, before anything is processed or billed."""
    DROP_BEFORE = "drop_before"
    """The connection closes without an answer, before anything is processed."""
    DROP_AFTER = "drop_after"
    """The connection closes without an answer, after processing and billing."""
    HALF_BODY = "half_body"
    """The connection closes in the middle of the answer, after processing and billing."""
    MALFORMED = "malformed"
    """An answer of 200 whose body is of no use, after processing and billing."""
    PROXY_TIMEOUT = "proxy_timeout"
    """A 502, 504, 520, 522 or 524 in HTML, while the processing goes on and is billed."""


@dataclass(frozen=True)
class Faults:
    """The share of requests that break, by kind; together at most 1."""

    error_rate: float = 0.0
    """Answered with a 500, 502 or 503; not billed."""
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
        rates = [rate for _, rate in self.shares()]
        if min(rates) < 0 or sum(rates) > 1 or self.latency < 0:
            raise ValueError("Fault rates must lie between 0 and 1 and add up to at most 1.")

    def shares(self) -> list[tuple[Fault, float]]:
        """Pair each kind of fault with its share."""
        return [(fault, getattr(self, f"{fault.value}_rate")) for fault in Fault]


class FaultSource:
    """Draws the fate of one request after the other."""

    def __init__(self, faults: Faults, seed: int) -> None:
        """Start the draws that belong to a seed."""
        self.faults = faults
        self._random = Random(seed)  # noqa: S311  Repeatable is what is wanted here.

    def draw(self) -> Fault | None:
        """Say what goes wrong with the next request, if anything."""
        drawn = self._random.random()
        for fault, share in self.faults.shares():
            if drawn < share:
                return fault
            drawn -= share
        return None

    def happens(self, rate: float) -> bool:
        """Say whether something that happens at this rate happens now."""
        return self._random.random() < rate

    def pick(self, count: int) -> int:
        """Choose one of `count` variants."""
        return self._random.randrange(count)
