"""What every way to Segmind has in common: a `Transport` opens an exchange.

It gives status, headers and raw chunks. `httpcore` does it for blocking calls,
`aiohttp` for awaited ones, and `injected` over a client that the user brought.
"""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from langchain_segmind._protocol.types import Request, Response

KEEPALIVE_SECONDS = 4.0
"""How long an idle connection is kept: less than most servers' and proxies' 5 s, because a request
sent into a connection that is just being closed has an unknown outcome."""
SHORTEST_KEEPALIVE = 0.5
"""Seconds: what ended sooner was not ended for being idle."""
_KEEP_ALIVE = re.compile(r"\btimeout=(\d{1,6})\b")


class Patience:
    """For how long the server keeps an idle connection, and so for how long one is used again."""

    def __init__(self) -> None:
        """Begin with what most servers have."""
        self.seconds = KEEPALIVE_SECONDS

    def heed(self, headers: Mapping[str, str]) -> None:
        """Take what an answer announces."""
        if announced := _KEEP_ALIVE.search(headers.get("keep-alive", "")):
            self.learn(float(announced[1]))

    def learn(self, seconds: float) -> None:
        """Take it from a connection that the server has closed after being idle for so long."""
        if seconds >= SHORTEST_KEEPALIVE:
            self.seconds = min(self.seconds, 0.8 * seconds)


@dataclass(slots=True)
class StreamedResponse:
    """An answer whose head has come; its body is still compressed.

    To be awaited where it came over an event loop.
    """

    head: Response
    read: Callable[[], Any]
    """Gives what came next, nothing but at the end; until the deadline of the request."""
    close: Callable[[], Any]


class Transport(Protocol):
    """Opens blocking exchanges."""

    def open(self, request: Request) -> StreamedResponse: ...
    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """Opens exchanges on the event loop it was built on."""

    async def open(self, request: Request) -> StreamedResponse: ...
    async def close(self) -> None: ...


def seconds_left(deadline: float | None) -> float | None:
    """Give the seconds until a deadline."""
    return None if deadline is None else deadline - time.monotonic()


def bounded_timeout(timeout: float | None, deadline: float | None) -> float | None:
    """Let a step end just before the deadline, so that what was never sent is told as that."""
    if (left := seconds_left(deadline)) is None:
        return timeout
    left = max(0.001, left * 0.98)
    return left if timeout is None else min(timeout, left)


def lowercase_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Give headers by their name in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def clear_frames(error: BaseException) -> None:
    """Empty the frames of a library that was interrupted: the key is among their locals."""
    traceback.clear_frames(error.__traceback__)
    error.__context__ = None
