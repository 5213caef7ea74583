"""Driving flows: what they describe is performed here, blocking or on an event loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, closing
from dataclasses import replace
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
    TransportFailure,
    UseJournal,
)
from langchain_segmind._transport.base import drop_frames, seconds_left
from langchain_segmind._transport.content_encoding import BodyDecoder
from langchain_segmind._transport.failures import failure_from
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from langchain_core.rate_limiters import BaseRateLimiter

    from langchain_segmind._protocol.types import Command, Flow, Outcome
    from langchain_segmind._transport.base import AsyncStreamedResponse, StreamedResponse
    from langchain_segmind._transport.clients import Clients

# --- Driving ---------------------------------------------------------------------------------


def run(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result, blocking."""
    with closing(flow), closing(Driver(clients, limiter)) as driver:
        outcome: Outcome = None
        try:
            while True:
                outcome = driver.perform(flow.send(outcome))
        except StopIteration as stop:
            result: T = stop.value
            return result
        except SegmindError as error:
            outcome = None
            raise clients.redact_error(error) from None


async def arun(flow: Flow[T], clients: Clients, limiter: BaseRateLimiter | None = None) -> T:
    """Drive a flow to its result on the running event loop."""
    with closing(flow):
        async with aclosing(AsyncDriver(clients, limiter)) as driver:
            outcome: Outcome = None
            try:
                while True:
                    outcome = await driver.perform(flow.send(outcome))
            except StopIteration as stop:
                result: T = stop.value
                return result
            except SegmindError as error:
                outcome = None
                raise clients.redact_error(error) from None


def stream(
    flow: Flow[None], clients: Clients, limiter: BaseRateLimiter | None = None
) -> Generator[Any]:
    """Drive a flow, blocking, and give what it emits."""
    with closing(flow), closing(Driver(clients, limiter)) as driver:
        outcome: Outcome = None
        try:
            while True:
                command = flow.send(outcome)
                if isinstance(command, Emit):
                    outcome = yield command.value
                else:
                    outcome = driver.perform(command)
        except StopIteration:
            return
        except SegmindError as error:
            outcome = None
            raise clients.redact_error(error) from None


async def astream(
    flow: Flow[None], clients: Clients, limiter: BaseRateLimiter | None = None
) -> AsyncGenerator[Any]:
    """Drive a flow on the running event loop, and give what it emits."""
    with closing(flow):
        async with aclosing(AsyncDriver(clients, limiter)) as driver:
            outcome: Outcome = None
            try:
                while True:
                    command = flow.send(outcome)
                    if isinstance(command, Emit):
                        outcome = yield command.value
                    else:
                        outcome = await driver.perform(command)
            except StopIteration:
                return
            except SegmindError as error:
                outcome = None
                raise clients.redact_error(error) from None


class Driver:
    """Performs the commands of one flow, blocking."""

    def __init__(self, clients: Clients, limiter: BaseRateLimiter | None) -> None:
        """Open nothing yet."""
        self._clients = clients
        self._limiter = limiter
        self._stream: _Body | None = None

    def perform(self, command: Command) -> Outcome:
        """Perform one command; what the network did becomes a value, never an exception."""
        match command:
            case Request():
                return self._exchange(command)
            case ReadChunk():
                return self._read()
            case UseJournal():
                return _use(command)
            case EnterSubmit(submits):
                submits.acquire()
            case Sleep(seconds):
                time.sleep(seconds)
            case AcquireSlot():
                if self._limiter is not None and _counts(self._limiter, command):
                    self._limiter.acquire(blocking=True)
        return None

    def close(self) -> None:
        """Close the stream that was not read to its end."""
        if self._stream is not None:
            self._stream.answer.close()
            self._stream = None

    def _exchange(self, request: Request) -> Response | TransportFailure:
        head, answer = None, None
        try:
            answer = self._clients.sync_transport().open(request)
            head = answer.head
            body = _Body(answer, head, request.deadline)
            if request.accept_stream and _is_event_stream(head):
                self._stream, answer = body, None
                return replace(head, is_stream=True)
            return replace(head, body=b"".join(iter(body.read, None)))
        except Exception as error:
            if (failure := failure_from(error, head)) is None:
                raise
            return self._clients.located(failure)
        except BaseException as interruption:
            drop_frames(interruption)
            raise
        finally:
            if answer is not None:
                answer.close()

    def _read(self) -> bytes | TransportFailure | None:
        if self._stream is None:
            return None
        try:
            return self._stream.read()
        except Exception as error:
            if (failure := failure_from(error, self._stream.head)) is None:
                raise
            return failure


class AsyncDriver:
    """Performs the commands of one flow on the running event loop."""

    def __init__(self, clients: Clients, limiter: BaseRateLimiter | None) -> None:
        """Open nothing yet."""
        self._clients = clients
        self._limiter = limiter
        self._stream: _AsyncBody | None = None

    async def perform(self, command: Command) -> Outcome:
        """Perform one command; what the network did becomes a value, never an exception."""
        match command:
            case Request():
                return await self._exchange(command)
            case ReadChunk():
                return await self._read()
            case UseJournal():
                return await _ause(command)
            case EnterSubmit(submits):
                await submits.aacquire()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case AcquireSlot():
                if self._limiter is not None and _counts(self._limiter, command):
                    await self._limiter.aacquire(blocking=True)
        return None

    async def aclose(self) -> None:
        """Close the stream that was not read to its end."""
        if self._stream is not None:
            await self._stream.answer.close()
            self._stream = None

    async def _exchange(self, request: Request) -> Response | TransportFailure:
        head, answer = None, None
        try:
            transport = await self._clients.async_transport()
            async with asyncio.timeout(seconds_left(request.deadline)):
                answer = await transport.open(request)
                head = answer.head
                body = _AsyncBody(answer, head, request.deadline)
                if request.accept_stream and _is_event_stream(head):
                    self._stream, answer = body, None
                    return replace(head, is_stream=True)
                return replace(head, body=await body.read_whole())
        except Exception as error:
            if (failure := failure_from(error, head)) is None:
                raise
            return self._clients.located(failure)
        except BaseException as interruption:
            drop_frames(interruption)
            raise
        finally:
            if answer is not None:
                await answer.close()

    async def _read(self) -> bytes | TransportFailure | None:
        if self._stream is None:
            return None
        try:
            async with asyncio.timeout(seconds_left(self._stream.deadline)):
                return await self._stream.read()
        except Exception as error:
            if (failure := failure_from(error, self._stream.head)) is None:
                raise
            return failure


class _Body:
    """The body of an answer, decompressed as it comes, until the deadline."""

    def __init__(self, answer: StreamedResponse, head: Response, deadline: float | None) -> None:
        self.answer, self.head, self.deadline = answer, head, deadline
        self._decoder = BodyDecoder(head.headers.get("content-encoding", ""))

    def read(self) -> bytes | None:
        if (chunk := next(self.answer.chunks, None)) is None:
            self._decoder.finish()
            return None
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError
        return self._decoder.feed(chunk)


class _AsyncBody:
    """As `_Body`, on an event loop; who reads it bounds the time."""

    def __init__(
        self, answer: AsyncStreamedResponse, head: Response, deadline: float | None
    ) -> None:
        self.answer, self.head, self.deadline = answer, head, deadline
        self._decoder = BodyDecoder(head.headers.get("content-encoding", ""))

    async def read(self) -> bytes | None:
        if (chunk := await anext(self.answer.chunks, None)) is None:
            self._decoder.finish()
            return None
        return self._decoder.feed(chunk)

    async def read_whole(self) -> bytes:
        parts = [self._decoder.feed(chunk) async for chunk in self.answer.chunks]
        self._decoder.finish()
        return b"".join(parts)


def _use(command: UseJournal) -> Any:
    try:
        return getattr(command.journal, command.method)(*command.arguments, **command.options)
    except Exception as error:
        return JournalFailure(error)


async def _ause(command: UseJournal) -> Any:
    method = getattr(command.journal, f"a{command.method}")
    try:
        return await method(*command.arguments, **command.options)
    except Exception as error:
        return JournalFailure(error)


def _counts(limiter: BaseRateLimiter, slot: AcquireSlot) -> bool:
    return not slot.poll or getattr(limiter, "count_polls", False)


def _is_event_stream(head: Response) -> bool:
    content_type = head.headers.get("content-type", "")
    return head.status == HTTPStatus.OK and content_type.lower().startswith("text/event-stream")
