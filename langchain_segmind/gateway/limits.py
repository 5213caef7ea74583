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
