"""How many requests a minute are let through."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langchain_segmind.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable


class RateLimit:
    """A number of requests in a window that starts with the first of them."""

    def __init__(self, limit: int, window: float, clock: Callable[[], float]) -> None:
        """Let `limit` requests through in `window` seconds; 0 lets all through."""
        self._limit = limit
        self._window = window
        self._clock = clock
        self._resets_at = 0.0
        self._count = 0

    def count(self) -> None:
        """Count a request, or refuse it."""
        if not self._limit:
            return
        if self._clock() >= self._resets_at:
            self._resets_at = self._clock() + self._window
            self._count = 0
        if self._count >= self._limit:
            raise ApiError(429, f"Rate limit exceeded: {self._limit} requests per minute.")
        self._count += 1

    def headers(self) -> dict[str, str]:
        """Say what is left of the window, as answers of every status do."""
        if not self._limit:
            return {}
        is_open = self._clock() < self._resets_at
        resets_at = self._resets_at if is_open else self._clock() + self._window
        return {
            "x-rate-limit-remaining": str(self._limit - (self._count if is_open else 0)),
            "x-rate-limit-reset-at-utc": utc(resets_at),
        }


def utc(timestamp: float) -> str:
    """Write a time the way the header does."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
