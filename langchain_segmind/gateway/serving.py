"""Running a gateway: in the foreground, or in a thread of a test."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from concurrent.futures import Future
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

    Stop = Callable[[], None]

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
    ready: Future[Stop] = Future()
    with listen("127.0.0.1", port) as listener:
        gateway.url = url_of(listener)
        thread = threading.Thread(
            target=_run_in_thread,
            args=(gateway, listener, ready),
            name="segmind-gateway",
            daemon=True,
        )
        thread.start()
        stop = ready.result()
        try:
            yield gateway
        finally:
            stop()
            thread.join()


def _run_in_thread(gateway: Gateway, listener: socket.socket, ready: Future[Stop]) -> None:
    try:
        _run(gateway, listener, ready.set_result)
    except BaseException as failure:
        ready.set_exception(failure)


def run_until_signalled(
    gateway: Gateway, listener: socket.socket, on_ready: Callable[[], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` is called when requests are accepted."""

    def catch_signals(stop: Stop) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop())
        on_ready()

    _run(gateway, listener, catch_signals)


def _run(gateway: Gateway, listener: socket.socket, on_ready: Callable[[Stop], None]) -> None:
    # Windows' other loop can't watch a socket, which is how connections are accepted.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_serve(gateway, listener, on_ready))


async def _serve(
    gateway: Gateway, listener: socket.socket, on_ready: Callable[[Stop], None]
) -> None:
    """Serve until what `on_ready` gets is called, from any thread or signal handler."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended already.
            loop.call_soon_threadsafe(stopping.set)

    await gateway.start()
    server = Server(partial(answer, gateway), listener)
    server.start()
    on_ready(stop)
    await stopping.wait()
    await server.stop(gateway.interrupt)
    await gateway.stop()


def listen(host: str, port: int) -> socket.socket:
    """Open the socket, so that its port is known before the server runs."""
    is_v6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_v6 else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
    )


def url_of(listener: socket.socket) -> str:
    """Write the URL under which a listener is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  Not bound here.
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
