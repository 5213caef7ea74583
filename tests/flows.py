"""Stepping flows by hand: a clock that only moves when a flow waits, and a script that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_segmind._protocol.calls import Clock
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Flow,
    Request,
    Response,
    Sleep,
    TransportFailure,
)

if TYPE_CHECKING:
    from langchain_segmind._protocol.types import Command, Outcome

T = TypeVar("T")
Script = Callable[[Request], "Response | TransportFailure"]

UNIX = 1_700_000_000.0
"""The Unix time when the clock shows 0."""


class Driver:
    """Drives flows as `driver.run` does, without a socket and without a second passing."""

    def __init__(self, answer: Script, *, jitter: Callable[[], float] = lambda: 0.5) -> None:
        """Let a function answer the requests."""
        self.now = 0.0
        self.clock = Clock(lambda: self.now, lambda: UNIX + self.now, jitter)
        self.requests: list[Request] = []
        self.waits: list[float] = []
        self.permits: list[AcquireSlot] = []
        self._answer = answer

    @property
    def sent(self) -> list[str]:
        """Give what was sent, as `POST /v2/slug`."""
        return [f"{request.method} {request.path}" for request in self.requests]

    @property
    def posts(self) -> int:
        """Count what could cost money."""
        return sum(request.method == "POST" for request in self.requests)

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its result."""
        outcome: Outcome = None
        try:
            while True:
                outcome = self._perform(flow.send(outcome))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _perform(self, command: Command) -> Outcome:
        match command:
            case Request():
                self.requests.append(command)
                return self._answer(command)
            case Sleep(seconds):
                self.waits.append(seconds)
                self.now += seconds
            case AcquireSlot():
                self.permits.append(command)
        return None


def send(request: Request) -> Flow[Response | TransportFailure]:
    """Send one request, and give what came of it."""
    outcome: Response | TransportFailure = yield request
    return outcome


def scripted(*outcomes: Response | TransportFailure) -> Script:
    """Answer with one outcome after the other, the last one for ever."""
    left = list(outcomes)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def reply(body: object = None, status: int = 200, **headers: str) -> Response:
    """Give an answer whose body is JSON, or these bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, data
    )


def completion(text: str = "Hi!") -> dict[str, Any]:
    """Give a provider's chat completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "cmpl-1", "model": "llama", "choices": [choice], "usage": usage}
