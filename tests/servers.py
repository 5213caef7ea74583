"""A scripted server, for what no well-behaved server does, and the ways to call a model.

It is the only one here: tests, benchmarks and soak share it. As a Segmind that behaves, the local
gateway answers.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp  # noqa: F401 - else imported by the first call, which may outlast its deadline.
import httpx
import pytest

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from langchain_core.messages import AIMessage

KEY = "SG_c0ffee5ec2e7ca4a"
COLOURS = ("sync", "async")
PATIENCE = 120.0
"""Seconds: as many as a busy machine may take to start a process."""
TRANSPORTS = ("sync", "async", "httpx", "async httpx")
"""Our own two transports, and a client of the user's of either kind."""


# --- Calling ------------------------------------------------------------------------------------


def model(server: FaultServer, **settings: Any) -> ChatSegmindLlama:
    """Give a model that talks to this server."""
    return ChatSegmindLlama(**{"api_key": KEY, "base_url": server.url, "timeout": 5, **settings})


def ask(llm: ChatSegmindLlama, transport: str, prompt: str = "hi", **options: Any) -> AIMessage:
    """Call the model through one of the `TRANSPORTS`, and close what was opened."""
    match transport:
        case "sync":
            with llm:
                return llm.invoke(prompt, **options)
        case "async":
            return asyncio.run(llm.ainvoke(prompt, **options))
        case "httpx":
            with httpx.Client(verify=False) as client:
                return llm.model_copy(update={"http_client": client}).invoke(prompt, **options)
        case _:
            return asyncio.run(_ask_through_async_client(llm, prompt, options))


async def _ask_through_async_client(
    llm: ChatSegmindLlama, prompt: str, options: dict[str, Any]
) -> AIMessage:
    async with httpx.AsyncClient(verify=False) as client:
        bound = llm.model_copy(update={"http_async_client": client})
        return await bound.ainvoke(prompt, **options)


def streamed(llm: ChatSegmindLlama, colour: str, prompt: str = "hi", **options: Any) -> list[Any]:
    """Stream an answer in either colour; give its chunks."""
    if colour == "sync":
        with llm:
            return list(llm.stream(prompt, **options))

    async def collect() -> list[Any]:
        return [chunk async for chunk in llm.astream(prompt, **options)]

    return asyncio.run(collect())


# --- Answers ------------------------------------------------------------------------------------


def completion(content: object = "Hello!", **extra: Any) -> dict[str, Any]:
    """Give a chat completion as Segmind passes it on."""
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "llama",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        **extra,
    }


def http(
    body: object = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> bytes:
    """Spell a whole HTTP answer; anything but bytes goes into JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(completion() if body is None else body).encode()
    described = {"content-type": content_type, "content-length": str(len(body))}
    return head(status, described, headers) + body


def head(status: int, *headers: Mapping[str, str] | None) -> bytes:
    """Spell the head of an HTTP answer."""
    lines = [f"HTTP/1.1 {status} Reason"]
    lines += [f"{name}: {value}" for some in headers if some for name, value in some.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


CHUNKED = {"content-type": "application/json", "transfer-encoding": "chunked"}
SSE = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
"""Headers of a body that comes in chunks."""


def chunked(*parts: bytes, end: bool = True) -> bytes:
    """Spell a body in chunked transfer coding, with or without its end."""
    spelled = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return spelled + (b"0\r\n\r\n" if end else b"")


def events(*data: object, done: bool = True, newline: str = "\n") -> bytes:
    """Spell a stream of server-sent events."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in data]
    texts += ["[DONE]"] if done else []
    return "".join(f"data: {text}{newline}{newline}" for text in texts).encode()


def delta(content: str, finish_reason: str | None = None) -> dict[str, Any]:
    """Give one event of a streamed completion."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "model": "llama", "choices": [choice]}


# --- A server -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came over the wire; nothing is decoded that nobody asks for."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        """Give the method, the path and the version."""
        return self.head.partition(b"\r\n")[0].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Give names and values, as they were sent."""
        parted = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return [(name, value.strip()) for name, _, value in parted]

    @property
    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)

    def values(self, name: str) -> list[str]:
        """Give the values of a header, as often as it was sent."""
        return [value for known, value in self.headers if known.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that takes its time, and no thread."""

    seconds: float
    answer: bytes


class Wire:
    """One end of a connection, as an answer sees it that has a thread of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closing = connection.server.closing
        self._loop = asyncio.get_running_loop()

    def send(self, data: bytes) -> None:
        """Wait until the other side has taken most of it."""
        asyncio.run_coroutine_threadsafe(self._connection.send(data), self._loop).result()

    def close(self) -> None:
        """End the connection in an orderly way."""
        self._loop.call_soon_threadsafe(self._connection.transport.close)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        connected = self._connection.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._loop.call_soon_threadsafe(self._connection.transport.abort)

    def drip(self, data: bytes, pause: float = 0.01) -> None:
        """Send this again and again, until the other side has had enough."""
        while not self._closing.wait(pause):
            self.send(data)

    def hang(self) -> None:
        """Say nothing until the server is stopped."""
        self._closing.wait(20)


class Connection(asyncio.Protocol):
    """One connection; nothing is read from it while a thread answers."""

    transport: asyncio.Transport

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self._received = bytearray()
        self._has_thread = False
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1
        self.server.open_connections.add(self)
        if self.server.before_request is not None:
            self._start_thread(partial(self.server.before_request, Wire(self)))

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._answer_requests()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _: Exception | None) -> None:
        self._writable.set()
        # The socket is closed right after this.
        asyncio.get_running_loop().call_soon(self.server.open_connections.discard, self)

    async def send(self, data: bytes) -> None:
        """Send, and wait where the other side does not read."""
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        self.server.sent += len(data)
        await self._writable.wait()

    def _answer_requests(self) -> None:
        while not self._has_thread and (received := self._take_request()) is not None:
            answer = self.server.next_answer(received)
            if isinstance(answer, bytes):
                self.transport.write(answer)
            elif isinstance(answer, Later):
                loop = asyncio.get_running_loop()
                loop.call_later(answer.seconds, self.transport.write, answer.answer)
            else:
                self._start_thread(partial(answer, received, Wire(self)))

    def _take_request(self) -> Received | None:
        if (head_end := self._received.find(b"\r\n\r\n")) < 0:
            return None
        length = _LENGTH.search(self._received, 0, head_end)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return None
        head, body = bytes(self._received[:head_end]), bytes(self._received[head_end + 4 : end])
        del self._received[:end]
        return Received(head, body)

    def _start_thread(self, answer: Callable[[], bytes | None]) -> None:
        self._has_thread = True
        self.transport.pause_reading()
        self.server.run(self._answer_in_thread(answer))

    async def _answer_in_thread(self, answer: Callable[[], bytes | None]) -> None:
        with suppress(OSError):  # The other side has gone.
            if (data := await asyncio.to_thread(answer)) is not None:
                await self.send(data)
        self._has_thread = False
        self.transport.resume_reading()
        self._answer_requests()


_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class FaultServer:
    """Answers each request with the next of its answers; the last one serves all that follow.

    An answer is bytes, which are sent at once, or a function, which has a thread of its own: it may
    wait, send what it likes through its `Wire`, and give bytes or None. One event loop serves all
    connections, which is fast enough to be measured against: see benchmarks/server.py.
    """

    def __init__(
        self,
        *answers: Any,
        before_request: Callable[[Wire], None] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open_connections: set[Connection] = set()
        self.answering = 0
        """How many functions answer now."""
        self.sent = 0
        """Bytes that functions have sent."""
        self.closing = threading.Event()
        self.before_request = before_request
        self._answers = answers or (http(),)
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), backlog=_BACKLOG, family=family)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)

    def next_answer(self, received: Received) -> Any:
        """Choose what to answer to a request."""
        self.requests.append(received)
        return self._answers[min(len(self.requests), len(self._answers)) - 1]

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End what is being answered, and every connection."""
        self.closing.set()
        with suppress(RuntimeError):  # An answer failed, and its error has ended the loop.
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def run(self, answering: Coroutine[Any, Any, None]) -> None:
        """Let a function answer; what it raises ends the server, and is seen."""
        self.answering += 1
        task = self._tasks.create_task(answering)
        task.add_done_callback(self._count_down)

    def _count_down(self, _: object) -> None:
        self.answering -= 1

    async def serve(self) -> None:
        """Serve until stopped."""
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS))
        async with asyncio.TaskGroup() as self._tasks:
            listening = await self._loop.create_server(
                lambda: Connection(self), sock=self._listener, ssl=self._tls, backlog=_BACKLOG
            )
            self._started.set()
            try:
                await self._stopped.wait()
            finally:
                listening.close()
                for connection in list(self.open_connections):
                    connection.transport.abort()


_BACKLOG = 16_384
_THREADS = 256
"""Functions that can answer at once."""


@contextmanager
def faults(*answers: Any, **options: Any) -> Iterator[FaultServer]:
    """Run a server that gives these answers, one after the other."""
    server = FaultServer(*answers, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def echo(received: Received, _wire: Wire) -> bytes:
    """Answer with the last message's own content, so that no answer can be swapped unseen."""
    return http(completion(received.json["messages"][-1]["content"]))


def wait_for(condition: Callable[[], object]) -> None:
    """Let as much time pass as a busy machine may take, until something has come to pass."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of this machine's loopback; give the files of it and of its key."""
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", folder / "key", "-out", folder / "cert", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate with")
    return folder / "cert", folder / "key"


def refused_url() -> str:
    """Give a URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
