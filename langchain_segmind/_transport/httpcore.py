"""Blocking calls, over httpcore2's connection pools."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import (
    Patience,
    StreamedResponse,
    lowercase_headers,
)
from langchain_segmind._transport.environment import credentials_of, without_password

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from langchain_segmind._transport.settings import Settings


class HttpcoreTransport:
    """Our own blocking client: pools of one connection each, the idle ones on a stack.

    A pool of many looks at each of its connections for every request; here the last used is taken.
    """

    def __init__(self, settings: Settings, proxy: str | None, tls: ssl.SSLContext | None) -> None:
        """Connect to nothing yet; connections are made when they are needed, without a limit."""
        self._new_pool = partial(
            httpcore2.ConnectionPool,
            ssl_context=tls,
            proxy=None if proxy is None else _httpcore_proxy(proxy),
        )
        # What hands a request to a function is also what recorders such as vcrpy wrap; of a pool
        # they know nothing, and would let calls through that are paid again at each replay.
        self._sender = httpx2.MockTransport(self._send)
        self._base_url = settings.base_url
        self._origin = httpcore2.URL(settings.base_url)
        self._headers = httpx2.Headers({"Host": _host(settings.base_url), **settings.headers()})
        self._timeout = settings.timeout._asdict()
        self._patience = Patience()
        self._idle: deque[_Line] = deque()
        """Those not in use; the last used is last."""
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        built = httpx2.Request(
            request.method,
            _url(self._base_url + request.path),
            headers=self._headers,
            stream=httpx2.ByteStream(request.body or b""),
            extensions={"timeout": self._timeout, "deadline": request.deadline},
        )
        response = self._sender.handle_request(built)
        stream: Any = response.stream
        head = Response(response.status_code, lowercase_headers(response.headers.raw))
        self._patience.heed(head.headers)
        return StreamedResponse(head, partial(next, iter(stream), b""), stream.close)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their answers are."""
        with self._lock:
            self._is_closed = True
            idle = list(self._idle)
            self._idle.clear()
        for line in idle:
            line.pool.close()

    def _send(self, request: httpx2.Request) -> httpx2.Response:
        line = self._take()
        line.deadline = request.extensions["deadline"]
        try:
            response = self._answer(line, request)
        except BaseException:
            self._put_back(line)  # Its connection is closed: it was not brought to an end.
            raise

        def close() -> None:
            response.close()
            self._put_back(line)

        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, close),
            extensions=response.extensions,
        )

    def _answer(self, line: _Line, request: httpx2.Request) -> httpcore2.Response:
        url, content, headers = self._origin, request.content, request.headers.raw
        if content:
            headers.append((b"Content-Length", b"%d" % len(content)))
        built = httpcore2.Request(
            request.method,
            _core_url(scheme=url.scheme, host=url.host, port=url.port, target=request.url.raw_path),
            headers=headers,
            content=content,
            extensions=request.extensions,
        )
        while True:
            try:
                response = line.pool.handle_request(built)
            except _ClosedError:  # Nothing was sent; the pool makes a new connection.
                self._patience.learn(time.monotonic() - line.idle_since)
                continue
            if not line.unsent:
                return response
            response.close()  # It was there before it was asked for, and belongs to nobody.

    def _take(self) -> _Line:
        now = time.monotonic()
        with self._lock:
            expired = self._pop_expired(now)
            # The one idle for longest tells first how long the server keeps them.
            if len(self._idle) > 1 and self._idle[0].is_closed():
                self._patience.learn(now - self._idle[0].idle_since)
                expired += self._pop_expired(now)
            line = self._idle.pop() if self._idle else _Line(self._new_pool)
        for each in expired:
            each.pool.close()
        return line

    def _put_back(self, line: _Line) -> None:
        line.idle_since = time.monotonic()
        with self._lock:
            is_kept = line.stream is not None and not self._is_closed
            if is_kept:
                self._idle.append(line)
        if not is_kept:
            line.pool.close()

    def _pop_expired(self, now: float) -> list[_Line]:
        oldest, expired = now - self._patience.seconds, []
        while self._idle and self._idle[0].idle_since <= oldest:
            expired.append(self._idle.popleft())
        return expired


class _Body(httpx2.SyncByteStream):
    """A body as it comes from a connection, which is free for others when this is closed."""

    def __init__(self, response: httpcore2.Response, close: Callable[[], object]) -> None:
        self._stream: Any = response.stream
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        self._close()


class _ClosedError(httpcore2.ConnectError):
    """The server has closed a kept connection, or sent what nobody asked for; nothing was sent."""


class _Line(httpcore2.NetworkBackend):
    """One connection at a time over httpcore2's own sockets, for one exchange at a time.

    The time-outs of httpcore2 are those of single steps: each is bounded by the exchange's
    deadline, too.
    """

    def __init__(self, new_pool: Callable[..., httpcore2.ConnectionPool]) -> None:
        self.pool = new_pool(network_backend=self)
        self.deadline: float | None = None
        self.unsent: list[bytes] = []
        """What has been written, and leaves when the answer is awaited: in one packet."""
        self.idle_since = math.inf
        self.stream: httpcore2.NetworkStream | None = None
        """What leads to the server, while the connection is open."""
        self._sockets = httpcore2.SyncBackend()

    def is_closed(self) -> bool:
        """Tell that the server has closed the connection, or sent what nobody asked for."""
        return self.stream is None or bool(self.stream.get_extra_info("is_readable"))

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        self.unsent.clear()
        timeout = self.bounded(timeout, httpcore2.ConnectTimeout)
        return _Stream(
            self._sockets.connect_tcp(host, port, timeout, local_address, socket_options), self
        )

    def bounded(self, timeout: float | None, too_late: type[Exception]) -> float | None:
        """Give the seconds that a step may take."""
        if self.deadline is None:
            return timeout
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise too_late("the deadline has passed")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore2.NetworkStream):
    """The bytes of one connection, in the clear or over TLS."""

    def __init__(self, stream: httpcore2.NetworkStream, line: _Line) -> None:
        self._stream = line.stream = stream
        self._line = line
        self._is_new = True
        self._write_timeout: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._line.unsent:
            self._send()
        return self._stream.read(max_bytes, self._line.bounded(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._line.unsent.append(buffer)
        self._write_timeout = timeout

    def _send(self) -> None:
        # The last moment to look: of what is sent into a closed connection the outcome is unknown.
        if not self._is_new and self._line.is_closed():
            raise _ClosedError("the server has closed the connection")
        self._is_new = False
        data = b"".join(self._line.unsent)
        self._line.unsent.clear()
        timeout = self._line.bounded(self._write_timeout, httpcore2.WriteTimeout)
        # As httpcore2 has it: a server that hangs up early may have answered before.
        with suppress(httpcore2.WriteError):
            self._stream.write(data, timeout)

    def close(self) -> None:
        self._line.stream = None
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = self._line.bounded(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._line)

    def get_extra_info(self, info: str) -> Any:
        # The pool would look, too, when it takes a connection and when it has it back.
        return False if info == "is_readable" else self._stream.get_extra_info(info)


@lru_cache(maxsize=64)
def _url(url: str) -> httpx2.URL:
    return httpx2.URL(url)


_core_url = lru_cache(maxsize=64)(httpcore2.URL)


def _host(base_url: str) -> str:
    return httpx2.URL(base_url).netloc.decode("ascii")


def _httpcore_proxy(proxy: str) -> httpcore2.Proxy:
    credentials = credentials_of(proxy)
    return httpcore2.Proxy(without_password(proxy), auth=credentials and credentials[:2])
