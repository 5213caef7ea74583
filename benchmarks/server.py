# ruff: noqa: S101 - an assertion tells the type checker what the caller knows.
"""A server that costs as little as it can: it answers any POST as the path asks.

`/delay=0.2/…` answers after 0.2 s, `/size=1000000/…` with a text of a million characters, and
`/chunks=500/…` in 500 server-sent events where the body says `"stream": true`. Below `/v2/` it
takes jobs for a queue, none of which is ever finished.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

_OPTIONS = re.compile(rb"(delay|size|chunks)=([\d.]+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_DEFAULTS = {b"delay": 0.0, b"size": 64.0, b"chunks": 500.0}


class Answering(asyncio.Protocol):
    """One connection; requests are answered in turn, pipelining is not expected."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with nothing received."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Collect a request and answer it when it is whole."""
        received = self._received = self._received + data if self._received else data
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(received, 0, head_end)
        if length is not None and len(received) < head_end + 4 + int(length[1]):
            return
        self._received = b""
        path = received[: received.index(b"\r\n")]
        options = _DEFAULTS | {name: float(value) for name, value in _OPTIONS.findall(path)}
        if b"/v2/" in path:
            answer = _JOB
        elif _STREAM.search(received, head_end):
            answer = _events(int(options[b"chunks"]))
        else:
            answer = _completion(int(options[b"size"]))
        if options[b"delay"]:
            asyncio.get_running_loop().call_later(options[b"delay"], self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


_HEAD = (
    "HTTP/1.1 200 OK\r\nserver: bench\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    "x-remaining-credits: 4.52\r\nx-cost: 0.0004\r\nx-request-id: 0123456789abcdef\r\n"
    "x-generation-time: 0.42\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n"
)


_WAITING = (
    '{"request_id": "0123456789", "status": "PROCESSING", '
    '"status_url": "/v2/requests/0123456789/status", "response_url": "/v2/requests/0123456789"}'
)
_JOB = (_HEAD.format("application/json", len(_WAITING)) + _WAITING).encode()


@lru_cache
def _completion(size: int) -> bytes:
    completion: dict[str, Any] = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "llama-v3p1-70b-instruct",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": ("A cat sat. " * (size // 11 + 1))[:size],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 17, "completion_tokens": 16, "total_tokens": 33},
    }
    body = json.dumps(completion)
    return (_HEAD.format("application/json", len(body)) + body).encode()


@lru_cache
def _events(count: int) -> bytes:
    chunk: dict[str, Any] = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": "llama-v3p1-70b-instruct",
    }
    deltas: list[dict[str, str]] = [
        {"role": "assistant", "content": ""},
        *[{"content": " word"}] * count,
    ]
    choices: list[list[dict[str, Any]]] = [
        [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
    ]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    body = "".join(f"data: {json.dumps({**chunk, 'choices': each})}\n\n" for each in choices)
    body += "data: [DONE]\n\n"
    return (_HEAD.format("text/event-stream", len(body)) + body).encode()


async def serve(port_file: int) -> None:
    """Listen on a free port, write it to a file descriptor, and answer until killed."""
    server = await asyncio.get_running_loop().create_server(
        Answering, "127.0.0.1", 0, backlog=16_384
    )
    listener: socket.socket = server.sockets[0]
    os.write(port_file, f"{listener.getsockname()[1]}\n".encode())
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(serve(sys.stdout.fileno()))
