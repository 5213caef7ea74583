"""Blocking calls, over httpcore2's connection pool."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from functools import lru_cache
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
    from collections.abc import Iterable, Iterator

    from langchain_segmind._transport.settings import Settings


class HttpcoreTransport:
    """Our own blocking client: a pool of connections, without the costs of a client around it."""

    def __init__(self, settings: Settings, proxy: str | None, tls: ssl.SSLContext | None) -> None:
        """Connect to nothing yet; connections are made when they are needed, without a limit."""
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls,
            proxy=None if proxy is None else _httpcore_proxy(proxy),
            max_connections=None,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=_DeadlineBackend(),
        )
        # What hands a request to a function is also what recorders such as vcrpy wrap; of the pool
        # they know nothing, and would let calls through that are paid again at each replay.
        self._sender = httpx2.MockTransport(self._send)
        self._base_url = settings.base_url
        self._headers = httpx2.Headers({"Host": _host(settings.base_url), **settings.headers()})
        self._timeout = settings.timeout._asdict()
        self._lock = threading.Lock()
        self._under_way = 0
        self._is_closed = False

    def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        with self._lock:
            self._under_way += 1
        try:
            response = self._sender.handle_request(self._built(request))
        except BaseException:
            self._end()
            raise
        stream: Any = response.stream

        def close() -> None:
            stream.close()
            self._end()

        head = Response(response.status_code, lowercase_headers(response.headers.raw))
        return StreamedResponse(head, iter(stream), close)

    def close(self) -> None:
        """Close every connection, once those in use have brought their answers."""
        self._is_closed = True
        if not self._under_way:
            self._pool.close()

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
        if self._is_closed:
            self.close()

    def _built(self, request: Request) -> httpx2.Request:
        headers = self._headers.copy()
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
        timeout, deadline = self._timeout, request.deadline
        if deadline is not None:
            timeout = {name: _Timeout(value, deadline) for name, value in timeout.items()}
        return httpx2.Request(
            request.method,
            _url(self._base_url + request.path),
            headers=headers,
            stream=httpx2.ByteStream(request.body or b""),
            extensions={"timeout": timeout},
        )

    def _send(self, request: httpx2.Request) -> httpx2.Response:
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        while True:
            built = httpcore2.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.content,
                extensions=request.extensions,
            )
            response = self._pool.handle_request(built)
            stream = response.extensions.get("network_stream")
            if not isinstance(stream, _DeadlineStream) or not stream.has_unsent:
                break
            response.close()  # It was there before it was asked for, and belongs to nobody.
        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )


class _Body(httpx2.SyncByteStream):
    """A body as it comes from the pool, which has its connection back when this is closed."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


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
