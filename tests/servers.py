"""Servers over bare sockets, for what no well-behaved server does, and the ways to call a model."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from langchain_core.messages import AIMessage

KEY = "SG_c0ffee5ec2e7ca4a"
COLOURS = ("sync", "async")
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


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)

    def values(self, name: str) -> list[str]:
        """Give the values of a header, as often as it was sent."""
        return [value for known, value in self.headers if known.lower() == name.lower()]


class Wire:
    """One end of a connection, as an answer sees it."""

    def __init__(self, connection: socket.socket, server: FaultServer) -> None:
        self._socket = connection
        self._server = server
        self._closing = server.closing

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)
        self._server.sent += len(data)

    def close(self) -> None:
        """End the connection in an orderly way."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError  # Leaves the `with` blocks that hold the socket open.

    def drip(self, data: bytes, pause: float = 0.01) -> None:
        """Send this again and again, until the other side has had enough."""
        while not self._closing.wait(pause):
            self.send(data)

    def hang(self) -> None:
        """Say nothing until the server is stopped or the other side has gone."""
        self._closing.wait(20)


class FaultServer:
    """Answers each request with the next of its answers; the last one serves all that follow."""

    def __init__(
        self,
        *answers: Any,
        before_request: Callable[[Wire], None] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open_connections: set[socket.socket] = set()
        self.answering = 0
        self.sent = 0
        self._answers = answers or (http(),)
        self._before_request = before_request
        self.closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), backlog=1024, family=family)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start(self) -> None:
        self._spawn(self._accept)

    def stop(self) -> None:
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self.open_connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self.open_connections.add(connection)
                self._spawn(self._serve, connection)

    def _serve(self, accepted: socket.socket) -> None:
        connection = accepted
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            wire = Wire(connection, self)
            with connection, connection.makefile("rb") as reader, suppress(OSError, ValueError):
                if self._before_request is not None:
                    self._before_request(wire)
                while (received := _read(reader)) is not None:
                    self.answering += 1
                    answer = self._next(received)
                    if callable(answer):
                        answer = answer(received, wire)
                    if answer is not None:
                        connection.sendall(answer)
                    self.answering -= 1
        except OSError:
            connection.close()  # The client did not like our certificate.
        finally:
            self.open_connections.discard(accepted)

    def _next(self, received: Received) -> Any:
        with self._lock:
            self.requests.append(received)
            return self._answers[min(len(self.requests), len(self._answers)) - 1]


def _read(reader: Any) -> Received | None:
    if not (line := reader.readline()):
        return None
    headers = []
    while (text := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = text.partition(":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(line.decode("latin-1").strip(), headers, reader.read(length))


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


def wait_for(condition: Callable[[], bool]) -> None:
    """Let a moment pass until something has come to pass."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to pass")


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
