"""What answers the requests of a batch: many at once, each paid for once, ended in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from langchain_segmind._batch.budget import BudgetReachedError, Size
from langchain_segmind._batch.requests import BatchRequest, key_of
from langchain_segmind._batch.results import BatchResult, SchemaMismatchError
from langchain_segmind._messages.outgoing import text_of_wire, to_messages
from langchain_segmind._messages.tokens import PER_MESSAGE, PER_PROMPT, estimate_tokens
from langchain_segmind._protocol.types import Request
from langchain_segmind._transport import driver
from langchain_segmind.exceptions import (
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindConnectionError,
    SegmindError,
    SegmindInvalidInputError,
    SegmindJournalError,
    SegmindOutcomeUnknownError,
    SegmindPermissionDeniedError,
    SegmindRateLimitError,
    SegmindTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from langchain_segmind._batch.budget import Budget
    from langchain_segmind._batch.schemas import AnswerSchema
    from langchain_segmind._journals.entries import Journal, JournalEntry
    from langchain_segmind._messages.incoming import Call
    from langchain_segmind._protocol.answers import Finished
    from langchain_segmind._protocol.types import Flow
    from langchain_segmind._transport.clients import Clients
    from langchain_segmind.chat_models import ChatSegmindLlama

PAGE = 256
"""Requests that the journal is asked about at a time, ahead of those that answer them."""
SUBMIT_GRACE, ANSWER_GRACE = 5.0, 30.0
"""Seconds that calls on their way have when a run is stopped; then their outcome is unknown.

The id that a submit waits for takes less than one, while v1 sends the whole answer, and it is lost
with the call."""
MOST_UNANSWERED = 100
"""Calls in a row to which nobody answers until the run ends: a laptop may have lost its network."""
_OUTAGES = (SegmindConnectionError, SegmindTimeoutError, SegmindAPIError, SegmindRateLimitError)
_ENDS_THE_RUN = (
    BudgetReachedError,
    SegmindAuthenticationError,
    SegmindPermissionDeniedError,  # Insufficient credits, too.
    SegmindJournalError,
)
"""What would meet every further request, and costs nothing."""
_UNCOUNTED = Size(1, 1)
Requests = Iterable[Any] | AsyncIterable[Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that is wanted."""

    request: BatchRequest
    number: int = 0

    @property
    def key(self) -> str:
        """Under which the journal has it."""
        return key_of(self.request.custom_id, self.number)

    def result(self, error: SegmindError | None = None, **known: Any) -> BatchResult:
        """Say what became of it."""
        return BatchResult(self.request.custom_id, self.number, error, **known)


@dataclass(slots=True)
class _Attempt:
    """One call, ready to be sent, and whether it is on its way."""

    sample: Sample
    key: str
    call: Call
    clients: Clients
    entry: JournalEntry | None = None
    """What the journal knew of it when it was asked for the page."""
    body: bytes | None = None
    """What is sent, where a budget bounds the answer."""
    is_sending: bool = False

    @property
    def state(self) -> str | None:
        """How far it had come."""
        return None if self.entry is None else self.entry.state


class _StoppedError(Exception):
    """The run ends: this call is not sent, or not waited for."""


class Runner:
    """Answers samples as they come, and tells each result once."""

    def __init__(
        self,
        llm: ChatSegmindLlama,
        samples: Iterable[Sample] | AsyncIterable[Sample],
        *,
        in_flight: int,
        budget: Budget,
        schema: AnswerSchema | None = None,
        schema_retries: int = 0,
        is_written: Callable[[str], bool] = lambda _: False,
        pilot: int | None = None,
    ) -> None:
        """Take what to answer; nothing is read or sent before `results`.

        Args:
            llm: Answers, and has the journal.
            samples: What to answer.
            in_flight: How many calls are under way at most.
            budget: What may be spent.
            schema: What answers have to fit.
            schema_retries: How often one that does not is asked for again.
            is_written: Tells a key whose answer is written already.
            pilot: How many calls are begun before `go_on` is set.
        """
        self._llm = llm
        self._journal: Journal = llm.journal
        self._samples = samples
        self._budget = budget
        self._schema = schema
        self._retries = schema_retries if schema is not None else 0
        self._is_written = is_written
        self._slots = asyncio.Semaphore(in_flight)
        self._results: asyncio.Queue[BatchResult | None] = asyncio.Queue()
        self._running: dict[asyncio.Task[None], _Attempt] = {}
        self._is_ending = self._is_stopped = False
        self.grace = SUBMIT_GRACE if llm._through_queue else ANSWER_GRACE  # noqa: SLF001 - of this package.
        """Seconds that calls on their way have once the run is stopped."""
        self._unanswered = 0
        self._begun, self._pilot = 0, pilot
        self.finished = 0
        """How many of the calls that were begun have come to a result."""
        self.go_on: asyncio.Event = asyncio.Event()
        """Lets the calls after the pilot begin."""
        self.failure: Exception | None = None
        """What ended the run before its time."""

    async def results(self) -> AsyncGenerator[BatchResult]:
        """Give each result as it comes; whoever leaves early stops the run in order."""
        feeder = asyncio.create_task(self._feed())
        try:
            while (result := await self._results.get()) is not None:
                yield result
                self._slots.release()
        finally:
            self.stop()
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            await self._wait_for_running()

    def end(self, failure: Exception | None = None) -> None:
        """Begin nothing new; what was sent is waited for."""
        self.failure = self.failure or failure
        self._is_ending = True
        self.go_on.set()

    def stop(self) -> None:
        """Wait for nothing but calls on their way, and not long: the journal has the rest."""
        self.end()
        self._is_stopped = True
        for task, attempt in self._running.items():
            if not attempt.is_sending:
                task.cancel()
        if self._running:
            asyncio.get_running_loop().call_later(self.grace, self._drop)

    def abort(self) -> None:
        """Drop everything at once: what is on its way is noted as unknown."""
        self.stop()
        self._drop()

    @property
    def sending(self) -> int:
        """How many calls are on their way, of which the journal does not know what becomes."""
        return sum(attempt.is_sending for attempt in self._running.values())

    def _drop(self) -> None:
        for task in self._running:
            task.cancel()

    # --- Feeding --------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Begin one call after the other, as slots come free."""
        try:
            async for each in self._look_up():
                await self._slots.acquire()
                if isinstance(each, _Attempt) and each.state != "answered":
                    if self._begun == self._pilot:
                        await self.go_on.wait()
                    self._begun += 1
                if self._is_ending:
                    break
                if isinstance(each, BatchResult):
                    self._results.put_nowait(each)
                    continue
                task = asyncio.create_task(self._answer(each))
                self._running[task] = each
                task.add_done_callback(self._running.pop)
        except Exception as error:
            self.end(error)
        await self._wait_for_running()
        self._results.put_nowait(None)

    async def _wait_for_running(self) -> None:
        """Wait for all that was begun."""
        if self._running:
            await asyncio.wait(list(self._running))

    async def _look_up(self) -> AsyncIterator[_Attempt | BatchResult]:
        """Prepare a page of calls at a time, with what the journal knows of them."""
        async for page in _pages(self._samples):
            known = await self._journal.aget_many([sample.key for sample in page])
            for sample in page:
                entry = known.get(sample.key)
                # Its journal was lost, or could not be written when the answer came.
                if (entry is None or entry.state != "answered") and self._is_written(sample.key):
                    yield sample.result(replayed=True)
                    continue
                try:
                    yield self._prepare(sample, sample.key, entry)
                except SegmindInvalidInputError as error:
                    yield sample.result(error)

    def _prepare(self, sample: Sample, key: str, entry: JournalEntry | None) -> _Attempt:
        call, clients = prepare(self._llm, sample.request, self._schema, idempotency_key=key)
        return _Attempt(sample, key, call, clients, entry)

    # --- Answering ------------------------------------------------------------------------------

    async def _answer(self, attempt: _Attempt) -> None:
        """Answer a sample, asking again where the schema is missed, and tell the result."""
        task, sample, retry = asyncio.current_task(), attempt.sample, 0
        try:
            result = await self._answer_once(attempt)
            while isinstance(result.error, SchemaMismatchError) and retry < self._retries:
                retry, before = retry + 1, result
                key = key_of(sample.request.custom_id, sample.number, retry)
                attempt = self._prepare(sample, key, await self._journal.aget(key))
                if task is not None:
                    self._running[task] = attempt
                result = await self._answer_once(attempt)
                result = result.after(before)
        except (_StoppedError, asyncio.CancelledError):
            if attempt.is_sending:
                self._results.put_nowait(sample.result(_dropped(attempt.key), cost=None))
            else:
                self._slots.release()
        except Exception as error:
            self._slots.release()
            self.end(error)
        else:
            self.finished += not result.replayed
            self._results.put_nowait(result)
            self._unanswered = self._unanswered + 1 if isinstance(result.error, _OUTAGES) else 0
            if self._unanswered >= MOST_UNANSWERED:
                self.end(result.error)

    async def _answer_once(self, attempt: _Attempt) -> BatchResult:
        """Send a call, or fetch what was sent before.

        Raises:
            SegmindError: What would meet every other request as well.
        """
        size = await self._reserve(attempt) if self._budget.is_limited else _UNCOUNTED
        cost: float | None = 0.0
        lost = 0
        try:
            exchange = self._llm._exchange(attempt.call, attempt.clients)  # noqa: SLF001 - of this package.
            flow = self._guard(attempt.call.complete(exchange), attempt)
            finished = await driver.arun(flow, attempt.clients, self._llm._limiter())  # noqa: SLF001 - as above.
            cost = finished.accounting.credits.cost
            lost = finished.accounting.lost
            if not finished.accounting.extra.get("replayed"):
                self._budget.learn(size, finished.completion.get("usage"), cost)
            elif self._budget.counts_replays and attempt.entry is not None:
                cost = attempt.entry.cost or 0.0
            return self._result_of(attempt, finished)
        except SegmindError as error:
            if isinstance(error, _ENDS_THE_RUN):
                raise
            paid = None if error.credits is None else error.credits.cost
            cost = paid if error.outcome_unknown else paid or 0.0
            lost = error.lost_attempts - (cost is None)
            facts = {"request_id": error.request_id, "cost": cost, "lost_attempts": lost}
            return attempt.sample.result(error, **facts)
        finally:
            self._budget.settle(size, None if attempt.is_sending else cost, lost)

    async def _reserve(self, attempt: _Attempt) -> Size:
        """Wait until the budget has room for a call, and bound its answer."""
        body = json.loads(attempt.call.body)
        texts = map(text_of_wire, body["messages"])
        prompt = PER_PROMPT + sum(PER_MESSAGE + estimate_tokens(text) for text in texts)
        size = Size(prompt, body.get("max_tokens"), attempt.call.model)
        if attempt.state == "unknown" and self._llm.retry_unknown_outcome:
            self._budget.count(size, is_lost=True)
        elif attempt.state not in {None, "sending"}:  # Nothing more will be paid for it.
            return self._budget.count(size)
        reserved = await self._budget.reserve(size)
        if size.completion is None:
            body["max_tokens"] = reserved.completion
            attempt.body = json.dumps(body).encode()
        return reserved

    def _guard(self, flow: Flow[Any], attempt: _Attempt) -> Flow[Any]:
        """Run a flow; once the run ends, leave it between two steps, but never while it submits."""
        try:
            outcome, is_known = None, attempt.state in {None, "answered"}
            while True:
                command = flow.send(outcome)
                method = getattr(command, "method", None)  # The journal's, or "GET" or "POST".
                if is_known and method == "get":
                    outcome, is_known = attempt.entry, False  # It was asked for the page.
                    continue
                if not attempt.is_sending and (
                    self._is_stopped or (self._is_ending and method in {"claim", "POST"})
                ):
                    flow.throw(_StoppedError())
                attempt.is_sending = attempt.is_sending or method == "claim"
                if isinstance(command, Request) and method == "POST" and attempt.body is not None:
                    command = command._replace(body=attempt.body)
                outcome = yield command
                if method in {"claim", "update", "release"}:
                    attempt.is_sending = getattr(outcome, "is_new", False)
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()

    def _result_of(self, attempt: _Attempt, finished: Finished) -> BatchResult:
        accounting, error, parsed = finished.accounting, None, None
        if self._schema is not None:
            try:
                result = attempt.call.result(finished)
                parsed = self._schema.read(result, accounting.request_id)
            except SchemaMismatchError as mismatch:
                error = mismatch
        return attempt.sample.result(
            error,
            parsed=parsed,
            raw=finished.raw,
            request_id=accounting.request_id,
            cost=accounting.credits.cost,
            lost_attempts=accounting.lost,
            replayed=bool(accounting.extra.get("replayed")),
        )


def _dropped(key: str) -> SegmindOutcomeUnknownError:
    return SegmindOutcomeUnknownError(
        f"The call {key!r} was on its way when the run was stopped. It may have been billed. "
        f"{SegmindOutcomeUnknownError.advice}",
        outcome_unknown=True,
    )


def prepare(
    llm: ChatSegmindLlama, request: BatchRequest, schema: AnswerSchema | None = None, **options: Any
) -> tuple[Call, Clients]:
    """Check a request and write its body, as the model does for any call.

    Raises:
        SegmindInvalidInputError: It cannot be sent.
    """
    messages = to_messages(request.messages)
    options |= request.parameters
    if schema is not None:
        options |= schema.options
    return llm._prepare(messages, None, None, options)  # noqa: SLF001 - of this package.


def as_samples(requests: Requests, samples: int) -> Iterable[Sample] | AsyncIterable[Sample]:
    """Ask for some answers to each request, lazily."""
    if isinstance(requests, AsyncIterable):
        return (Sample(_request(r), n) async for r in requests for n in range(samples))
    return (Sample(_request(r), n) for r in requests for n in range(samples))


def _request(request: object) -> BatchRequest:
    if isinstance(request, BatchRequest):
        return request
    return BatchRequest.from_record(dict(request) if isinstance(request, Mapping) else request)


async def _pages(samples: Iterable[Sample] | AsyncIterable[Sample]) -> AsyncIterator[list[Sample]]:
    """Cut samples into lists; what an async source has comes without waiting for a full one."""
    if isinstance(samples, AsyncIterable):
        async for sample in samples:
            yield [sample]
        return
    samples = iter(samples)
    while page := list(islice(samples, PAGE)):
        yield page
