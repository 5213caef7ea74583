"""What each answer says about the account, kept in mind, and each exchange logged."""

from __future__ import annotations

import logging
import warnings
from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind._protocol.calls import describe
from langchain_segmind._protocol.responses import request_id_of
from langchain_segmind._protocol.retry import LONGEST_RESET, read_rate_limit, retry_after
from langchain_segmind._protocol.types import Flow, Request, Response, T, TransportFailure
from langchain_segmind.credits import Credits, format_credits, remaining_credits
from langchain_segmind.exceptions import SegmindInsufficientCreditsError, SegmindLowCreditsWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind._protocol.account import Account
    from langchain_segmind._protocol.calls import Clock
    from langchain_segmind._protocol.types import Outcome

logger = logging.getLogger("langchain_segmind")


def track_account(
    flow: Flow[T],
    account: Account,
    *,
    clock: Clock,
    min_credits: float | None = None,
    low_credits: float | None = None,
    pause: Callable[[float], object] | None = None,
    redact: Callable[[str], str] = str,
) -> Flow[T]:
    """Run a flow, and keep in mind what its answers say about the account.

    Args:
        flow: What to run.
        account: Whose money it spends.
        clock: The time.
        min_credits: Below this balance nothing is sent.
        low_credits: Below this balance a warning is given.
        pause: Is told, beside the account, for how many seconds a 429 asks everyone to wait.
        redact: Masks the API key in what a server may echo into the log.

    Raises:
        SegmindInsufficientCreditsError: The last balance seen is below `min_credits`.
        SegmindError: As the flow does.
    """
    _require(min_credits, account)
    try:
        outcome: Outcome = None
        while True:
            command = flow.send(outcome)
            asked_at = clock.monotonic()
            outcome = yield command
            if isinstance(command, Request) and isinstance(outcome, Response | TransportFailure):
                _log(command, outcome, clock.monotonic() - asked_at, redact)
                _observe(outcome, account, asked_at, clock, pause)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()
        _warn_if_low(low_credits, account)


def _log(
    request: Request,
    outcome: Response | TransportFailure,
    seconds: float,
    redact: Callable[[str], str],
) -> None:
    """Give one line an exchange: no key, no prompt, no answer."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    line = f"{request.method} {request.path}: {describe(outcome)} after {seconds:.2f} s"
    head = outcome.head if isinstance(outcome, TransportFailure) else outcome
    if head is not None and (request_id := request_id_of(head.headers)) is not None:
        line += f", request {request_id}"
    if head is not None and (cost := Credits.from_headers(head.headers).cost) is not None:
        line += f", cost {format_credits(cost)}"
    logger.debug("%s", redact(line))


def _require(min_credits: float | None, account: Account) -> None:
    balance = account.ledger.balance
    if min_credits is None or balance is None or balance >= min_credits:
        return
    raise SegmindInsufficientCreditsError(
        f"{_describe_shortage(balance, 'min_credits', min_credits)} Nothing was sent. Top up at "
        "https://cloud.segmind.com/billing, then call llm.get_credits(), which sees the new "
        "balance and lets calls through again.",
        credits=Credits(remaining=balance),
    )


def _observe(
    outcome: Response | TransportFailure,
    account: Account,
    asked_at: float,
    clock: Clock,
    pause: Callable[[float], object] | None,
) -> None:
    reply = outcome.head if isinstance(outcome, TransportFailure) else outcome
    if reply is None:
        return
    now = clock.monotonic()
    remaining = remaining_credits(reply.headers)
    account.ledger.note(remaining, asked_at=asked_at, now=now)
    if (limit := read_rate_limit(reply.headers, clock.unix_time())) is not None:
        account.requests.observe(limit, asked_at=asked_at, now=now)
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
    shortage = _describe_shortage(account.ledger.balance, "low_credits", low_credits)
    message = f"{shortage} Top up at https://cloud.segmind.com/billing."
    try:
        warnings.warn(message, SegmindLowCreditsWarning, stacklevel=2)
    except SegmindLowCreditsWarning:
        # Where warnings are errors, this one must not cost an answer that is paid for.
        logger.warning("%s", message)


def _describe_shortage(balance: float | None, name: str, threshold: float) -> str:
    left, least = format_credits(balance or 0.0), format_credits(threshold)
    left = f"just under {left}" if left == least else left
    return f"The last balance seen, {left} credits, is below {name}={least}."
