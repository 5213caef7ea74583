"""What an account holds: a GET, which costs nothing and is safe to repeat."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind._protocol.responses import (
    UnusableAnswerError,
    decode_json,
    error_from_failure,
    error_from_response,
    shorten,
    words_of,
)
from langchain_segmind._protocol.types import Flow, Request, Response, TransportFailure
from langchain_segmind.credits import CreditBalance
from langchain_segmind.exceptions import (
    SegmindConnectionError,
    SegmindInsufficientCreditsError,
    SegmindMethodNotAllowedError,
    SegmindModelNotFoundError,
    SegmindResponseError,
)

if TYPE_CHECKING:
    from langchain_segmind._protocol.calls import Clock, Exchanges


def fetch_balance(exchanges: Exchanges) -> Flow[CreditBalance]:
    """Ask what the account holds."""
    clock, timeout = exchanges.clock, exchanges.timeout
    deadline = None if timeout is None else clock.monotonic() + timeout
    request = Request("GET", "/v1/get-user-credits", deadline=deadline)
    *_, outcome = yield from exchanges.send(request, is_billable=False)
    if not isinstance(outcome, Response) or outcome.status != HTTPStatus.OK:
        raise _balance_error(outcome, clock)
    balance = _balance_from(outcome)
    exchanges.account.ledger.set_balance(balance.total, now=clock.monotonic())
    exchanges.warn_if_low()
    return balance


def _balance_from(reply: Response) -> CreditBalance:
    with suppress(UnusableAnswerError):
        if balance := CreditBalance.from_answer(decode_json(reply.body), reply.headers):
            return balance
    raise SegmindResponseError(
        f"Segmind's answer names no balance: {words_of(reply.body)}. Check base_url and any "
        "proxy in between.",
        status_code=reply.status,
    )


def _balance_error(outcome: Response | TransportFailure, clock: Clock) -> Exception:
    if isinstance(outcome, TransportFailure):
        error = error_from_failure(outcome)
        return type(error)(
            f"The balance could not be asked for: {shorten(outcome.detail)}. Nothing was billed. "
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
