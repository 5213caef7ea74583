"""Running a gateway on uvicorn: in the foreground, or inside a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from langchain_segmind.gateway.app import create_app
from langchain_segmind.gateway.connections import TrackedProtocol
from langchain_segmind.gateway.core import Gateway
from langchain_segmind.gateway.engines.echo import EchoEngine
from langchain_segmind.gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_segmind.gateway.account import Account
    from langchain_segmind.gateway.engines.base import Engine
    from langchain_segmind.gateway.jobs import JobStore

GRACE = 1.0
"""Seconds that answers under way have left when the gateway is stopped."""

KEEP_ALIVE = 60
BACKLOG = 2048
TICK = 0.01


class Server(uvicorn.Server):
    """A uvicorn that starts and stops with its gateway, and at once."""

    def __init__(self, gateway: Gateway, on_ready: Callable[[], None]) -> None:
        """Serve a gateway; `on_ready` is called when it listens."""
        config = uvicorn.Config(
            create_app(gateway),
            http=TrackedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            # They would let a client pass for another one.
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        super().__init__(config)
        self._gateway = gateway
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped."""
        self._loop = asyncio.get_running_loop()
        await self._gateway.start()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_ready()

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but end without waiting for the next tick."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.1)

    def stop(self) -> None:
        """Ask the server to end, from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # It has ended already.
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way with an error, and close every connection."""
        await self._stop_accepting()
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._gateway.interrupt()
        await self._finish_answers()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self._finish_answers()
        # Here, and not after `serve`: there the signal that stops us cancels what awaits.
        await self._gateway.stop()

    async def _stop_accepting(self) -> None:
        """Let a connection that is just being accepted become one that can be closed.

        asyncio drops it, and leaves its socket open, where its server is closed at that moment.
        """
        loop = asyncio.get_running_loop()
        for sock in [sock for server in self.servers for sock in server.sockets]:
            with contextlib.suppress(NotImplementedError):  # Windows' other event loop.
                loop.remove_reader(sock)
        await asyncio.sleep(TICK)

    async def _finish_answers(self) -> None:
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=GRACE)
        # One more turn of the loop, in which closing connections are closed.
        await asyncio.sleep(TICK)


class RunningGateway:
    """A gateway that runs in a thread of this process."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        """Hold what a test asks for."""
        self.gateway = gateway
        self.url = url
        """What goes into SEGMIND_BASE_URL."""
        self.api_key = gateway.settings.api_key
        """What goes into SEGMIND_API_KEY."""

    @property
    def account(self) -> Account:
        """The balance and the ledger."""
        return self.gateway.account

    @property
    def jobs(self) -> JobStore:
        """The jobs of v2."""
        return self.gateway.jobs

    @property
    def settings(self) -> Settings:
        """The settings it was started with."""
        return self.gateway.settings

    @property
    def engine(self) -> Engine:
        """What answers; another one, already started, can be put in its place."""
        return self.gateway.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.gateway.engine = engine


@contextlib.contextmanager
def serve(
    settings: Settings | None = None,
    engine: Engine | None = None,
    *,
    clock: Callable[[], float] = time.time,
    port: int = 0,
) -> Iterator[RunningGateway]:
    """Run a gateway on 127.0.0.1 for the time of a `with` block.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama
        from langchain_segmind.gateway import serve

        with serve() as segmind:
            llm = ChatSegmindLlama(api_key=segmind.api_key, base_url=segmind.url)
            print(llm.invoke("Hello").text)  # You said: Hello
            print(segmind.account.charge_count)  # 1
        ```

    Args:
        settings: How it behaves.
        engine: What answers; an echo if not given.
        clock: Gives the Unix time, for rate limits and jobs that expire.
        port: Where it listens; 0 picks a free port.
    """
    gateway = Gateway(settings or Settings(), engine or EchoEngine(), clock)
    listener = listen("127.0.0.1", port)
    thread = _Thread(gateway, listener)
    thread.start()
    try:
        thread.wait_until_ready()
        yield RunningGateway(gateway, url_of(thread.address))
    finally:
        thread.stop()


class _Thread(threading.Thread):
    def __init__(self, gateway: Gateway, listener: socket.socket) -> None:
        super().__init__(name="segmind-gateway", daemon=True)
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self._listener = listener
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._server = Server(gateway, self._ready.set)

    def run(self) -> None:
        try:
            self._server.run([self._listener])
        except BaseException as failure:  # noqa: BLE001  It is raised where it is waited for.
            self._failure = failure
        finally:
            self._listener.close()
            self._ready.set()

    def wait_until_ready(self) -> None:
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._server.stop()
        self.join()


def listen(host: str, port: int) -> socket.socket:
    """Open the socket, so that its port is known before the server runs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio turns off Nagle's algorithm: 40 ms less for each answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(address: tuple[str, int]) -> str:
    """Write the URL under which an address is reached from this machine."""
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  Not bound here.
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
