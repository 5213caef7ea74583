"""Running a gateway: in the foreground, or in a thread of a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from langchain_segmind.gateway.app import answer
from langchain_segmind.gateway.core import Gateway
from langchain_segmind.gateway.engines.echo import EchoEngine
from langchain_segmind.gateway.server import Server
from langchain_segmind.gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_segmind.gateway.engines.base import Engine

BACKLOG = 2048


class RunningGateway(Gateway):
    """A gateway that runs in a thread of this process."""

    url: str
    """What goes into SEGMIND_BASE_URL."""

    @property
    def api_key(self) -> str:
        """What goes into SEGMIND_API_KEY."""
        return self.settings.api_key


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
    gateway = RunningGateway(settings or Settings(), engine or EchoEngine(), clock)
    with listen("127.0.0.1", port) as listener:
        gateway.url = url_of(listener)
        run = Run(gateway, listener)
        thread = threading.Thread(target=run.run, name="segmind-gateway", daemon=True)
        thread.start()
        try:
            run.wait_until_ready()
            yield gateway
        finally:
            run.stop()
            thread.join()


class Run:
    """A gateway and its event loop, from start to stop."""

    def __init__(self, gateway: Gateway, listener: socket.socket) -> None:
        """Serve a gateway on a socket that listens."""
        self._gateway = gateway
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Serve until stopped; what goes wrong is raised where it is waited for."""
        try:
            self.run_in_foreground(self._ready.set)
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    def run_in_foreground(self, on_ready: Callable[[], None]) -> None:
        """Serve until stopped; `on_ready` is called when requests are accepted."""
        # Windows' other loop can't watch a socket, which is how connections are accepted.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(on_ready))

    def wait_until_ready(self) -> None:
        """Wait until requests are accepted."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the run, from any thread or signal handler."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # It has ended already.
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        await self._gateway.start()
        server = Server(partial(answer, self._gateway), self._listener)
        server.start()
        on_ready()
        await self._stopping.wait()
        await server.stop(self._gateway.interrupt)
        await self._gateway.stop()


def run_until_signalled(
    gateway: Gateway, listener: socket.socket, on_ready: Callable[[], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    run = Run(gateway, listener)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop())
    run.run_in_foreground(on_ready)


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


def url_of(listener: socket.socket) -> str:
    """Write the URL under which a listener is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  Not bound here.
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
