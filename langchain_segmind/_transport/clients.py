"""Building, sharing and closing the transports of one model."""

from __future__ import annotations

import asyncio
import threading
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.account import account_of
from langchain_segmind._protocol.per_process import PerProcess
from langchain_segmind._transport.environment import (
    credentials_of,
    proxy_for,
    ssl_context,
    without_password,
)
from langchain_segmind._transport.imports import import_aiohttp_transport
from langchain_segmind._transport.redaction import KeyRedactor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langchain_segmind._protocol.types import TransportFailure
    from langchain_segmind._transport.base import AsyncTransport, Transport
    from langchain_segmind._transport.settings import Settings
    from langchain_segmind.exceptions import SegmindError


@dataclass(slots=True)
class _Transports:
    """What one process has opened: one transport for blocking calls, one for each event loop."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    blocking: Transport | None = None
    awaited: dict[asyncio.AbstractEventLoop, tuple[AsyncTransport, AsyncGenerator[None, None]]] = (
        field(default_factory=dict)
    )


_INHERITED: list[_Transports] = []
"""Kept in a forked child, where to collect them would close what belongs to the parent."""


class Clients:
    """The transports of one model, in each process that uses it."""

    def __init__(self, settings: Settings) -> None:
        """Build nothing yet: a thousand models cost a thousand of these and no more."""
        self.settings = settings
        self.account = account_of(settings.base_url, settings.api_key)
        self.total_seconds = settings.timeout.total()
        self.redactor = KeyRedactor(settings.api_key.get_secret_value())
        self._way = settings.base_url
        self._transports = PerProcess(_Transports, _INHERITED.append)
        weakref.finalize(self, _close_own, self._transports)

    def __deepcopy__(self, memo: dict[int, Any]) -> Clients:
        """Start a copy with transports of its own: connections belong to one owner."""
        return Clients(self.settings)

    def transport(self) -> Transport:
        """Give the transport of blocking calls, building it at the first one."""
        own = self._transports.get()
        if own.blocking is not None:
            return own.blocking
        with own.lock:
            if own.blocking is None:
                own.blocking = self._build()
            return own.blocking

    async def atransport(self) -> AsyncTransport:
        """Give the running loop's transport, building it at the first call."""
        loop, awaited = asyncio.get_running_loop(), self._transports.get().awaited
        if (held := awaited.get(loop)) is not None:
            return held[0]
        transport = await self._build_async()
        if (held := awaited.get(loop)) is not None:
            await transport.close()  # Another task of this loop was quicker.
            return held[0]
        lifetime = _until_the_loop_ends(transport, awaited)
        await anext(lifetime)
        for other in list(awaited):  # A copy: other threads add their loops meanwhile.
            if other.is_closed():
                awaited.pop(other, None)
        awaited[loop] = (transport, lifetime)
        return transport

    def located(self, failure: TransportFailure) -> TransportFailure:
        """Say what could not be reached."""
        if failure.sent:
            return failure
        return replace(failure, detail=f"{failure.detail} (at {self._way})")

    def redact_error(self, error: SegmindError) -> SegmindError:
        """Mask the key in an error, and leave the frames behind that hold what a server echoed."""
        return self.redactor.error(error).with_traceback(None)

    def close(self) -> None:
        """Close the transport of blocking calls; a later call opens a new one."""
        own = self._transports.get()
        with own.lock:
            transport, own.blocking = own.blocking, None
        if transport is not None:
            transport.close()

    async def aclose(self) -> None:
        """Close the running loop's transport, and that of blocking calls."""
        held = self._transports.get().awaited.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()
        self.close()

    def _build(self) -> Transport:
        if self.settings.http_client is not None:
            from langchain_segmind._transport.injected import InjectedTransport

            return InjectedTransport(self.settings.http_client, self.settings)
        from langchain_segmind._transport.httpcore import HttpcoreTransport

        proxy = self._proxy()
        tls = ssl_context() if self.settings.is_https or proxy else None
        return HttpcoreTransport(self.settings, proxy, tls)

    async def _build_async(self) -> AsyncTransport:
        if self.settings.http_async_client is not None:
            from langchain_segmind._transport.injected import AsyncInjectedTransport

            return AsyncInjectedTransport(self.settings.http_async_client, self.settings)
        # Both take milliseconds that the event loop does not have.
        transport, tls = await asyncio.to_thread(
            lambda: (import_aiohttp_transport(), ssl_context() if self.settings.is_https else None)
        )
        if transport is None:
            from langchain_segmind._transport.threaded import ThreadedTransport

            return ThreadedTransport(self.transport())
        return transport(self.settings, self._proxy(), tls)

    def _proxy(self) -> str | None:
        proxy = proxy_for(self.settings.base_url)
        self.redactor.mask_passwords(*(credentials_of(proxy or "") or ())[1:])
        through = f", through the proxy {without_password(proxy)}" if proxy else ""
        self._way = self.settings.base_url + through
        return proxy


async def _until_the_loop_ends(
    transport: AsyncTransport, awaited: dict[asyncio.AbstractEventLoop, Any]
) -> AsyncGenerator[None, None]:
    """Close a transport when its event loop shuts generators down, or its owner is collected."""
    try:
        yield
    finally:
        awaited.pop(asyncio.get_running_loop(), None)
        await transport.close()


def _close_own(transports: PerProcess[_Transports]) -> None:
    """Close what this process has opened, when the clients are collected."""
    if (blocking := transports.get().blocking) is not None:
        blocking.close()
