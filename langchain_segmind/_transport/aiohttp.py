"""Awaited calls, over aiohttp, whose pool stays flat with a thousand calls in flight."""

from __future__ import annotations

import asyncio
import io
import math
import os
import select
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import (
    KEEPALIVE_SECONDS,
    Patience,
    StreamedResponse,
    bounded_timeout,
    seconds_left,
)
from langchain_segmind._transport.environment import credentials_of, without_password

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from aiohttp.connector import Connection

    from langchain_segmind._transport.settings import Settings

_SENT_IN_ONE_PIECE = 2**20
"""Bytes: aiohttp warns of larger ones, which would hold up the event loop."""


class AiohttpTransport:
    """Our own async client: an aiohttp session, bound to the event loop it was built on."""

    def __init__(self, settings: Settings, proxy: str | None, tls: ssl.SSLContext | None) -> None:
        """Open the session; connections are made when they are needed, without a limit."""
        self._base_url = settings.base_url
        # Not the session's: aiohttp would send those, and so the key, to a proxy as well.
        self._headers = settings.headers()
        credentials = None if proxy is None else credentials_of(proxy)
        authorization = {"Proxy-Authorization": f"Basic {credentials[2]}"} if credentials else {}
        # A proxy is told with the request to open a tunnel, or else with each request.
        self._proxy_headers = authorization if settings.is_https else None
        if not settings.is_https:
            self._headers |= authorization
        self._timeout = settings.timeout
        self._connector = _Connector(limit=0, ssl=tls or True, keepalive_timeout=KEEPALIVE_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            proxy=None if proxy is None else without_password(proxy),  # Its errors tell the URL.
        )
        home = asyncio.get_running_loop(), threading.get_ident(), os.getpid()
        self._under_way = 0
        self._is_closed = False
        # No `__del__`: of a cycle, which an error's traceback makes, the garbage collector might
        # finalize the session first, and aiohttp would complain that nobody closed it.
        weakref.finalize(self, _close_late, self._session, *home).atexit = False

    async def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        self._under_way += 1
        try:
            response = await self._send(request)
        except BaseException:
            await self._end()
            raise
        head = Response(response.status, _lowercase_headers(response))
        self._connector.patience.heed(head.headers)
        close = partial(self._release, response, self._connector.begin_to_read(response))
        return StreamedResponse(head, response.content.readany, close)

    async def _release(self, response: aiohttp.ClientResponse, use: _Use) -> None:
        # It keeps the connection of an answer read to its end, and drops any other.
        use.content = None
        response.release()
        await self._end()

    def _send(self, request: Request) -> Awaitable[aiohttp.ClientResponse]:
        body = request.body
        return self._session.request(
            request.method,
            _url(self._base_url + request.path),
            headers=self._headers,
            data=io.BytesIO(body) if body and len(body) > _SENT_IN_ONE_PIECE else body,
            proxy_headers=self._proxy_headers,
            allow_redirects=False,
            timeout=self._time_left(request.deadline),
        )

    def _time_left(self, deadline: float | None) -> aiohttp.ClientTimeout:
        connect, read = self._timeout.connect, self._timeout.read
        if (left := seconds_left(deadline)) is None:
            return aiohttp.ClientTimeout(connect=connect, sock_read=read)
        if left <= 0:  # For aiohttp that would be no limit.
            raise aiohttp.ConnectionTimeoutError("the deadline has passed")
        return aiohttp.ClientTimeout(
            total=left,
            ceil_threshold=math.inf,  # Not to whole seconds.
            connect=bounded_timeout(connect, deadline),
            # No timer for each read where the deadline comes first anyway.
            sock_read=None if read is None or left <= read else read,
        )

    async def close(self) -> None:
        """Close every connection, once those in use have brought their answers."""
        self._is_closed = True
        if not self._under_way:
            await self._session.close()

    async def _end(self) -> None:
        self._under_way -= 1
        if self._is_closed:
            await self.close()


@dataclass(slots=True)
class _Use:
    """What a connection is doing: it brings an answer, or is idle since a time."""

    content: aiohttp.StreamReader | None = None
    idle_since: float = math.inf
    is_readable: Callable[[], bool] = bool
    """Tells whether anything has come on it."""

    def begin_to_idle(self) -> None:
        self.idle_since = time.monotonic()

    def end_to_idle(self) -> float:
        """Give the seconds for which it was idle."""
        idle, self.idle_since = time.monotonic() - self.idle_since, math.inf
        return idle


class _Connector(aiohttp.TCPConnector):
    """Connections that the server has most likely kept, and on which nothing came meanwhile.

    aiohttp asks for neither when it takes one out of its pool: the request would be lost, or
    answered by what nobody asked for.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.patience = Patience()
        self._uses: dict[object, _Use] = {}
        """By the protocol of an open connection."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:  # noqa: ASYNC109 - aiohttp's.
        while True:
            connection = await super().connect(req, traces, timeout)
            use = self._uses.get(connection.protocol) or self._begin_to_use(connection)
            try:
                if use.idle_since == math.inf or await self._is_kept(connection, use):
                    break
            except BaseException:
                connection.close()
                raise
            connection.close()
        connection.add_callback(use.begin_to_idle)
        return connection

    def begin_to_read(self, response: aiohttp.ClientResponse) -> _Use:
        """Let who reads a body know when its connection ends.

        aiohttp closes a connection with a broken chunk, and leaves the reader to wait for the rest.
        """
        connection = response.connection
        use = _Use() if connection is None else self._uses.get(connection.protocol, _Use())
        use.content = response.content
        return use

    def _begin_to_use(self, connection: Connection) -> _Use:
        use, protocol = _Use(), connection.protocol
        if protocol is not None and (closed := protocol.closed) is not None:
            self._uses[protocol] = use
            if connection.transport is not None:
                use.is_readable = _look_at(connection.transport.get_extra_info("socket"))
            closed.add_done_callback(partial(self._end, protocol, use))
        return use

    async def _is_kept(self, connection: Connection, use: _Use) -> bool:
        idle, transport = use.end_to_idle(), connection.transport
        if transport is None or idle >= self.patience.seconds:
            return False
        if transport.get_extra_info("ssl_object") is not None:
            for _ in range(_STEPS_OF_TLS_CLOSING):
                await asyncio.sleep(0)
        protocol = connection.protocol
        if protocol is None or protocol.should_close or connection.closed:
            return False
        return not use.is_readable()

    def _end(self, protocol: object, use: _Use, closed: asyncio.Future[None]) -> None:
        """Tell who reads; else take it from the server how long it keeps a connection."""
        self._uses.pop(protocol, None)
        if not closed.cancelled():
            closed.exception()  # Else asyncio would say that nobody asked.
        content = use.content
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection ended before it did"))
        elif not self.closed and (idle := use.end_to_idle()) < self.patience.seconds:
            self.patience.learn(idle)


_STEPS_OF_TLS_CLOSING = 4
"""Turns of the event loop in which asyncio knows the end of a TLS connection, and tells nobody."""


def _look_at(sock: Any) -> Callable[[], bool]:
    """Give what tells whether a socket can be read, made once for all calls on it."""
    if not hasattr(select, "poll"):  # Windows.
        return lambda: bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return lambda: bool(poll.poll(0))


_url = lru_cache(maxsize=64)(partial(yarl.URL, encoded=True))


def _lowercase_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Give headers by their name in lower case; a recorder's answer has no raw ones."""
    return {
        name.lower(): value
        if value.isascii()
        else value.encode("utf-8", "surrogateescape").decode("latin-1")
        for name, value in response.headers.items()
    }


_INHERITED: list[object] = []
"""Kept in a forked child, where to collect them would close what belongs to the parent."""


def _close_late(
    session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop, thread: int, process: int
) -> None:
    """Close what is still open when its transport is collected, on any thread."""
    if session.closed:
        return
    if process != os.getpid():
        _INHERITED.append(session)
    elif loop.is_running() and thread != threading.get_ident():
        loop.call_soon_threadsafe(_abort, session)
    else:
        _abort(session)


def _abort(session: aiohttp.ClientSession) -> None:
    """Close a session without waiting, and also after its event loop was closed."""
    closing = session.close()
    with suppress(StopIteration, RuntimeError):
        closing.send(None)
    closing.close()
