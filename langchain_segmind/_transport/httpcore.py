"""Blocking calls, over httpcore2's connection pools."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

import httpcore2
import httpx2

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import (
    KEEPALIVE_SECONDS,
    StreamedResponse,
    lowercase_headers,
)
from langchain_segmind._transport.environment import without_password

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
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=_DeadlineBackend(),
        )
        # What hands a request to a function is also what recorders such as vcrpy wrap; of a pool
        # they know nothing, and would let calls through that are paid again at each replay.
        self._sender = httpx2.MockTransport(self._send)
        self._base_url = settings.base_url
        self._origin = httpcore2.URL(settings.base_url)
        self._headers = httpx2.Headers({"Host": _host(settings.base_url), **settings.headers()})
        self._timeout = settings.timeout._asdict()
        self._idle: deque[tuple[float, httpcore2.ConnectionPool]] = deque()
        """The pools not in use, each with the time since when; the last used is last."""
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        response = self._sender.handle_request(self._built(request))
        stream: Any = response.stream
        head = Response(response.status_code, lowercase_headers(response.headers.raw))
        return StreamedResponse(head, iter(stream), stream.close)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their answers are."""
        with self._lock:
            self._is_closed = True
            idle = [pool for _, pool in self._idle]
            self._idle.clear()
        for pool in idle:
            pool.close()

    def _built(self, request: Request) -> httpx2.Request:
        timeout, deadline = self._timeout, request.deadline
        if deadline is not None:
            timeout = {name: _Timeout(value, deadline) for name, value in timeout.items()}
        built = httpx2.Request(
            request.method,
            _url(self._base_url + request.path),
            headers=self._headers,
            stream=httpx2.ByteStream(request.body or b""),
            extensions={"timeout": timeout},
        )
        if request.body is not None:
            built.headers["Content-Length"] = str(len(request.body))
        return built

    def _send(self, request: httpx2.Request) -> httpx2.Response:
        pool = self._take()
        try:
            response = self._answer(pool, request)
        except BaseException:
            self._put_back(pool)  # Its connection is closed: it was not brought to an end.
            raise

        def close() -> None:
            response.close()
            self._put_back(pool)

        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, close),
            extensions=response.extensions,
        )

    def _answer(
        self, pool: httpcore2.ConnectionPool, request: httpx2.Request
    ) -> httpcore2.Response:
        url = self._origin
        while True:
            built = httpcore2.Request(
                request.method,
                httpcore2.URL(
                    scheme=url.scheme, host=url.host, port=url.port, target=request.url.raw_path
                ),
                headers=request.headers.raw,
                content=request.content,
                extensions=request.extensions,
            )
            response = pool.handle_request(built)
            stream = response.extensions.get("network_stream")
            if not isinstance(stream, _DeadlineStream) or not stream.has_unsent:
                return response
            response.close()  # It was there before it was asked for, and belongs to nobody.

    def _take(self) -> httpcore2.ConnectionPool:
        with self._lock:
            return self._idle.pop()[1] if self._idle else self._new_pool()

    def _put_back(self, pool: httpcore2.ConnectionPool) -> None:
        now = time.monotonic()
        with self._lock:
            self._idle.append((now, pool))
            # A pool that is not asked for anything does not notice that its connection expired.
            oldest = now if self._is_closed else now - KEEPALIVE_SECONDS
            expired = []
            while self._idle and self._idle[0][0] <= oldest:
                expired.append(self._idle.popleft()[1])
        for each in expired:
            each.close()


class _Body(httpx2.SyncByteStream):
    """A body as it comes from a connection, which is free for others when this is closed."""

    def __init__(self, response: httpcore2.Response, close: Callable[[], object]) -> None:
        self._response = response
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._close()


class _Timeout(float):
    """The seconds of one step, which also know when the whole exchange has to be over.

    httpcore2 hands them to the operations on the network as they are.
    """

    __slots__ = ("deadline",)
    deadline: float

    def __new__(cls, seconds: float | None, deadline: float) -> Self:
        timeout = super().__new__(cls, math.inf if seconds is None else seconds)
        timeout.deadline = deadline
        return timeout


def _bounded(timeout: float | None, too_late: type[Exception]) -> float | None:
    """Give the seconds that an operation may take, of its own time-out and of the exchange's."""
    if not isinstance(timeout, _Timeout):
        return timeout
    left = timeout.deadline - time.monotonic()
    if left <= 0:
        raise too_late("the deadline has passed")
    return min(left, timeout)


class _DeadlineBackend(httpcore2.NetworkBackend):
    """httpcore2's own sockets, each operation bounded by the deadline of the exchange."""

    def __init__(self) -> None:
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _bounded(timeout, httpcore2.ConnectTimeout)
        return _DeadlineStream(
            self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        )


class _DeadlineStream(httpcore2.NetworkStream):
    """Writes when the answer is awaited, so that head and body leave in one packet."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._unsent: list[bytes] = []
        self._write_timeout: float | None = None

    @property
    def has_unsent(self) -> bool:
        """Whether nothing has been asked of the server yet."""
        return bool(self._unsent)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            self._send()
        return self._stream.read(max_bytes, _bounded(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent.append(buffer)
        self._write_timeout = timeout

    def _send(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        # As httpcore2 has it: a server that hangs up early may have answered before.
        with suppress(httpcore2.WriteError):
            self._stream.write(data, _bounded(self._write_timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _bounded(timeout, httpcore2.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@lru_cache(maxsize=64)
def _url(url: str) -> httpx2.URL:
    return httpx2.URL(url)


def _host(base_url: str) -> str:
    return httpx2.URL(base_url).netloc.decode("ascii")


def _httpcore_proxy(proxy: str) -> httpcore2.Proxy:
    url = urlsplit(proxy)
    auth = (unquote(url.username), unquote(url.password or "")) if url.username else None
    return httpcore2.Proxy(without_password(proxy), auth=auth)
