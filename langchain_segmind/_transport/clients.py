"""Building, sharing and closing the transports of one model."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.account import account_of
from langchain_segmind._transport.environment import proxy_for, ssl_context, without_password
from langchain_segmind._transport.redaction import KeyRedactor

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from langchain_segmind._protocol.types import TransportFailure
    from langchain_segmind._transport.aiohttp import AiohttpTransport
    from langchain_segmind._transport.base import AsyncTransport, Transport
    from langchain_segmind._transport.settings import Settings
    from langchain_segmind.exceptions import SegmindError


def _aiohttp_and_certificates(
    settings: Settings,
) -> tuple[type[AiohttpTransport], ssl.SSLContext | None]:
    from langchain_segmind._transport.aiohttp import AiohttpTransport  # noqa: PLC0415 - not for blocking calls.

    return AiohttpTransport, ssl_context() if settings.is_https else None


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
