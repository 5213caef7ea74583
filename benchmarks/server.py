"""Answers as the path asks, at as little cost as can be: what a call costs is to be the caller's.

`/delay=0.2/…` is answered after 0.2 s, `/size=1000000/…` with a text of a million characters, and
`/chunks=500/…` in 500 server-sent events where the body says `"stream": true`. Below `/v2/` jobs
for a queue are taken: those of `/done/v2/` are finished at once, and no other ever is.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tests.servers import FaultServer, Later, events, http

if TYPE_CHECKING:
    from tests.servers import Received

_OPTIONS = re.compile(rb"(delay|size|chunks)=([\d.]+)")
_STREAM = re.compile(rb'"stream": ?true')
_DEFAULTS = {b"delay": 0.0, b"size": 64.0, b"chunks": 500.0}


class BenchmarkServer(FaultServer):
    """A server that has no faults and keeps no request."""

    def next_answer(self, received: Received) -> bytes | Later:
        """Choose by the path, and by whether the body asks for a stream."""
        path = received.head[: received.head.index(b"\r\n")]
        options = _DEFAULTS | {name: float(value) for name, value in _OPTIONS.findall(path)}
        if b"/v2/" in path:
            answer = _finished_job(path) if b"/done/v2/requests/" in path else _JOB
        elif _STREAM.search(received.body):
            answer = _events(int(options[b"chunks"]))
        else:
            answer = _completion(int(options[b"size"]))
        delay = options[b"delay"]
        return Later(delay, answer) if delay else answer


_HEADERS = {
    "server": "bench",
    "date": "Thu, 01 Jan 2026 00:00:00 GMT",
    "x-remaining-credits": "4.52",
    "x-cost": "0.0004",
    "x-request-id": "0123456789abcdef",
    "x-generation-time": "0.42",
}
_JOB = http(
    {
        "request_id": "0123456789",
        "status": "PROCESSING",
        "status_url": "/v2/requests/0123456789/status",
        "response_url": "/v2/requests/0123456789",
    },
    headers=_HEADERS,
)
_METRICS = {"inference_time": 0.42, "cost": 0.0004, "remaining_credits": 4.52}
_COMPLETION = {
    "id": "chatcmpl-0123456789",
    "created": 1767225600,
    "model": "llama-v3p1-70b-instruct",
}


@lru_cache
def _completion(size: int) -> bytes:
    return http(_body(size), headers=_HEADERS)


@lru_cache
def _finished_job(path: bytes) -> bytes:
    job = {"request_id": "0123456789", "status": "COMPLETED", "metrics": _METRICS}
    if b"/status " not in path:
        job["output"] = json.dumps(_body(64))
    return http(job, headers=_HEADERS)


def _body(size: int) -> dict[str, Any]:
    text = ("A cat sat. " * (size // 11 + 1))[:size]
    message = {"role": "assistant", "content": text}
    return {
        **_COMPLETION,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 17, "completion_tokens": 16, "total_tokens": 33},
    }


@lru_cache
def _events(count: int) -> bytes:
    chunk = {**_COMPLETION, "object": "chat.completion.chunk"}
    deltas = [{"role": "assistant", "content": ""}, *[{"content": " word"}] * count]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in deltas
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    body = events(*({**chunk, "choices": [choice]} for choice in choices))
    return http(body, headers=_HEADERS, content_type="text/event-stream")


def main() -> None:
    """Print the port, and answer on the core that is named until killed."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    server = BenchmarkServer()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    asyncio.run(server.serve())


if __name__ == "__main__":
    main()
