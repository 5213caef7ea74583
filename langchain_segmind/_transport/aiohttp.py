"""Async calls, over aiohttp, whose pool stays flat with a thousand calls in flight."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from aiohttp.payload import TOO_LARGE_BYTES_BODY

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import (
    KEEPALIVE_SECONDS,
    AsyncStreamedResponse,
    bounded_timeout,
    left,
    lowercase_headers,
)

if TYPE_CHECKING:
    import ssl

    from langchain_segmind._transport.settings import Settings


class AiohttpTransport:
    """Our own async client: an aiohttp session, bound to the event loop it was built on."""

    def __init__(self, settings: Settings, proxy: str | None, tls: ssl.SSLContext | None) -> None:
        """Open the session; connections are made when they are needed, without a limit."""
        self._base_url = settings.base_url
        # Not the session's: aiohttp would send those, and so the key, to a proxy as well.
        self._headers = settings.headers()
        self._timeout = settings.timeout
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=tls or True, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            proxy=proxy,
        )
        home = asyncio.get_running_loop(), threading.get_ident(), os.getpid()
        self._under_way = 0
        self._is_closed = False
        # No `__del__`: of a cycle, which an error's traceback makes, the garbage collector might
        # finalize the session first, and aiohttp would complain that nobody closed it.
        weakref.finalize(self, _close_late, self._session, *home).atexit = False

    async def open(self, request: Request) -> AsyncStreamedResponse:
        """Send the request and wait for the head of the answer."""
        self._under_way += 1
        try:
            response = await self._response(request)
        except BaseException:
            await self._ended()
            raise

        async def close() -> None:
            # It keeps the connection of an answer read to its end, and drops any other.
            response.release()
            await self._ended()

        head = Response(response.status, lowercase_headers(response.raw_headers))
        return AsyncStreamedResponse(head, response.content.iter_any().__aiter__(), close)

    async def _response(self, request: Request) -> aiohttp.ClientResponse:
        url = yarl.URL(self._base_url + request.path, encoded=True)
        return await self._session.request(
            request.method,
            url,
            headers=self._headers,
            data=_payload(request.body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                connect=bounded_timeout(self._timeout.connect, request.deadline),
                sock_read=self._read_timeout(request.deadline),
            ),
        )

    def _read_timeout(self, deadline: float | None) -> float | None:
        """Spare aiohttp a timer for each read where the deadline comes first anyway."""
        seconds, read = left(deadline), self._timeout.read
        return None if read is None or (seconds is not None and seconds <= read) else read

    async def close(self) -> None:
        """Close every connection, once those in use have brought their answers.

        aiohttp would not tell who waits for the rest of an answer, who then waits for ever.
        """
        self._is_closed = True
        if not self._under_way:
            await self._session.close()

    async def _ended(self) -> None:
        self._under_way -= 1
        if self._is_closed:
            await self.close()


def _close_late(
    session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop, thread: int, process: int
) -> None:
    """Close what is still open when its door is collected, on any thread, in its own process."""
    if session.closed or process != os.getpid():
        return
    if loop.is_running() and thread != threading.get_ident():
        loop.call_soon_threadsafe(_abort, session)
    else:
        _abort(session)


class _Protocol(ResponseHandler):
    """A connection that tells whoever reads a body when the rest of it cannot be read.

    aiohttp closes a connection with a broken chunk, and leaves the reader to wait for ever.
    """

    def set_exception(self, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        super().set_exception(exc, *args, **kwargs)
        if isinstance(exc, HttpProcessingError) and self._payload is not None:
            self._payload.set_exception(aiohttp.ClientPayloadError(str(exc)))


class _Connector(aiohttp.TCPConnector):
    """Connections on which nothing has come since they were last used.

    aiohttp looks for surplus data when it puts a connection back, not when it takes it out again;
    an answer that nobody asked for would be that of the next call.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_Protocol, loop=self._loop))

    async def _get(self, key: Any, traces: list[Any]) -> Any:
        while (kept := await super()._get(key, traces)) is not None:
            if kept.protocol is None or not kept.protocol.should_close:
                return kept
            kept.close()
        return None


def _abort(session: aiohttp.ClientSession) -> None:
    """Close a session without waiting, and also after its event loop was closed."""
    kept = getattr(session.connector, "_conns", {}).values()
    transports = [protocol.transport for each in kept for protocol, *_ in each]
    closing = session.close()
    with suppress(StopIteration, RuntimeError):
        closing.send(None)
    closing.close()
    for transport in transports:
        if transport is not None:
            _sever(transport)


def _sever(transport: Any) -> None:
    # A closed loop refuses to close a transport, which then is heard of as a ResourceWarning.
    try:
        transport.close()
    except RuntimeError:
        protocol = getattr(transport, "_ssl_protocol", None)
        transport = getattr(protocol, "_transport", transport)
        if (connection := getattr(transport, "_sock", None)) is not None:
            connection.close()
            transport._sock = None  # noqa: SLF001 - asyncio has no other way.


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Wrap a large body, a prompt with images, which aiohttp then sends piece by piece."""
    return body if body is None or len(body) <= TOO_LARGE_BYTES_BODY else io.BytesIO(body)
