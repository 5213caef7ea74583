"""The queue (v2): submit and poll, as flows; what was submitted is never lost sight of.

The submit is a POST under the rules of `Exchanges.send`. From then on there are only GETs, which
cost nothing and are repeated until the deadline, and every error names the request id. A job is
asked for its answer, which says how far it is until it is there.
"""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.answers import Accounting, Finished, read_output
from langchain_segmind._protocol.responses import (
    UnusableAnswerError,
    decode_json,
    error_from_answer,
    error_from_response,
    shorten,
    words_of,
)
from langchain_segmind._protocol.retry import (
    announced_wait,
    backoff,
    may_pass,
    read_rate_limit,
)
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Request,
    Response,
    Sleep,
    TransportFailure,
)
from langchain_segmind.credits import Credits
from langchain_segmind.exceptions import (
    SegmindError,
    SegmindInvalidInputError,
    SegmindJobNotFoundError,
    SegmindResponseError,
    SegmindTimeoutError,
    job_error_class,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_segmind._protocol.calls import Exchanges
    from langchain_segmind._protocol.types import Flow

logger = logging.getLogger("langchain_segmind")

POLL_SECONDS = 60.0
"""How long one poll may take before it is given up and repeated."""
LOG_SECONDS = 1.0
"""How long a wait for the limit must be to be logged."""
SETTLING_SECONDS = 5.0
"""How long after its submit a job may be unknown to the part of Segmind that is asked."""

INFERENCE_FAILED = HTTPStatus.UNPROCESSABLE_ENTITY
"""The HTTP status of a job that ran and failed."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_POLL = AcquireSlot(poll=True)
_PASSING_FOR_A_GET = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)


# --- Flows -------------------------------------------------------------------------------------


def run_job(model: str, body: bytes, exchanges: Exchanges) -> Flow[Finished]:
    """Submit a job once, and wait for its answer.

    Raises:
        SegmindError: What it came to; it has the job's `request_id` once it was submitted.
    """
    yield AcquireSlot()
    sent_at = exchanges.clock.monotonic()
    limits = (exchanges.timeout, exchanges.queue_timeout)
    timeout = min(limit for limit in limits if limit is not None)
    try:
        reply = yield from exchanges.post(f"/v2/{model}", body, timeout)
    except GeneratorExit:
        warn_of_lost_submit()
        raise
    request_id, lost_before = read_request_id(reply), reply.lost_before
    del reply  # Nor is one kept by name below: while a job is waited for, it would be held.
    _notify(exchanges.on_submit, request_id)
    try:
        finished = yield from wait_for_job(request_id, exchanges, submitted_at=sent_at)
    except SegmindError as error:
        error.add_lost(lost_before)
        raise
    return finished._replace(accounting=finished.accounting.after(lost_before))


def warn_of_lost_submit() -> None:
    """Warn of a submit that was cancelled on its way."""
    logger.warning(
        "A submit was cancelled before its answer came: if Segmind took it, its job runs and is "
        "billed under an id that is not known here."
    )


def wait_for_job(
    request_id: object, exchanges: Exchanges, *, submitted_at: float | None = None
) -> Flow[Finished]:
    """Wait for the answer of a job; nothing is sent but GETs.

    Args:
        request_id: The job's.
        exchanges: With its account, and how long it is waited for.
        submitted_at: The monotonic time when it was submitted, if that was a moment ago: then it
            may not be known everywhere yet, and the time to wait counts from there. Any other job
            is asked at once.

    Raises:
        SegmindError: What it came to; it has the job's `request_id`.
    """
    if not _is_request_id(request_id):
        raise SegmindInvalidInputError(
            f"{str(request_id)[:80]!r} is no request id: letters, digits, '.', '_' and '-' only. "
            "Nothing was sent."
        )
    job = _Job(str(request_id), exchanges, submitted_at)
    try:
        finished = yield from job.wait()
    except GeneratorExit:
        if submitted_at is not None:
            logger.warning(
                "The call for the job %s was cancelled; the job goes on. %s",
                *(request_id, _how_to_resume(str(request_id))),
            )
        raise
    if submitted_at is not None:
        remaining, now = finished.accounting.credits.remaining, exchanges.clock.monotonic()
        exchanges.account.ledger.note(remaining, asked_at=submitted_at, now=now)
        exchanges.warn_if_low()
    return finished


class _Job:
    """A job and the conversation about it."""

    def __init__(self, request_id: str, exchanges: Exchanges, submitted_at: float | None) -> None:
        now = exchanges.clock.monotonic()
        self._id = request_id
        self._exchanges = exchanges
        self._clock = exchanges.clock
        self._polls = exchanges.account.polls
        self._deadline = (now if submitted_at is None else submitted_at) + exchanges.queue_timeout
        self._settles_at = None if submitted_at is None else now + SETTLING_SECONDS
        self._path = f"/v2/requests/{request_id}"
        # Only where the answer does not say how far the job is: see `_judge`.
        self._asks_status = self._is_completed = False
        self._asked = 0
        self._troubles = 0
        # A poll that was refused until a moment goes as soon as polls are allowed again.
        self._is_due = submitted_at is None
        self._last = "nothing is known of it yet"

    def wait(self) -> Flow[Finished]:
        """Ask until there is an answer, an error that stays, or no time left."""
        with self._polls.count_job():
            if not self._is_due:
                yield from self._pause(self._delay())
            while True:
                held = self._polls.seconds_until_allowed(now=self._clock.monotonic())
                if held:
                    if held >= LOG_SECONDS:
                        message = "Polls are at the plan's limit, waiting %.1f s"
                        logger.info(message, held, extra={"wait_seconds": held})
                    yield from self._pause(held)
                    continue
                if (finished := (yield from self._ask())) is not None:
                    return finished
                if (delay := self._delay()) > 0:
                    yield from self._pause(delay)

    def _ask(self) -> Flow[Finished | None]:
        """Ask once; nothing, where there is more to ask."""
        sent = self._polls.sent
        yield _POLL
        outcome = yield from self._exchanges.exchange(self._next_request())
        self._observe(outcome, sent)
        return self._judge(outcome)

    def _observe(self, outcome: Response | TransportFailure, sent: int) -> None:
        head = outcome.head if isinstance(outcome, TransportFailure) else outcome
        headers = {} if head is None else head.headers
        if (limit := read_rate_limit(headers, self._clock.unix_time())) is not None:
            self._polls.observe(limit, sent=sent, now=self._clock.monotonic())

    def _next_request(self) -> Request:
        deadline = min(self._deadline, self._clock.monotonic() + POLL_SECONDS)
        path = f"{self._path}/status" if self._asks_status else self._path
        return Request("GET", path, deadline=deadline)

    def _delay(self) -> float:
        if self._is_due:
            return 0.0
        now, jitter = self._clock.monotonic(), self._clock.jitter()
        interval = self._exchanges.poll_interval
        pace = self._polls.seconds_to_next_poll(self._asked, interval, now=now, jitter=jitter)
        return max(pace, backoff(self._troubles - 1, jitter)) if self._troubles else pace

    def _pause(self, seconds: float) -> Flow[None]:
        if self._clock.monotonic() + seconds >= self._deadline:
            raise SegmindTimeoutError(
                f"The job {self._id} was not finished within queue_timeout "
                f"({self._exchanges.queue_timeout:g} s): {self._last}. {_how_to_resume(self._id)}",
                request_id=self._id,
                outcome_unknown=True,
            )
        yield Sleep(seconds)

    # --- Judging what came back ---

    def _judge(self, outcome: Response | TransportFailure) -> Finished | None:
        """Take the answer, remember what to ask next, or raise what will not pass."""
        self._is_due = False
        if isinstance(outcome, Response) and outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._note_refusal(outcome)
            return None
        self._asked += 1
        if isinstance(outcome, TransportFailure):
            self._note_trouble(shorten(outcome.detail))
            return None
        if may_pass(outcome.status) or outcome.status in _PASSING_FOR_A_GET:
            self._note_trouble(_describe(outcome))
            return None
        self._polls.record_success()
        record = _read_record(outcome.body)
        status = (record or {}).get("status")
        if record is not None and outcome.status in (HTTPStatus.OK, INFERENCE_FAILED):
            if isinstance(status, str):
                return self._follow(status.upper(), record)
            if "error" in record and outcome.status != HTTPStatus.OK:
                raise self._job_error(record)
        if not (self._asks_status or self._is_completed):
            # It is not documented what the answer of an unfinished job is: its status tells.
            self._asks_status = self._is_due = True
        elif outcome.status == HTTPStatus.OK:
            self._note_trouble(_describe(outcome))
        else:
            self._check_refusal(outcome, record)
        return None

    def _follow(self, status: str, record: Mapping[str, Any]) -> Finished | None:
        self._troubles = 0
        self._last = f"its status was {status}"
        if status == "FAILED":
            raise self._job_error(record)
        if status != "COMPLETED":
            return None
        if not self._asks_status:
            return self._finish(record)
        self._asks_status, self._is_completed, self._is_due = False, True, True
        return None

    def _note_trouble(self, what: str) -> None:
        self._troubles += 1
        self._last = f"the last poll failed ({what})"

    def _note_refusal(self, reply: Response) -> None:
        self._last = f"the last poll failed ({_describe(reply)})"
        now, jitter = self._clock.monotonic(), self._clock.jitter()
        wait = announced_wait(reply.headers, self._clock.unix_time())
        self._polls.record_refusal(wait, now=now, jitter=jitter)
        self._is_due = wait is not None

    def _check_refusal(self, reply: Response, record: object) -> None:
        """Raise an answer of 4xx, unless it may be a proxy's, or come of haste."""
        if self._settles_at is not None:
            is_early = (
                reply.status == HTTPStatus.NOT_FOUND and self._clock.monotonic() < self._settles_at
            )
            if is_early or record is None:
                self._note_trouble(_describe(reply))
                return
        if reply.status == HTTPStatus.NOT_FOUND:
            raise self._not_found_error(reply)
        error = error_from_response(reply, self._clock.unix_time())
        raise type(error)(
            f"{error.message} The job is {self._id}. {_how_to_resume(self._id)}",
            status_code=reply.status,
            request_id=self._id,
            outcome_unknown=True,
        )

    def _not_found_error(self, reply: Response) -> SegmindJobNotFoundError:
        return SegmindJobNotFoundError(
            f"Segmind does not know the job {self._id}, or no longer: {words_of(reply.body)}. "
            f"{SegmindJobNotFoundError.advice}",
            status_code=reply.status,
            request_id=self._id,
            outcome_unknown=True,
        )

    def _job_error(self, record: Mapping[str, Any]) -> SegmindError:
        words = words_of(json.dumps({"error": record.get("error")}).encode())
        kind = job_error_class(words)
        return kind(
            f"The job {self._id} failed: {words}. {kind.advice}",
            status_code=INFERENCE_FAILED,
            request_id=self._id,
            credits=Credits.from_metrics(record.get("metrics")),
        )

    def _finish(self, record: Mapping[str, Any]) -> Finished:
        accounting = Accounting.from_metrics(record.get("metrics"), self._id)
        try:
            completion, raw = read_output(record.get("output"))
        except UnusableAnswerError as error:
            why = str(error)
        else:
            return Finished(completion, accounting, raw)
        unusable = SegmindResponseError(
            f"The job {self._id} is completed, but {why}. It has been billed; "
            f"llm.resume({self._id!r}) fetches the same answer again.",
            request_id=self._id,
            credits=accounting.credits,
            outcome_unknown=True,
        )
        unusable.answer = json.dumps(record.get("output")).encode()
        raise unusable


# --- Reading -----------------------------------------------------------------------------------


def _read_record(body: bytes) -> dict[str, Any] | None:
    try:
        record = decode_json(body)
    except UnusableAnswerError:
        return None
    return record if isinstance(record, dict) else None


def _describe(reply: Response) -> str:
    return f"Segmind answered {reply.status}: {words_of(reply.body)}"


def read_request_id(reply: Response) -> str:
    """Read the id of a job that was accepted; what is no id is not asked for.

    Raises:
        SegmindResponseError: There is none that a URL can be built from.
    """
    record = _read_record(reply.body)
    if record is None:
        raise error_from_answer(reply, f"its body names no job: {words_of(reply.body)}")
    request_id = record.get("request_id")
    if not _is_request_id(request_id):
        shown = shorten(repr(request_id))[:80]
        raise error_from_answer(reply, f"the job's request_id cannot be used in a URL: {shown}")
    return str(request_id)


def _is_request_id(value: object) -> bool:
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


# --- Leaving the id with the user --------------------------------------------------------------


def _how_to_resume(request_id: str) -> str:
    return (
        "It may have been billed, or still be: for about an hour after its submission, "
        f"llm.resume({request_id!r}) fetches its answer without paying again."
    )


def _notify(on_submit: Callable[[str], object] | None, request_id: str) -> None:
    if on_submit is None:
        return
    try:
        on_submit(request_id)
    except Exception:
        # The job is paid for: what the user's function does must not lose its answer.
        logger.exception("on_submit raised for the job %s, which goes on.", request_id)
