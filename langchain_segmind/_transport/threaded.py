"""Awaited calls over blocking ones, for a process that cannot import aiohttp."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from langchain_segmind._transport.base import StreamedResponse

if TYPE_CHECKING:
    from langchain_segmind._protocol.types import Request
    from langchain_segmind._transport.base import Transport


class ThreadedTransport:
    """Each step in a thread: some 32 calls at once, which is enough for the rare case."""

    def __init__(self, transport: Transport) -> None:
        """Take the transport of blocking calls, whose owner closes it."""
        self._transport = transport

    async def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        answer = await asyncio.to_thread(self._transport.open, request)
        read, close = (partial(asyncio.to_thread, step) for step in (answer.read, answer.close))
        return StreamedResponse(answer.head, read, close)

    async def close(self) -> None:
        """Leave the transport open."""
