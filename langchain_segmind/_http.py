"""The only I/O: driving flows over HTTP, and building, sharing and closing clients.

Sync calls go over httpcore, httpx's own transport, and async ones over aiohttp, whose pool stays
flat with a thousand calls in flight. A client the user brought is used as it is. All four are a
`Door`: it opens an exchange and gives status, headers and an iterator of raw chunks.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpcore
import httpx
import yarl
from aiohttp.client_exceptions import ConnectionTimeoutError, SocketTimeoutError
from aiohttp.payload import TOO_LARGE_BYTES_BODY

from langchain_segmind._account import account_of
from langchain_segmind._body import ACCEPT_ENCODING, BodyDecoder, UnreadableBodyError
from langchain_segmind._exchange import Failure, Outcome, Permit, Reply, Request, T, Wait
from langchain_segmind._secrets import Outcomes, blotter_for

if TYPE_CHECKING:
    import ssl
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Generator,
        Iterable,
        Iterator,
        Mapping,
    )

    from langchain_core.rate_limiters import BaseRateLimiter
    from pydantic import SecretStr

    from langchain_segmind._exchange import Flow

KEEPALIVE_SECONDS = 4.0
"""How long an idle connection is kept: less than uvicorn's and most proxies' 5 s, because a request
sent into a connection that is just being closed has an unknown outcome."""


# --- Driving ---------------------------------------------------------------------------------


def run(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result, blocking."""
    outcome: Outcome = None
    try:
        while True:
            match flow.send(outcome):
                case Request() as request:
                    outcome = clients.redacted(exchange(clients.sync_door(), request))
                case Wait(seconds):
                    outcome = None
                    time.sleep(seconds)
                case Permit() as permit:
                    outcome = None
                    if limiter is not None and _counts(limiter, permit):
                        limiter.acquire(blocking=True)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()  # At once: a flow that is cut short has something to leave behind.


async def arun(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result on the running event loop."""
    outcome: Outcome = None
    try:
        while True:
            match flow.send(outcome):
                case Request() as request:
                    door = await clients.async_door()
                    outcome = clients.redacted(await aexchange(door, request))
                case Wait(seconds):
                    outcome = None
                    await asyncio.sleep(seconds)
                case Permit() as permit:
                    outcome = None
                    if limiter is not None and _counts(limiter, permit):
                        await limiter.aacquire(blocking=True)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()  # At once: a flow that is cut short has something to leave behind.


def _counts(limiter: BaseRateLimiter, permit: Permit) -> bool:
    return not permit.poll or getattr(limiter, "count_polls", False)


def exchange(door: Door, request: Request) -> Reply | Failure:
    """Perform one request; what the network did becomes a value, never an exception."""
    head: Reply | None = None
    handed_over = False
    answer: Opened | None = None
    try:
        answer = door.open(request)
        head = answer.head
        decoder = BodyDecoder(head.headers.get("content-encoding", ""))
        if request.accept_stream and _is_event_stream(head):
            handed_over = True
            chunks = _stream(answer, decoder, request.deadline)
            return Reply(head.status, head.headers, chunks=chunks)
        body = b"".join(_decoded(answer, decoder, request.deadline))
        return Reply(head.status, head.headers, body)
    except _NETWORK_ERRORS as error:
        return failure_from(error, head)
    finally:
        if answer is not None and not handed_over:
            answer.close()


async def aexchange(door: AsyncDoor, request: Request) -> Reply | Failure:
    """Perform one request; what the network did becomes a value, never an exception."""
    head: Reply | None = None
    handed_over = False
    answer: AsyncOpened | None = None
    try:
        async with asyncio.timeout(_left(request.deadline)):
            answer = await door.open(request)
            head = answer.head
            decoder = BodyDecoder(head.headers.get("content-encoding", ""))
            if request.accept_stream and _is_event_stream(head):
                handed_over = True
                chunks = _astream(answer, decoder, request.deadline)
                return Reply(head.status, head.headers, chunks=chunks)
            parts = [decoder.feed(chunk) async for chunk in answer.chunks]
            decoder.finish()
            return Reply(head.status, head.headers, b"".join(parts))
    except _NETWORK_ERRORS as error:
        return failure_from(error, head)
    finally:
        if answer is not None and not handed_over:
            await answer.close()


class StreamBrokenError(Exception):
    """An event stream that had begun did not come to its end."""

    def __init__(self, failure: Failure) -> None:
        """Keep what happened."""
        super().__init__(failure.detail)
        self.failure = failure


def _stream(answer: Opened, decoder: BodyDecoder, deadline: float | None) -> Generator[bytes]:
    failure = None
    try:
        yield from _decoded(answer, decoder, deadline)
    except _NETWORK_ERRORS as error:
        failure = failure_from(error, answer.head)
    finally:
        answer.close()
    if failure is not None:
        raise StreamBrokenError(failure)


async def _astream(
    answer: AsyncOpened, decoder: BodyDecoder, deadline: float | None
) -> AsyncGenerator[bytes]:
    failure = None
    try:
        while True:
            async with asyncio.timeout(_left(deadline)):
                chunk = await anext(answer.chunks, None)
            if chunk is None:
                decoder.finish()
                break
            yield decoder.feed(chunk)
    except _NETWORK_ERRORS as error:
        failure = failure_from(error, answer.head)
    finally:
        await answer.close()
    if failure is not None:
        raise StreamBrokenError(failure)


def _decoded(answer: Opened, decoder: BodyDecoder, deadline: float | None) -> Iterator[bytes]:
    while True:
        _SOCKETS.deadline = deadline  # Before each read: a generator may change threads.
        chunk = next(answer.chunks, None)
        if chunk is None:
            return decoder.finish()
        yield decoder.feed(chunk)
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError


def _is_event_stream(head: Reply) -> bool:
    content_type = head.headers.get("content-type", "")
    return head.status == httpx.codes.OK and content_type.lower().startswith("text/event-stream")


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def _step(timeout: float | None, deadline: float | None) -> float | None:
    """Let a step end just before the deadline, so that what was never sent is told as that."""
    if deadline is None:
        return timeout
    left = max(0.001, (deadline - time.monotonic()) * 0.98)
    return left if timeout is None else min(timeout, left)


def _steps(timeout: httpx.Timeout, deadline: float | None) -> httpx.Timeout:
    return httpx.Timeout(
        **{name: _step(step, deadline) for name, step in timeout.as_dict().items()}
    )


# --- What the network did ----------------------------------------------------------------------

_UNSENT = (
    httpcore.ConnectError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.LocalProtocolError,
    httpx.ConnectError,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
_UNSENT_TIMEOUT = (
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    ConnectionTimeoutError,
)
_TIMEOUT = (
    httpcore.TimeoutException,
    httpx.TimeoutException,
    SocketTimeoutError,
    aiohttp.ServerTimeoutError,
    TimeoutError,
)
_LOST = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpx.HTTPError,
    aiohttp.ClientError,
    OSError,
)
_NETWORK_ERRORS = (*_UNSENT, *_UNSENT_TIMEOUT, *_TIMEOUT, *_LOST, UnreadableBodyError)


def failure_from(error: Exception, head: Reply | None) -> Failure:
    """Tell what an exception of any of the libraries means for the request."""
    detail = str(error) or type(error).__name__
    if isinstance(error, UnreadableBodyError):
        return Failure("unreadable", detail, head=head)
    if isinstance(error, _UNSENT):
        return Failure("unsent", detail, sent=False)
    if isinstance(error, aiohttp.ClientResponseError):  # What came is no HTTP.
        return Failure("unreadable", error.message, head=head)
    if isinstance(error, _UNSENT_TIMEOUT):
        return Failure("timeout", "no connection in time", sent=False)
    if isinstance(error, _TIMEOUT):
        return Failure("timeout", "no answer in time", head=head)
    if isinstance(error, httpx.HTTPStatusError):  # A hook of the user's called raise_for_status.
        head = _decoded_head(error.response)
    return Failure("lost", detail, head=head)


# --- Doors -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Opened:
    """An answer whose head has come; its chunks are still compressed."""

    head: Reply
    chunks: Iterator[bytes]
    close: Callable[[], object]


@dataclass(slots=True)
class AsyncOpened:
    """As `Opened`, on an event loop."""

    head: Reply
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[object]]


class Door(Protocol):
    """Opens blocking exchanges."""

    def open(self, request: Request) -> Opened: ...
    def close(self) -> None: ...


class AsyncDoor(Protocol):
    """Opens exchanges on the event loop it was built on."""

    async def open(self, request: Request) -> AsyncOpened: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Where requests go, and how; equal settings may share what is costly to build."""

    base_url: str
    api_key: SecretStr
    default_headers: Mapping[str, str] = field(repr=False)
    timeout: httpx.Timeout
    http_client: httpx.Client | None = None
    http_async_client: httpx.AsyncClient | None = None

    def headers(self) -> dict[str, str]:
        """Give the headers of every request: the only place where the key is spelled out."""
        headers = {
            "User-Agent": "langchain-segmind",
            "Accept": "application/json, text/event-stream",
            **self.default_headers,
            "Accept-Encoding": ACCEPT_ENCODING,
            "Content-Type": "application/json",
            "x-api-key": self.api_key.get_secret_value(),
        }
        # The last of a name counts, however it is spelled: no header is sent twice.
        return dict({name.lower(): (name, value) for name, value in headers.items()}.values())

    @property
    def is_https(self) -> bool:
        """Whether TLS is needed to get there."""
        return self.base_url.startswith("https:")


class PoolDoor:
    """Our own blocking client: httpcore's connections, the idle ones on a stack.

    httpcore's pool polls every connection for every request; this one only the last used.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet; connections are made when they are needed."""
        url = httpcore.URL(settings.base_url)
        self._prefix = url.target.rstrip(b"/")
        self._url = url
        host = b"[%b]" % url.host if b":" in url.host else url.host
        host = host if url.port is None else b"%b:%d" % (host, url.port)
        headers = [(name.encode(), value.encode()) for name, value in settings.headers().items()]
        self._headers = [(b"Host", host), *headers]
        self._timeout = settings.timeout.as_dict()
        proxy = proxy_for(settings.base_url)
        # It knows which connection leads through which proxy, and builds them; it keeps none.
        self._factory = httpcore.ConnectionPool(
            ssl_context=ssl_context() if settings.is_https or proxy else None,
            proxy=None if proxy is None else _httpcore_proxy(proxy),
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=_DeadlineBackend(),
        )
        self._idle: deque[tuple[float, httpcore.ConnectionInterface]] = deque()
        """The connections not in use, each with the time since when; the last used is last."""
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, request: Request) -> Opened:
        """Send the request and wait for the head of the answer."""
        built = self._built(request)
        connection = self._idle_connection() or self._factory.create_connection(built.url.origin)
        _SOCKETS.deadline = request.deadline
        try:
            response = connection.handle_request(built)
        except BaseException:
            connection.close()
            raise

        def close() -> None:
            response.close()
            self._put_back(connection)

        headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in response.headers}
        return Opened(Reply(response.status, headers), iter(response.iter_stream()), close)

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
            if connection.is_idle() and not self._is_closed:
                self._idle.append((now, connection))
            else:
                surplus.append(connection)
            while self._idle and self._idle[0][0] < now - KEEPALIVE_SECONDS:
                surplus.append(self._idle.popleft()[1])
        for each in surplus:
            each.close()


class ClientDoor:
    """An `httpx.Client` of the user's: its proxies, TLS settings, hooks and limits apply."""

    def __init__(self, client: httpx.Client, settings: Settings) -> None:
        """Keep the client, which stays the user's to close."""
        self._client = client
        self._base_url = settings.base_url
        self._headers = settings.headers()
        self._timeout = settings.timeout

    def open(self, request: Request) -> Opened:
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
            return Opened(_decoded_head(response), iter([response.content]), response.close)
        head = Reply(response.status_code, dict(response.headers))
        return Opened(head, response.iter_raw(), response.close)

    def close(self) -> None:
        """Leave the user's client open."""


class AiohttpDoor:
    """Our own async client: an aiohttp session, bound to the event loop it was built on."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        """Open the session; connections are made when they are needed, without a limit."""
        proxy = proxy_for(settings.base_url)
        self._base_url = settings.base_url
        # Not the session's: aiohttp would send those, and so the key, to a proxy as well.
        self._headers = settings.headers()
        self._timeout = settings.timeout
        self._loop = asyncio.get_running_loop()
        self._thread, self._process = threading.get_ident(), os.getpid()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=tls or True, keepalive_timeout=KEEPALIVE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            proxy=proxy,
        )

    async def open(self, request: Request) -> AsyncOpened:
        """Send the request and wait for the head of the answer."""
        url = yarl.URL(self._base_url + request.path, encoded=True)
        response = await self._session.request(
            request.method,
            url,
            headers=self._headers,
            data=_payload(request.body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                connect=_step(self._timeout.connect, request.deadline),
                sock_read=self._timeout.read,
            ),
        )
        return AsyncOpened(
            Reply(response.status, _named(response.raw_headers)),
            response.content.iter_any().__aiter__(),
            _closing(response),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    def __del__(self) -> None:
        """Close what is still open, where the event loop ended too early to be asked."""
        session = getattr(self, "_session", None)
        if session is None or session.closed or self._process != os.getpid():
            return
        if self._loop.is_running() and self._thread != threading.get_ident():
            self._loop.call_soon_threadsafe(_abort, session)
        else:
            _abort(session)


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


class AsyncClientDoor:
    """An `httpx.AsyncClient` of the user's."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings) -> None:
        """Keep the client, which stays the user's to close."""
        self._client = client
        self._base_url = settings.base_url
        self._headers = settings.headers()
        self._timeout = settings.timeout

    async def open(self, request: Request) -> AsyncOpened:
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
            return AsyncOpened(_decoded_head(response), _once(response.content), response.aclose)
        head = Reply(response.status_code, dict(response.headers))
        return AsyncOpened(head, response.aiter_raw(), response.aclose)

    async def close(self) -> None:
        """Leave the user's client open."""


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Wrap a large body, a prompt with images, which aiohttp then sends piece by piece."""
    return body if body is None or len(body) <= TOO_LARGE_BYTES_BODY else io.BytesIO(body)


def _named(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _decoded_head(response: httpx.Response) -> Reply:
    # httpx.MockTransport, and hooks that read, give a body that has been decoded already.
    headers = dict(response.headers)
    headers.pop("content-encoding", None)
    return Reply(response.status_code, headers)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _closing(response: aiohttp.ClientResponse) -> Callable[[], Awaitable[object]]:
    async def close() -> None:
        # `release` keeps the connection of an answer read to its end, and drops any other.
        response.release()

    return close


# --- Deadlines on sockets ----------------------------------------------------------------------


class _Sockets(threading.local):
    """What bounds each socket operation of this thread, whatever drips in meanwhile."""

    deadline: float | None = None


_SOCKETS = _Sockets()


def _bounded(timeout: float | None, too_late: type[Exception]) -> float | None:
    left = _left(_SOCKETS.deadline)
    if left is None:
        return timeout
    if left <= 0:
        raise too_late("the deadline has passed")
    return left if timeout is None else min(timeout, left)


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


# --- Building, sharing and closing -------------------------------------------------------------


def ssl_context() -> ssl.SSLContext:
    """Give the process's TLS settings, loaded once per value of the variables that shape them."""
    return _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _ssl_context(_cert_file: str | None, _cert_dir: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()


def proxy_for(base_url: str) -> str | None:
    """Choose the proxy that the environment names for this URL, as urllib does."""
    url = yarl.URL(base_url)
    if url.host is None or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _httpcore_proxy(proxy: str) -> httpcore.Proxy:
    url = yarl.URL(proxy)
    auth = (url.user or "", url.password or "") if url.user else None
    return httpcore.Proxy(str(url.with_user(None)), auth=auth)


class Clients:
    """The clients of one model: one for blocking calls, one for each event loop."""

    def __init__(self, settings: Settings) -> None:
        """Build nothing yet: a thousand models cost a thousand of these and no more."""
        self.settings = settings
        self.account = account_of(settings.base_url, settings.api_key)
        self._blotter = blotter_for(settings.api_key.get_secret_value())
        self._at_the_end = weakref.finalize(self, _nothing)
        self._lock: threading.Lock
        self._door: Door | None
        self._async_doors: dict[
            asyncio.AbstractEventLoop, tuple[AsyncDoor, AsyncGenerator[None, None]]
        ]
        self._forget()
        _ALL.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Clients:
        """Start a copy with clients of its own: connections belong to one owner."""
        return Clients(self.settings)

    def sync_door(self) -> Door:
        """Give the client for blocking calls, building it at the first one."""
        if (door := self._door) is not None:
            return door
        with self._lock:
            if self._door is None:
                self._door = self._build()
            return self._door

    async def async_door(self) -> AsyncDoor:
        """Give the running loop's client, building it at the first call."""
        loop = asyncio.get_running_loop()
        if (held := self._async_doors.get(loop)) is not None:
            return held[0]
        door = await self._build_async()
        if (held := self._async_doors.get(loop)) is not None:
            await door.close()  # Another task of this loop was quicker.
            return held[0]
        lifetime = _until_the_loop_ends(door, weakref.ref(self))
        await anext(lifetime)
        self._drop_closed_loops()
        self._async_doors[loop] = (door, lifetime)
        return door

    def redacted(self, outcome: Outcomes) -> Outcomes:
        """Blot out the key wherever a server echoes it."""
        return self._blotter.outcome(outcome)

    def close(self) -> None:
        """Close the blocking client; a later call opens a new one."""
        with self._lock:
            door, self._door = self._door, None
        if door is not None:
            door.close()

    async def aclose(self) -> None:
        """Close the running loop's client, and the blocking one."""
        held = self._async_doors.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()
        self.close()

    def _build(self) -> Door:
        if self.settings.http_client is not None:
            return ClientDoor(self.settings.http_client, self.settings)
        door = PoolDoor(self.settings)
        self._at_the_end.detach()
        self._at_the_end = weakref.finalize(self, door.close)
        return door

    async def _build_async(self) -> AsyncDoor:
        if self.settings.http_async_client is not None:
            return AsyncClientDoor(self.settings.http_async_client, self.settings)
        # Reading the certificates takes milliseconds that the event loop does not have.
        tls = await asyncio.to_thread(ssl_context) if self.settings.is_https else None
        return AiohttpDoor(self.settings, tls)

    def _drop_closed_loops(self) -> None:
        for loop in list(self._async_doors):  # A copy: other threads add their loops meanwhile.
            if loop.is_closed():
                self._async_doors.pop(loop, None)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._door = None
        self._async_doors = {}


async def _until_the_loop_ends(
    door: AsyncDoor, owner: weakref.ref[Clients]
) -> AsyncGenerator[None, None]:
    """Close the door when the event loop shuts its generators down, or its owner is collected."""
    try:
        yield
    finally:
        if (clients := owner()) is not None:
            clients._async_doors.pop(asyncio.get_running_loop(), None)  # noqa: SLF001 - its own.
        await door.close()


def _nothing() -> None:
    """Hold the place of the work to be done when clients are collected."""


_ALL: weakref.WeakSet[Clients] = weakref.WeakSet()
_ABANDONED: list[object] = []


def _abandon_inherited_clients() -> None:
    """Leave the parent's connections to the parent: a child would read the parent's answers."""
    for clients in list(_ALL):
        # Kept alive, so that collecting them does not close what is not ours.
        _ABANDONED.append((clients._door, clients._async_doors))  # noqa: SLF001 - its own module.
        clients._at_the_end.detach()  # noqa: SLF001 - as above.
        clients._forget()  # noqa: SLF001 - as above.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited_clients)
