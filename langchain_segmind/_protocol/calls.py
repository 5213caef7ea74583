"""The calls that cost money, written once: generators that describe I/O and perform none.

The money rules live here: what is sent again, what never is, and when nothing is sent at all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind._protocol.responses import error_from_failure, error_from_response
from langchain_segmind._protocol.retry import (
    LONGEST_RESET,
    RetryPolicy,
    backoff,
    is_outcome_unknown,
    may_pass,
    retry_after,
)
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Flow,
    Request,
    Response,
    Sleep,
    TransportFailure,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind._protocol.account import Account
    from langchain_segmind._protocol.retry import RetryBudget

logger = logging.getLogger("langchain_segmind")


@dataclass(frozen=True, slots=True)
class Clock:
    """What a flow needs of the world, as arguments."""

    monotonic: Callable[[], float]
    """Seconds that only grow, for deadlines."""
    unix_time: Callable[[], float]
    """Seconds since 1970, for what headers say."""
    jitter: Callable[[], float]
    """Random numbers in 0..1."""


def post(
    path: str,
    body: bytes,
    *,
    policy: RetryPolicy,
    timeout: float | None,
    account: Account,
    clock: Clock,
    accept_stream: bool = False,
    has_slot: bool = False,
) -> Flow[Response]:
    """POST a billable request until it is answered with 200, when the limiter lets it go.

    Segmind's own 429 and 5xx cost nothing and are sent again, as is what was never sent. What was
    sent and whose answer was lost, or given by a proxy in Segmind's place, may be billed already:
    it is not, unless the policy says so. The timeout, in seconds, spans all attempts and the waits
    between them; a plan's turn that has to be waited for first is not held against the call.

    Args:
        path: Below the base URL.
        body: JSON.
        policy: How often it may be sent again.
        timeout: Seconds.
        account: Whose money it spends.
        clock: The time.
        accept_stream: Whether the answer may be an event stream.
        has_slot: Whether the limiter was asked already.

    Raises:
        SegmindError: What the last attempt came to.
    """
    if not has_slot:
        yield AcquireSlot()
    deadline = None if timeout is None else clock.monotonic() + timeout
    request = Request("POST", path, body, accept_stream=accept_stream, deadline=deadline)
    outcome = yield from send_until_answered(request, policy, clock, account.retries)
    if isinstance(outcome, Response) and outcome.status == HTTPStatus.OK:
        account.retries.record_success()
        return outcome
    raise _error(outcome, path, clock)


def send_until_answered(
    request: Request, policy: RetryPolicy, clock: Clock, budget: RetryBudget | None = None
) -> Flow[Response | TransportFailure]:
    """Send a request until it is answered with 200, or is not to be sent again.

    Args:
        request: What to send; no attempt begins after its deadline.
        policy: How often, and whether an unknown outcome matters.
        clock: The time.
        budget: What a request that costs money shares with all of its account; each of its
            repetitions asks the limiter too.
    """
    attempt = 0
    while True:
        outcome = yield from exchange(request)
        delay = _delay(outcome, attempt, policy, clock)
        if delay is None or not _fits(delay, request.deadline, clock):
            return outcome
        if budget is not None and not (_is_announced(outcome, clock) or budget.spend()):
            logger.info("%s, not sent again: many of the account's calls fail", describe(outcome))
            return outcome
        attempt += 1
        how_often = f"{attempt} of {policy.max_retries} retries"
        logger.info("%s, waiting %.1f s, %s", describe(outcome), delay, how_often)
        yield Sleep(delay)
        if budget is not None:
            yield AcquireSlot()
        if not _fits(0.0, request.deadline, clock):
            # The slot came too late: what is sent now could be billed and not be waited for.
            return outcome


def exchange(request: Request) -> Flow[Response | TransportFailure]:
    """Send a request once."""
    outcome = yield request
    if isinstance(outcome, Response | TransportFailure):
        return outcome
    raise TypeError(f"A driver answered a request with {outcome!r}.")


def describe(outcome: Response | TransportFailure) -> str:
    """Give a status, or a failure's kind, without a word that came from outside."""
    answer = _answer_of(outcome)
    if answer is not None:
        return str(answer.status)
    return outcome.kind if isinstance(outcome, TransportFailure) else str(outcome.status)


def _delay(
    outcome: Response | TransportFailure, attempt: int, policy: RetryPolicy, clock: Clock
) -> float | None:
    """Give the seconds to wait before the request is sent again, or None where it is not."""
    answer = _answer_of(outcome)
    if attempt >= policy.max_retries or (answer is not None and not may_pass(answer.status)):
        return None
    if not policy.retry_unknown_outcome and may_be_billed(outcome):
        return None
    asked = None if answer is None else retry_after(answer.headers, clock.unix_time())
    if asked is None:
        return backoff(attempt, clock.jitter())
    if asked > LONGEST_RESET:
        return None
    # Everyone is told the same second; jitter keeps them from coming back in one burst.
    return asked + backoff(0, clock.jitter()) / 2


def _answer_of(outcome: Response | TransportFailure) -> Response | None:
    """Give what was answered, also where its words were lost: only a 200 is nothing without."""
    if isinstance(outcome, Response):
        return outcome
    head = outcome.head
    return None if head is None or head.status == HTTPStatus.OK else head


def _is_announced(outcome: Response | TransportFailure, clock: Clock) -> bool:
    """Tell a 429 that says when it ends: the server works, and asks for no more than a pause."""
    answer = _answer_of(outcome)
    if answer is None or answer.status != HTTPStatus.TOO_MANY_REQUESTS:
        return False
    return retry_after(answer.headers, clock.unix_time()) is not None


def may_be_billed(outcome: Response | TransportFailure) -> bool:
    """Tell a POST that may have been paid for though its answer is no 200."""
    if (answer := _answer_of(outcome)) is not None:
        return is_outcome_unknown(answer)
    return isinstance(outcome, TransportFailure) and outcome.sent


def _fits(delay: float, deadline: float | None, clock: Clock) -> bool:
    return deadline is None or clock.monotonic() + delay < deadline


def _error(outcome: Response | TransportFailure, path: str, clock: Clock) -> Exception:
    to_queue = path.startswith("/v2/")
    answer = _answer_of(outcome)
    if isinstance(outcome, TransportFailure):
        if answer is None:
            return error_from_failure(outcome, to_queue=to_queue)
        outcome = answer
    return error_from_response(outcome, clock.unix_time(), to_queue=to_queue)
