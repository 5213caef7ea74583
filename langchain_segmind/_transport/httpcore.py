"""Blocking calls, over httpcore: httpx's own transport, without the costs of a client around it."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpcore

from langchain_segmind._protocol.types import Request, Response
from langchain_segmind._transport.base import (
    KEEPALIVE_SECONDS,
    SOCKETS,
    StreamedResponse,
    left,
    lowercase_headers,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from langchain_segmind._transport.settings import Settings


class HttpcoreTransport:
    """Our own blocking client: httpcore's connections, the idle ones on a stack.

    httpcore's pool polls every connection for every request; this one only the last used.
    """

    def __init__(self, settings: Settings, proxy: str | None, tls: ssl.SSLContext | None) -> None:
        """Connect to nothing yet; connections are made when they are needed."""
        url = httpcore.URL(settings.base_url)
        self._prefix = url.target.rstrip(b"/")
        self._url = url
        host = b"[%b]" % url.host if b":" in url.host else url.host
        host = host if url.port is None else b"%b:%d" % (host, url.port)
        headers = [(name.encode(), value.encode()) for name, value in settings.headers().items()]
        self._headers = [(b"Host", host), *headers]
        self._timeout = settings.timeout._asdict()
        # It knows which connection leads through which proxy, and builds them; it keeps none.
        self._factory = httpcore.ConnectionPool(
            ssl_context=tls,
            proxy=None if proxy is None else _httpcore_proxy(proxy),
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=_DeadlineBackend(),
        )
        self._idle: deque[tuple[float, httpcore.ConnectionInterface]] = deque()
        """The connections not in use, each with the time since when; the last used is last."""
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, request: Request) -> StreamedResponse:
        """Send the request and wait for the head of the answer."""
        built = self._built(request)
        connection = self._idle_connection() or self._factory.create_connection(built.url.origin)
        SOCKETS.deadline = request.deadline
        try:
            response = connection.handle_request(built)
        except BaseException:
            connection.close()
            raise

        def close() -> None:
            response.close()
            self._put_back(connection)

        head = Response(response.status, lowercase_headers(response.headers))
        return StreamedResponse(head, iter(response.iter_stream()), close)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their answers are."""
        with self._lock:
            self._is_closed = True
            idle = list(self._idle)
            self._idle.clear()
        for _, connection in idle:
            connection.close()

    def _built(self, request: Request) -> httpcore.Request:
        body = request.body or b""
        url = httpcore.URL(
            scheme=self._url.scheme,
            host=self._url.host,
            port=self._url.port,
            target=self._prefix + request.path.encode(),
        )
        return httpcore.Request(
            request.method,
            url,
            headers=[*self._headers, (b"Content-Length", b"%d" % len(body))],
            content=body,
            extensions={"timeout": self._timeout},
        )

    def _idle_connection(self) -> httpcore.ConnectionInterface | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                _, connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            connection.close()

    def _put_back(self, connection: httpcore.ConnectionInterface) -> None:
        now = time.monotonic()
        surplus: list[httpcore.ConnectionInterface] = []
        with self._lock:
            if connection.is_idle() and not self._is_closed and not _has_surplus(connection):
                self._idle.append((now, connection))
            else:
                surplus.append(connection)
            while self._idle and self._idle[0][0] < now - KEEPALIVE_SECONDS:
                surplus.append(self._idle.popleft()[1])
        for each in surplus:
            each.close()


def _has_surplus(connection: Any) -> bool:
    """Tell that more has come than the answer: httpcore would take it for that of the next call."""
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner  # What leads through a proxy is wrapped more than once.
    state = getattr(connection, "_h11_state", None)
    return state is not None and state.trailing_data[0] != b""


def _httpcore_proxy(proxy: str) -> httpcore.Proxy:
    url = urlsplit(proxy)
    auth = (unquote(url.username), unquote(url.password or "")) if url.username else None
    return httpcore.Proxy(url._replace(netloc=url.netloc.rpartition("@")[2]).geturl(), auth=auth)


def _bounded(timeout: float | None, too_late: type[Exception]) -> float | None:
    seconds = left(SOCKETS.deadline)
    if seconds is None:
        return timeout
    if seconds <= 0:
        raise too_late("the deadline has passed")
    return seconds if timeout is None else min(timeout, seconds)


class _DeadlineBackend(httpcore.NetworkBackend):
    """httpcore's own sockets, each operation bounded by the deadline of the exchange."""

    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _bounded(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(
            self._sockets.connect_tcp(host, port, timeout, local_address, socket_options)
        )


class _DeadlineStream(httpcore.NetworkStream):
    """Writes when the answer is awaited, so that head and body leave in one packet."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._unsent: list[bytes] = []
        self._write_timeout: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            self._send()
        return self._stream.read(max_bytes, _bounded(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent.append(buffer)
        self._write_timeout = timeout

    def _send(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        # As httpcore has it: a server that hangs up early may have answered before.
        with suppress(httpcore.WriteError):
            self._stream.write(data, _bounded(self._write_timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _bounded(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
