"""The only I/O: driving flows over HTTP, and building, sharing and closing clients.

Sync calls go over httpcore, async ones over aiohttp; a client the user brought is used as it is.
What they have in common is a `Door` (`_doors`).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from langchain_segmind._protocol.account import account_of
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Outcome,
    Request,
    Response,
    Sleep,
    T,
    TransportFailure,
)
from langchain_segmind._transport.base import SOCKETS, Settings, left
from langchain_segmind._transport.content_encoding import BodyDecoder
from langchain_segmind._transport.failures import failure_from
from langchain_segmind._transport.redaction import Outcomes, redactor_for
from langchain_segmind.exceptions import SegmindConnectionError

if TYPE_CHECKING:
    import ssl
    from collections.abc import (
        AsyncGenerator,
        Generator,
        Iterator,
    )

    from langchain_core.rate_limiters import BaseRateLimiter

    from langchain_segmind._protocol.types import Flow
    from langchain_segmind._transport.aiohttp import AiohttpTransport
    from langchain_segmind._transport.base import (
        AsyncStreamedResponse,
        AsyncTransport,
        StreamedResponse,
        Transport,
    )

_OK = 200


# --- Driving ---------------------------------------------------------------------------------


def run(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result, blocking."""
    outcome: Outcome = None
    try:
        while True:
            match flow.send(outcome):
                case Request() as request:
                    outcome = clients.redacted(exchange(clients.sync_transport(), request))
                case Sleep(seconds):
                    outcome = None
                    time.sleep(seconds)
                case AcquireSlot() as slot:
                    outcome = None
                    if limiter is not None and _counts(limiter, slot):
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
                    transport = await clients.async_transport()
                    outcome = clients.redacted(await aexchange(transport, request))
                case Sleep(seconds):
                    outcome = None
                    await asyncio.sleep(seconds)
                case AcquireSlot() as slot:
                    outcome = None
                    if limiter is not None and _counts(limiter, slot):
                        await limiter.aacquire(blocking=True)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()  # At once: a flow that is cut short has something to leave behind.


def _counts(limiter: BaseRateLimiter, slot: AcquireSlot) -> bool:
    return not slot.poll or getattr(limiter, "count_polls", False)


def exchange(transport: Transport, request: Request) -> Response | TransportFailure:
    """Perform one request; what the network did becomes a value, never an exception."""
    head: Response | None = None
    handed_over = False
    answer: StreamedResponse | None = None
    try:
        answer = transport.open(request)
        head = answer.head
        decoder = BodyDecoder(head.headers.get("content-encoding", ""))
        if request.accept_stream and _is_event_stream(head):
            handed_over = True
            chunks = _stream(answer, decoder, request.deadline)
            return Response(head.status, head.headers, chunks=chunks)
        body = b"".join(_decoded(answer, decoder, request.deadline))
        return Response(head.status, head.headers, body)
    except Exception as error:
        if (failure := failure_from(error, head)) is None:
            raise
        return failure
    finally:
        if answer is not None and not handed_over:
            answer.close()


async def aexchange(transport: AsyncTransport, request: Request) -> Response | TransportFailure:
    """Perform one request; what the network did becomes a value, never an exception."""
    head: Response | None = None
    handed_over = False
    answer: AsyncStreamedResponse | None = None
    try:
        async with asyncio.timeout(left(request.deadline)):
            answer = await transport.open(request)
            head = answer.head
            decoder = BodyDecoder(head.headers.get("content-encoding", ""))
            if request.accept_stream and _is_event_stream(head):
                handed_over = True
                chunks = _astream(answer, decoder, request.deadline)
                return Response(head.status, head.headers, chunks=chunks)
            parts = [decoder.feed(chunk) async for chunk in answer.chunks]
            decoder.finish()
            return Response(head.status, head.headers, b"".join(parts))
    except asyncio.CancelledError as cancelled:
        raise cancelled.with_traceback(None)  # noqa: B904 - aiohttp's frames have the key among their locals.
    except Exception as error:
        if (failure := failure_from(error, head)) is None:
            raise
        return failure
    finally:
        if answer is not None and not handed_over:
            await answer.close()


class StreamBrokenError(Exception):
    """An event stream that had begun did not come to its end."""

    def __init__(self, failure: TransportFailure) -> None:
        """Keep what happened."""
        super().__init__(failure.detail)
        self.failure = failure


def _stream(
    answer: StreamedResponse, decoder: BodyDecoder, deadline: float | None
) -> Generator[bytes]:
    failure = None
    try:
        yield from _decoded(answer, decoder, deadline)
    except Exception as error:
        if (failure := failure_from(error, answer.head)) is None:
            raise
    finally:
        answer.close()
    if failure is not None:
        raise StreamBrokenError(failure)


async def _astream(
    answer: AsyncStreamedResponse, decoder: BodyDecoder, deadline: float | None
) -> AsyncGenerator[bytes]:
    failure = None
    try:
        while True:
            async with asyncio.timeout(left(deadline)):
                chunk = await anext(answer.chunks, None)
            if chunk is None:
                decoder.finish()
                break
            yield decoder.feed(chunk)
    except Exception as error:
        if (failure := failure_from(error, answer.head)) is None:
            raise
    finally:
        await answer.close()
    if failure is not None:
        raise StreamBrokenError(failure)


def _decoded(
    answer: StreamedResponse, decoder: BodyDecoder, deadline: float | None
) -> Iterator[bytes]:
    while True:
        SOCKETS.deadline = deadline  # Before each read: a generator may change threads.
        chunk = next(answer.chunks, None)
        if chunk is None:
            return decoder.finish()
        yield decoder.feed(chunk)
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError


def _is_event_stream(head: Response) -> bool:
    content_type = head.headers.get("content-type", "")
    return head.status == _OK and content_type.lower().startswith("text/event-stream")


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
        self._redactor = redactor_for(settings.api_key.get_secret_value())
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

    def redacted(self, outcome: Outcomes) -> Outcomes:
        """Blot out the key wherever a server echoes it, and say what could not be reached."""
        if isinstance(outcome, TransportFailure) and not outcome.sent:
            outcome = replace(outcome, detail=f"{outcome.detail} (at {self._way})")
        return self._redactor.outcome(outcome)

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
