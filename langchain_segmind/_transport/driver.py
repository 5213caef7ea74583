"""Driving flows: what they describe is performed here, blocking or on an event loop.

What it takes to perform a flow is written once, as a generator of steps. Each step is taken by one
of two `Performer`s: blocking, it is done when it is yielded; on an event loop, it is to be awaited.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.types import (
    AcquireSlot,
    Emit,
    EnterSubmit,
    JournalFailure,
    ReadChunk,
    Request,
    Response,
    Sleep,
    T,
    UseJournal,
)
from langchain_segmind._transport.base import clear_frames
from langchain_segmind._transport.content_encoding import BodyDecoder
from langchain_segmind._transport.failures import failure_from
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from langchain_core.rate_limiters import BaseRateLimiter

    from langchain_segmind._protocol.types import Command, Flow, TransportFailure
    from langchain_segmind._transport.base import StreamedResponse
    from langchain_segmind._transport.clients import Clients

    Steps = Generator[Any, Any, T]
    """Yields the results of blocking steps, or what is to be awaited for them, and `Emit`s."""


def run(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result, blocking."""
    steps, done = _perform(flow, clients, limiter, _BLOCKING), None
    try:
        while True:
            done = steps.send(done)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except SegmindError as error:
        raise clients.redact_error(error) from None
    finally:
        done = None  # A traceback would show what a server echoed.


async def arun(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result on the running event loop."""
    steps = _perform(flow, clients, limiter, _AWAITED)
    resume: Callable[[Any], Any] = steps.send
    given: Any = None
    try:
        while True:
            step = resume(given)
            try:
                given = await step
                resume = steps.send
            except BaseException as error:
                resume, given = steps.throw, error
    except StopIteration as stop:
        result: T = stop.value
        return result
    except SegmindError as error:
        raise clients.redact_error(error) from None
    finally:
        given = None


def stream(
    flow: Flow[None], clients: Clients, limiter: BaseRateLimiter | None = None
) -> Generator[Any]:
    """Drive a flow, blocking, and give what it emits."""
    steps = _perform(flow, clients, limiter, _BLOCKING)
    resume: Callable[[Any], Any] = steps.send
    given: Any = None
    try:
        while True:
            step = resume(given)
            try:
                given = (yield step.value) if isinstance(step, Emit) else step
                resume = steps.send
            except BaseException as error:
                resume, given = steps.throw, error
    except StopIteration:
        return
    except SegmindError as error:
        raise clients.redact_error(error) from None
    finally:
        step = given = None


async def astream(
    flow: Flow[None], clients: Clients, limiter: BaseRateLimiter | None = None
) -> AsyncGenerator[Any]:
    """Drive a flow on the running event loop, and give what it emits."""
    steps = _perform(flow, clients, limiter, _AWAITED)
    resume: Callable[[Any], Any] = steps.send
    given: Any = None
    try:
        while True:
            step = resume(given)
            try:
                given = (yield step.value) if isinstance(step, Emit) else await step
                resume = steps.send
            except BaseException as error:
                resume, given = steps.throw, error
    except StopIteration:
        return
    except SegmindError as error:
        raise clients.redact_error(error) from None
    finally:
        given = None


@dataclass(frozen=True, slots=True)
class _Performer:
    """What differs between blocking and awaiting."""

    prefix: str
    """Of a method's name, where it has an awaitable twin: `acquire`, `aacquire`."""
    sleep: Callable[[float], Any]

    def call(self, owner: Any, method: str, *arguments: Any, **options: Any) -> Any:
        return getattr(owner, self.prefix + method)(*arguments, **options)


_BLOCKING = _Performer("", time.sleep)
_AWAITED = _Performer("a", asyncio.sleep)


def _perform(
    flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None, performer: _Performer
) -> Steps[T]:
    """Perform the commands of a flow; what the network did becomes a value, not an exception."""
    body: _Body | None = None
    outcome: Any = None
    try:
        while True:
            command = flow.send(outcome)
            outcome = None
            if isinstance(command, Request):
                outcome, body = yield from _exchange(command, clients, performer)
            elif isinstance(command, ReadChunk):
                outcome = None if body is None else (yield from body.read_chunk())
            else:
                outcome = yield from _wait_or_tell(command, limiter, performer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        outcome = None  # An error's traceback would show what a server echoed.
        flow.close()
        if body is not None:
            yield body.answer.close()


def _wait_or_tell(
    command: Command, limiter: BaseRateLimiter | None, performer: _Performer
) -> Steps[Any]:
    """Perform a command that sends nothing to Segmind."""
    match command:
        case Emit():
            yield command
        case Sleep(seconds):
            yield performer.sleep(seconds)
        case AcquireSlot():
            is_counted = not command.poll or getattr(limiter, "count_polls", False)
            if limiter is not None and is_counted:
                yield performer.call(limiter, "acquire", blocking=True)
        case EnterSubmit(submits):
            yield performer.call(submits, "acquire")
        case UseJournal(journal, method, arguments, options):
            try:
                return (yield performer.call(journal, method, *arguments, **options))
            except Exception as error:
                return JournalFailure(error)
    return None


def _exchange(
    request: Request, clients: Clients, performer: _Performer
) -> Steps[tuple[Response | TransportFailure, _Body | None]]:
    """Send a request; give its answer, and the body where that is a stream still to be read."""
    head: Response | None = None
    answer: StreamedResponse | None = None
    try:
        transport = yield performer.call(clients, "transport")
        answer = yield transport.open(request)
        head = answer.head
        body = _Body(answer)
        if request.accept_stream and _is_event_stream(head):
            answer = None
            return Response(head.status, head.headers, is_stream=True), body
        return Response(head.status, head.headers, (yield from body.read_whole())), None
    except BaseException as error:
        if (failure := failure_from(error, head)) is None:
            clear_frames(error)
            raise
        return clients.located(failure), None
    finally:
        if answer is not None:
            yield answer.close()


class _Body:
    """The body of an answer, decompressed as it comes."""

    def __init__(self, answer: StreamedResponse) -> None:
        self.answer = answer
        self._decoder = BodyDecoder(answer.head.headers.get("content-encoding", ""))

    def read_whole(self) -> Steps[bytes]:
        parts = []
        while chunk := (yield self.answer.read()):
            parts.append(self._decoder.feed(chunk))
        self._decoder.finish()
        return b"".join(parts)

    def read_chunk(self) -> Steps[bytes | TransportFailure | None]:
        try:
            if chunk := (yield self.answer.read()):
                return self._decoder.feed(chunk)
            self._decoder.finish()
        except BaseException as error:
            if (failure := failure_from(error, self.answer.head)) is None:
                clear_frames(error)
                raise
            return failure
        return None


def _is_event_stream(head: Response) -> bool:
    content_type = head.headers.get("content-type", "")
    return head.status == HTTPStatus.OK and content_type.lower().startswith("text/event-stream")
