"""Answers that never arrive, or not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send

Address = tuple[str, int]

_OPEN: dict[tuple[Address, Address], asyncio.Transport] = {}
"""ASGI hides the transport, but the addresses of both ends tell which one it is."""


class TrackedProtocol(H11Protocol):
    """HTTP/1.1 whose connections can be found, and closed, by what serves them."""

    _ends: tuple[Address, Address] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        super().connection_made(transport)
        if self.client is not None and self.server is not None and self.server[1] is not None:
            self._ends = (self.client, (self.server[0], self.server[1]))
            _OPEN[self._ends] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._ends is not None:
            _OPEN.pop(self._ends, None)
        super().connection_lost(exc)


class NoAnswer(Response):
    """Closes the connection without a byte."""

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,  # noqa: ARG002  ASGI has it.
    ) -> None:
        """Close it."""
        await _hang_up(scope, receive)


class HalfAnswer(Response):
    """Closes the connection in the middle of another answer's body."""

    def __init__(self, whole: Response) -> None:
        """Break an answer."""
        super().__init__(bytes(whole.body), whole.status_code)
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a half and close the connection."""
        half = bytes(self.body)[: len(self.body) // 2]
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _hang_up(scope, receive)


async def _hang_up(scope: Scope, receive: Receive) -> None:
    ends = cast("tuple[Address, Address]", (tuple(scope["client"]), tuple(scope["server"])))
    transport = _OPEN.get(ends)
    if transport is not None:
        transport.abort()
    # uvicorn calls an answer that is cut short a bug, unless the client left first.
    while (await receive())["type"] != "http.disconnect":
        pass
