"""The only I/O: driving flows over HTTP, and building, sharing and closing clients.

Blocking calls go over httpcore, awaited ones over aiohttp; a client the user brought is used as it
is. What they have in common is a `Transport` (`base`).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from contextlib import aclosing, closing
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from langchain_segmind._protocol.account import account_of
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Emit,
    ReadChunk,
    Request,
    Response,
    Sleep,
    T,
    TransportFailure,
)
from langchain_segmind._transport.base import SOCKETS, Settings, left
from langchain_segmind._transport.content_encoding import BodyDecoder
from langchain_segmind._transport.failures import failure_from
from langchain_segmind._transport.redaction import KeyRedactor
from langchain_segmind.exceptions import SegmindConnectionError, SegmindError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Generator

    from langchain_core.rate_limiters import BaseRateLimiter

    from langchain_segmind._protocol.types import Command, Flow, Outcome
    from langchain_segmind._transport.aiohttp import AiohttpTransport
    from langchain_segmind._transport.base import (
        AsyncStreamedResponse,
        AsyncTransport,
        StreamedResponse,
        Transport,
    )

# --- Driving ---------------------------------------------------------------------------------


def run(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result, blocking."""
    with closing(flow), closing(Driver(clients, limiter)) as driver:
        outcome: Outcome = None
        try:
            while True:
                outcome = driver.perform(flow.send(outcome))
        except StopIteration as stop:
            result: T = stop.value
            return result
        except SegmindError as error:
            outcome = None
            raise clients.redacted_error(error)  # noqa: B904 - the same, without its frames.


async def arun(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result on the running event loop."""
    with closing(flow):
        async with aclosing(AsyncDriver(clients, limiter)) as driver:
            outcome: Outcome = None
            try:
                while True:
                    outcome = await driver.perform(flow.send(outcome))
            except StopIteration as stop:
                result: T = stop.value
                return result
            except SegmindError as error:
                outcome = None
                raise clients.redacted_error(error)  # noqa: B904 - the same, without its frames.


def stream(
    flow: Flow[None], clients: Clients, limiter: BaseRateLimiter | None = None
) -> Generator[Any]:
    """Drive a flow, blocking, and give what it emits."""
    with closing(flow), closing(Driver(clients, limiter)) as driver:
        outcome: Outcome = None
        try:
            while True:
                command = flow.send(outcome)
                if isinstance(command, Emit):
                    outcome = yield command.value
                else:
                    outcome = driver.perform(command)
        except StopIteration:
            return
        except SegmindError as error:
            outcome = None
            raise clients.redacted_error(error)  # noqa: B904 - the same, without its frames.


async def astream(
    flow: Flow[None], clients: Clients, limiter: BaseRateLimiter | None = None
) -> AsyncGenerator[Any]:
    """Drive a flow on the running event loop, and give what it emits."""
    with closing(flow):
        async with aclosing(AsyncDriver(clients, limiter)) as driver:
            outcome: Outcome = None
            try:
                while True:
                    command = flow.send(outcome)
                    if isinstance(command, Emit):
                        outcome = yield command.value
                    else:
                        outcome = await driver.perform(command)
            except StopIteration:
                return
            except SegmindError as error:
                outcome = None
                raise clients.redacted_error(error)  # noqa: B904 - the same, without its frames.


class Driver:
    """Performs the commands of one flow, blocking."""

    def __init__(self, clients: Clients, limiter: BaseRateLimiter | None) -> None:
        """Open nothing yet."""
        self._clients = clients
        self._limiter = limiter
        self._stream: _Body | None = None

    def perform(self, command: Command) -> Outcome:
        """Perform one command; what the network did becomes a value, never an exception."""
        match command:
            case Request():
                return self._exchange(command)
            case ReadChunk():
                return self._read()
            case Sleep(seconds):
                time.sleep(seconds)
            case AcquireSlot():
                if self._limiter is not None and _counts(self._limiter, command):
                    self._limiter.acquire(blocking=True)
        return None

    def close(self) -> None:
        """Close the stream that was not read to its end."""
        if self._stream is not None:
            self._stream.answer.close()
            self._stream = None

    def _exchange(self, request: Request) -> Response | TransportFailure:
        head, answer = None, None
        try:
            answer = self._clients.sync_transport().open(request)
            head = answer.head
            body = _Body(answer, head, request.deadline)
            if request.accept_stream and _is_event_stream(head):
                self._stream, answer = body, None
                return replace(head, is_stream=True)
            return replace(head, body=b"".join(iter(body.read, None)))
        except Exception as error:
            if (failure := failure_from(error, head)) is None:
                raise
            return self._clients.located(failure)
        finally:
            if answer is not None:
                answer.close()

    def _read(self) -> bytes | TransportFailure | None:
        assert self._stream is not None  # noqa: S101 - flows read what was said to be a stream.
        try:
            return self._stream.read()
        except Exception as error:
            if (failure := failure_from(error, self._stream.head)) is None:
                raise
            return failure


class AsyncDriver:
    """Performs the commands of one flow on the running event loop."""

    def __init__(self, clients: Clients, limiter: BaseRateLimiter | None) -> None:
        """Open nothing yet."""
        self._clients = clients
        self._limiter = limiter
        self._stream: _AsyncBody | None = None

    async def perform(self, command: Command) -> Outcome:
        """Perform one command; what the network did becomes a value, never an exception."""
        match command:
            case Request():
                return await self._exchange(command)
            case ReadChunk():
                return await self._read()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case AcquireSlot():
                if self._limiter is not None and _counts(self._limiter, command):
                    await self._limiter.aacquire(blocking=True)
        return None

    async def aclose(self) -> None:
        """Close the stream that was not read to its end."""
        if self._stream is not None:
            await self._stream.answer.close()
            self._stream = None

    async def _exchange(self, request: Request) -> Response | TransportFailure:
        head, answer = None, None
        try:
            transport = await self._clients.async_transport()
            async with asyncio.timeout(left(request.deadline)):
                answer = await transport.open(request)
                head = answer.head
                body = _AsyncBody(answer, head, request.deadline)
                if request.accept_stream and _is_event_stream(head):
                    self._stream, answer = body, None
                    return replace(head, is_stream=True)
                return replace(head, body=await body.read_whole())
        except asyncio.CancelledError as cancelled:
            raise cancelled.with_traceback(None)  # noqa: B904 - aiohttp's frames have the key among their locals.
        except Exception as error:
            if (failure := failure_from(error, head)) is None:
                raise
            return self._clients.located(failure)
        finally:
            if answer is not None:
                await answer.close()

    async def _read(self) -> bytes | TransportFailure | None:
        assert self._stream is not None  # noqa: S101 - flows read what was said to be a stream.
        try:
            async with asyncio.timeout(left(self._stream.deadline)):
                return await self._stream.read()
        except Exception as error:
            if (failure := failure_from(error, self._stream.head)) is None:
                raise
            return failure


class _Body:
    """The body of an answer, decompressed as it comes, until the deadline."""

    def __init__(self, answer: StreamedResponse, head: Response, deadline: float | None) -> None:
        self.answer, self.head, self.deadline = answer, head, deadline
        self._decoder = BodyDecoder(head.headers.get("content-encoding", ""))

    def read(self) -> bytes | None:
        SOCKETS.deadline = self.deadline  # Before each read: a generator may change threads.
        if (chunk := next(self.answer.chunks, None)) is None:
            self._decoder.finish()
            return None
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError
        return self._decoder.feed(chunk)


class _AsyncBody:
    """As `_Body`, on an event loop; who reads it bounds the time."""

    def __init__(
        self, answer: AsyncStreamedResponse, head: Response, deadline: float | None
    ) -> None:
        self.answer, self.head, self.deadline = answer, head, deadline
        self._decoder = BodyDecoder(head.headers.get("content-encoding", ""))

    async def read(self) -> bytes | None:
        if (chunk := await anext(self.answer.chunks, None)) is None:
            self._decoder.finish()
            return None
        return self._decoder.feed(chunk)

    async def read_whole(self) -> bytes:
        parts = [self._decoder.feed(chunk) async for chunk in self.answer.chunks]
        self._decoder.finish()
        return b"".join(parts)


def _counts(limiter: BaseRateLimiter, slot: AcquireSlot) -> bool:
    return not slot.poll or getattr(limiter, "count_polls", False)


def _is_event_stream(head: Response) -> bool:
    content_type = head.headers.get("content-type", "")
    return head.status == HTTPStatus.OK and content_type.lower().startswith("text/event-stream")


# --- Building, sharing and closing -------------------------------------------------------------


def ssl_context() -> ssl.SSLContext:
    """Give the process's TLS settings, loaded once per value of the variables that shape them."""
    return _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _ssl_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    import httpx  # noqa: PLC0415 - not needed without TLS.

    try:
        return httpx.create_ssl_context()
    except OSError as error:  # Python's own words name no file.
        where = f"SSL_CERT_FILE={cert_file}" if cert_file else f"SSL_CERT_DIR={cert_dir}"
        raise SegmindConnectionError(
            f"The certificates to trust cannot be loaded: {where} "
            f"({error.strerror or type(error).__name__}). Nothing was sent. Name a PEM file, or "
            "unset the variable."
        ) from None


def _aiohttp_and_certificates(
    settings: Settings,
) -> tuple[type[AiohttpTransport], ssl.SSLContext | None]:
    from langchain_segmind._transport.aiohttp import AiohttpTransport  # noqa: PLC0415 - not for blocking calls.

    return AiohttpTransport, ssl_context() if settings.is_https else None


def proxy_for(base_url: str) -> str | None:
    """Choose the proxy that the environment names for this URL, as urllib does.

    Raises:
        SegmindConnectionError: It is no HTTP proxy, or cannot be read.
    """
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    if url.hostname is None or proxy_bypass(f"{url.hostname}:{port}"):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def _checked_proxy(proxy: str) -> str:
    try:
        url = urlsplit(proxy)
        if url.scheme in ("http", "https") and url.hostname and url.port != 0:
            return proxy
    except ValueError:  # The port is no number.
        pass
    advice = "Correct it, or unset it."
    if proxy.startswith("socks"):
        advice = "A SOCKS proxy takes clients of your own (http_client=...) and 'httpx[socks]'."
    raise SegmindConnectionError(
        "The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names is no http(s)://host:port. "
        f"Nothing was sent. {advice}"
    )


def without_password(proxy: str) -> str:
    """Give a proxy's URL without the credentials in it."""
    url = urlsplit(proxy)
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


class Clients:
    """The clients of one model: one for blocking calls, one for each event loop."""

    def __init__(self, settings: Settings) -> None:
        """Build nothing yet: a thousand models cost a thousand of these and no more."""
        self.settings = settings
        self.account = account_of(settings.base_url, settings.api_key)
        self._way = settings.base_url
        self.redactor = KeyRedactor(settings.api_key.get_secret_value())
        self._at_the_end = weakref.finalize(self, _nothing)
        self._lock: threading.Lock
        self._transport: Transport | None
        self._async_transports: dict[
            asyncio.AbstractEventLoop, tuple[AsyncTransport, AsyncGenerator[None, None]]
        ]
        self._forget()
        _ALL.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Clients:
        """Start a copy with clients of its own: connections belong to one owner."""
        return Clients(self.settings)

    def sync_transport(self) -> Transport:
        """Give the client for blocking calls, building it at the first one."""
        if (transport := self._transport) is not None:
            return transport
        with self._lock:
            if self._transport is None:
                self._transport = self._build()
            return self._transport

    async def async_transport(self) -> AsyncTransport:
        """Give the running loop's client, building it at the first call."""
        loop = asyncio.get_running_loop()
        if (held := self._async_transports.get(loop)) is not None:
            return held[0]
        transport = await self._build_async()
        if (held := self._async_transports.get(loop)) is not None:
            await transport.close()  # Another task of this loop was quicker.
            return held[0]
        lifetime = _until_the_loop_ends(transport, weakref.ref(self))
        await anext(lifetime)
        self._drop_closed_loops()
        self._async_transports[loop] = (transport, lifetime)
        return transport

    def located(self, failure: TransportFailure) -> TransportFailure:
        """Say what could not be reached."""
        if failure.sent:
            return failure
        return replace(failure, detail=f"{failure.detail} (at {self._way})")

    def redacted_error(self, error: SegmindError) -> SegmindError:
        """Mask the key in an error, and leave the frames behind that hold what a server echoed."""
        return self.redactor.error(error).with_traceback(None)

    def close(self) -> None:
        """Close the blocking client; a later call opens a new one."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    async def aclose(self) -> None:
        """Close the running loop's client, and the blocking one."""
        held = self._async_transports.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()
        self.close()

    # Each door is imported with its library, which the other kind of call does without.

    def _build(self) -> Transport:
        if self.settings.http_client is not None:
            from langchain_segmind._transport.injected import InjectedTransport  # noqa: PLC0415

            return InjectedTransport(self.settings.http_client, self.settings)
        from langchain_segmind._transport.httpcore import HttpcoreTransport  # noqa: PLC0415

        proxy = self._proxy()
        tls = ssl_context() if self.settings.is_https or proxy else None
        transport = HttpcoreTransport(self.settings, proxy, tls)
        self._at_the_end.detach()
        self._at_the_end = weakref.finalize(self, transport.close)
        return transport

    async def _build_async(self) -> AsyncTransport:
        if self.settings.http_async_client is not None:
            from langchain_segmind._transport.injected import AsyncInjectedTransport  # noqa: PLC0415

            return AsyncInjectedTransport(self.settings.http_async_client, self.settings)
        # Both take milliseconds that the event loop does not have.
        transport, tls = await asyncio.to_thread(_aiohttp_and_certificates, self.settings)
        return transport(self.settings, self._proxy(), tls)

    def _proxy(self) -> str | None:
        proxy = proxy_for(self.settings.base_url)
        through = f", through the proxy {without_password(proxy)}" if proxy else ""
        self._way = self.settings.base_url + through
        return proxy

    def _drop_closed_loops(self) -> None:
        for loop in list(
            self._async_transports
        ):  # A copy: other threads add their loops meanwhile.
            if loop.is_closed():
                self._async_transports.pop(loop, None)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._transport = None
        self._async_transports = {}


async def _until_the_loop_ends(
    transport: AsyncTransport, owner: weakref.ref[Clients]
) -> AsyncGenerator[None, None]:
    """Close the door when the event loop shuts its generators down, or its owner is collected."""
    try:
        yield
    finally:
        if (clients := owner()) is not None:
            clients._async_transports.pop(asyncio.get_running_loop(), None)  # noqa: SLF001 - its own.
        await transport.close()


def _nothing() -> None:
    """Hold the place of the work to be done when clients are collected."""


_ALL: weakref.WeakSet[Clients] = weakref.WeakSet()
_ABANDONED: list[object] = []


def _abandon_inherited_clients() -> None:
    """Leave the parent's connections to the parent: a child would read the parent's answers."""
    for clients in list(_ALL):
        # Kept alive, so that collecting them does not close what is not ours.
        _ABANDONED.append((clients._transport, clients._async_transports))  # noqa: SLF001 - its own module.
        clients._at_the_end.detach()  # noqa: SLF001 - as above.
        clients._forget()  # noqa: SLF001 - as above.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited_clients)
