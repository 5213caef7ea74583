"""Each exchange with Segmind, written once: generators that describe I/O and perform none.

The money rules live here: what is sent again, what never is, and when nothing is sent at all.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind._protocol.responses import (
    UnusableAnswerError,
    decode_json,
    error_from_failure,
    error_from_response,
    shortened,
    words_of,
)
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
    T,
    TransportFailure,
)
from langchain_segmind.credits import CreditBalance, Credits, remaining_credits
from langchain_segmind.exceptions import (
    SegmindConnectionError,
    SegmindInsufficientCreditsError,
    SegmindLowCreditsWarning,
    SegmindMethodNotAllowedError,
    SegmindModelNotFoundError,
    SegmindResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind._protocol.account import Account

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
    clock: Clock,
    accept_stream: bool = False,
) -> Flow[Response]:
    """POST a billable request until it is answered with 200.

    Segmind's own 429 and 5xx cost nothing and are sent again, as is what was never sent. What was
    sent and whose answer was lost, or given by a proxy in Segmind's place, may be billed already:
    it is not, unless the policy says so. The timeout, in seconds, spans all attempts and the waits
    between them.

    Raises:
        SegmindError: What the last attempt came to.
    """
    deadline = None if timeout is None else clock.monotonic() + timeout
    request = Request("POST", path, body, accept_stream=accept_stream, deadline=deadline)
    attempt = 0
    while True:
        outcome = yield request
        if isinstance(outcome, Response) and outcome.status == HTTPStatus.OK:
            return outcome
        assert isinstance(outcome, Response | TransportFailure)  # noqa: S101 - drivers answer requests.
        delay = _delay(outcome, attempt, policy, clock)
        if delay is None or not _fits(delay, deadline, clock):
            raise _error(outcome, path, clock)
        yield Sleep(delay)
        yield AcquireSlot()
        if not _fits(0.0, deadline, clock):
            # The permit came too late: what is sent now could be billed and not be waited for.
            raise _error(outcome, path, clock)
        attempt += 1


def fetch_balance(
    *, policy: RetryPolicy, timeout: float | None, account: Account, clock: Clock
) -> Flow[CreditBalance]:
    """Ask what the account holds: a GET, which costs nothing and is safe to repeat.

    Raises:
        SegmindError: What the last attempt came to.
    """
    deadline = None if timeout is None else clock.monotonic() + timeout
    repeatable = RetryPolicy(policy.max_retries, retry_unknown_outcome=True)
    request = Request("GET", "/v1/get-user-credits", deadline=deadline)
    attempt = 0
    while True:
        outcome = yield request
        if isinstance(outcome, Response) and outcome.status == HTTPStatus.OK:
            balance = _balance_from(outcome)
            account.ledger.state(balance.total, now=clock.monotonic())
            return balance
        assert isinstance(outcome, Response | TransportFailure)  # noqa: S101 - drivers answer requests.
        delay = _delay(outcome, attempt, repeatable, clock)
        if delay is None or not _fits(delay, deadline, clock):
            raise _balance_error(outcome, clock)
        yield Sleep(delay)
        attempt += 1


def track_account(
    flow: Flow[T],
    account: Account,
    *,
    clock: Clock,
    min_credits: float | None = None,
    low_credits: float | None = None,
    pause: Callable[[float], object] | None = None,
) -> Flow[T]:
    """Run a flow, and keep in mind what its answers say about the account.

    `pause` is told, beside the account, for how many seconds a 429 asks everyone to wait.

    Raises:
        SegmindInsufficientCreditsError: The last balance seen is below `min_credits`.
        SegmindError: As the flow does.
    """
    _require(min_credits, account)
    try:
        outcome = None
        while True:
            command = flow.send(outcome)
            asked_at = clock.monotonic()
            outcome = yield command
            reply = outcome.head if isinstance(outcome, TransportFailure) else outcome
            if isinstance(reply, Response):
                _observe(reply, account, asked_at, clock, pause)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()
        _warn_if_low(low_credits, account)


def _require(min_credits: float | None, account: Account) -> None:
    balance = account.ledger.balance
    if min_credits is None or balance is None or balance >= min_credits:
        return
    raise SegmindInsufficientCreditsError(
        f"The last balance seen, {balance:g} credits, is below min_credits={min_credits:g}. "
        "Nothing was sent. Top up at https://cloud.segmind.com/billing, then call "
        "llm.get_credits(), which sees the new balance and lets calls through again.",
        credits=Credits(remaining=balance),
    )


def _observe(
    reply: Response,
    account: Account,
    asked_at: float,
    clock: Clock,
    pause: Callable[[float], object] | None,
) -> None:
    now = clock.monotonic()
    remaining = remaining_credits(reply.headers)
    account.ledger.note(remaining, asked_at=asked_at, now=now)
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        reset = retry_after(reply.headers, clock.unix_time())
        if reset is not None:
            seconds = min(reset, LONGEST_RESET)
            account.requests.pause(now + seconds)
            _pass_on(pause, seconds)


def _pass_on(pause: Callable[[float], object] | None, seconds: float) -> None:
    if pause is None:
        return
    try:
        pause(seconds)
    except Exception:
        # The call may still succeed: what the user's limiter does must not lose it.
        logger.exception("The rate limiter's pause raised; the call goes on.")


def _warn_if_low(low_credits: float | None, account: Account) -> None:
    if low_credits is None or not account.ledger.falls_below(low_credits):
        return
    left = account.ledger.balance
    told = (
        f"{left:g} credits are left, which is below low_credits={low_credits:g}. "
        "Top up at https://cloud.segmind.com/billing."
    )
    try:
        warnings.warn(told, SegmindLowCreditsWarning, stacklevel=2)
    except SegmindLowCreditsWarning:
        # Where warnings are errors, this one must not cost an answer that is paid for.
        logger.warning("%s", told)


def _balance_from(reply: Response) -> CreditBalance:
    try:
        balance = CreditBalance.from_answer(decode_json(reply.body))
    except UnusableAnswerError:
        balance = None
    if balance is None:
        raise SegmindResponseError(
            f"Segmind's answer names no balance: {words_of(reply.body)}. Check base_url and any "
            "proxy in between.",
            status_code=reply.status,
        )
    return balance


def _balance_error(outcome: Response | TransportFailure, clock: Clock) -> Exception:
    if isinstance(outcome, TransportFailure):
        error = error_from_failure(outcome)
        return type(error)(
            f"The balance could not be asked for: {shortened(outcome.detail)}. Nothing was billed. "
            f"{SegmindConnectionError.advice}",
            status_code=error.status_code,
            request_id=error.request_id,
        )
    words = words_of(outcome.body)
    if outcome.status == HTTPStatus.NOT_FOUND and "credit" in words.lower():
        return SegmindInsufficientCreditsError(
            f"Segmind has no credits on record for this key ({words}). "
            f"{SegmindInsufficientCreditsError.advice}",
            status_code=outcome.status,
        )
    if outcome.status == HTTPStatus.NOT_FOUND:
        return SegmindModelNotFoundError(
            f"There is no account to ask for credits at base_url ({words}). "
            f"{SegmindMethodNotAllowedError.advice}",
            status_code=outcome.status,
        )
    return error_from_response(outcome, clock.unix_time(), billable=False)


def _delay(
    outcome: Response | TransportFailure, attempt: int, policy: RetryPolicy, clock: Clock
) -> float | None:
    """Give the seconds to wait before the request is sent again, or None where it is not."""
    if attempt >= policy.max_retries:
        return None
    answer = _answer_of(outcome)
    if answer is not None and not may_pass(answer.status):
        return None
    if not policy.retry_unknown_outcome and _may_be_billed(outcome, answer):
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
    head = outcome.head if isinstance(outcome, TransportFailure) else outcome
    return None if head is None or head.status == HTTPStatus.OK else head


def _may_be_billed(outcome: Response | TransportFailure, answer: Response | None) -> bool:
    if answer is not None:
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
