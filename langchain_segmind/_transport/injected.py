"""Clients of the user's own, of httpx or httpx2: their proxies, TLS, hooks and limits apply.

Neither library is imported here: what is used of them is the same in both.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import StreamedResponse, bounded_timeout, seconds_left

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_segmind._transport.settings import AsyncHttpClient, HttpClient, Settings


class InjectedTransport:
    """A blocking client of the user's."""

    def __init__(self, client: HttpClient, settings: Settings) -> None:
        """Keep the client, which stays the user's to close."""
        self._client: Any = client
        self._settings = settings

    def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        built = self._client.build_request(**_arguments(request, self._settings))
        response = self._client.send(built, stream=True, follow_redirects=False)
        is_read = response.is_stream_consumed
        chunks = iter([response.content]) if is_read else response.iter_raw()

        def read() -> bytes:
            chunk = next(filter(None, chunks), b"")
            if request.deadline is not None and time.monotonic() > request.deadline:
                raise TimeoutError
            return chunk

        return StreamedResponse(_head(response), read, response.close)

    def close(self) -> None:
        """Leave the user's client open."""


class AsyncInjectedTransport:
    """An async client of the user's."""

    def __init__(self, client: AsyncHttpClient, settings: Settings) -> None:
        """Keep the client, which stays the user's to close."""
        self._client: Any = client
        self._settings = settings

    async def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        built = self._client.build_request(**_arguments(request, self._settings))
        async with asyncio.timeout(seconds_left(request.deadline)):
            response = await self._client.send(built, stream=True, follow_redirects=False)
        is_read = response.is_stream_consumed
        chunks = _once(response.content) if is_read else response.aiter_raw()

        async def read() -> bytes:
            async with asyncio.timeout(seconds_left(request.deadline)):
                async for chunk in chunks:
                    if chunk:
                        return bytes(chunk)
            return b""

        return StreamedResponse(_head(response), read, response.aclose)

    async def close(self) -> None:
        """Leave the user's client open."""


def _arguments(request: Request, settings: Settings) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": settings.base_url + request.path,
        "headers": settings.headers(),
        "content": request.body,
        # Four numbers, which both libraries take; neither takes the other's object.
        "timeout": tuple(bounded_timeout(step, request.deadline) for step in settings.timeout),
    }


def _head(response: Any) -> Response:
    headers = dict(response.headers)
    if response.is_stream_consumed:  # A mock transport, or a hook, has read and so decoded it.
        headers.pop("content-encoding", None)
    return Response(response.status_code, headers)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
