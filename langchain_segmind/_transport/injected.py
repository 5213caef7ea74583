"""Clients of the user's own: their proxies, TLS settings, hooks and limits apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import (
    AsyncStreamedResponse,
    StreamedResponse,
    bounded_timeout,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_segmind._transport.settings import Settings, Timeout


class InjectedTransport:
    """An `httpx.Client` of the user's: its proxies, TLS settings, hooks and limits apply."""

    def __init__(self, client: httpx.Client, settings: Settings) -> None:
        """Keep the client, which stays the user's to close."""
        self._client = client
        self._base_url = settings.base_url
        self._headers = settings.headers()
        self._timeout = settings.timeout

    def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        built = self._client.build_request(
            request.method,
            self._base_url + request.path,
            headers=self._headers,
            content=request.body,
            timeout=_steps(self._timeout, request.deadline),
        )
        response = self._client.send(built, stream=True, follow_redirects=False)
        if response.is_stream_consumed:
            return StreamedResponse(
                _decoded_head(response), iter([response.content]), response.close
            )
        head = Response(response.status_code, dict(response.headers))
        return StreamedResponse(head, response.iter_raw(), response.close)

    def close(self) -> None:
        """Leave the user's client open."""


class AsyncInjectedTransport:
    """An `httpx.AsyncClient` of the user's."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings) -> None:
        """Keep the client, which stays the user's to close."""
        self._client = client
        self._base_url = settings.base_url
        self._headers = settings.headers()
        self._timeout = settings.timeout

    async def open(self, request: Request) -> AsyncStreamedResponse:
        """Send the request and wait for the head of the answer."""
        built = self._client.build_request(
            request.method,
            self._base_url + request.path,
            headers=self._headers,
            content=request.body,
            timeout=_steps(self._timeout, request.deadline),
        )
        response = await self._client.send(built, stream=True, follow_redirects=False)
        if response.is_stream_consumed:
            return AsyncStreamedResponse(
                _decoded_head(response), _once(response.content), response.aclose
            )
        head = Response(response.status_code, dict(response.headers))
        return AsyncStreamedResponse(head, response.aiter_raw(), response.aclose)

    async def close(self) -> None:
        """Leave the user's client open."""


def _steps(timeout: Timeout, deadline: float | None) -> httpx.Timeout:
    return httpx.Timeout(
        **{name: bounded_timeout(seconds, deadline) for name, seconds in timeout._asdict().items()}
    )


def _decoded_head(response: httpx.Response) -> Response:
    # httpx.MockTransport, and hooks that read, give a body that has been decoded already.
    headers = dict(response.headers)
    headers.pop("content-encoding", None)
    return Response(response.status_code, headers)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
