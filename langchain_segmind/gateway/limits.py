"""How many requests a minute are let through."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langchain_segmind.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

RESET_HEADER = "x-rate-limit-reset-at-utc"


class RateLimit:
    """A number of requests in a window that starts with the first of them."""

    def __init__(self, limit: int, window: float, clock: Callable[[], float]) -> None:
        """Let `limit` requests through in `window` seconds; 0 lets all through."""
        self._limit = limit
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._resets_at = 0.0
        self._count = 0

    def count(self) -> None:
        """Count a request, or refuse it."""
        if not self._limit:
            return
        with self._lock:
            if self._clock() >= self._resets_at:
                self._resets_at = self._clock() + self._window
                self._count = 0
            if self._count >= self._limit:
                raise self._refusal()
            self._count += 1

    def _refusal(self) -> ApiError:
        message = f"Rate limit exceeded: {self._limit} requests per minute."
        return ApiError(429, message, {RESET_HEADER: utc(self._resets_at)})


def utc(timestamp: float) -> str:
    """Write a time the way the header does."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
