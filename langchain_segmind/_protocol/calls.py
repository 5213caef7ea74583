"""The exchanges with one account, written once: generators that describe I/O and perform none.

The money rules live here: what is sent again, what never is, and when nothing is sent at all.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind._protocol.balance import fetch_balance
from langchain_segmind._protocol.queue import run_job, wait_for_job
from langchain_segmind._protocol.responses import (
    Sending,
    error_from_failure,
    error_from_response,
    request_id_of,
)
from langchain_segmind._protocol.retry import (
    LONGEST_RESET,
    announced_wait,
    backoff,
    is_outcome_unknown,
    may_pass,
    read_rate_limit,
)
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Flow,
    Request,
    Response,
    Sleep,
    TransportFailure,
)
from langchain_segmind.credits import Credits, format_credits, remaining_credits
from langchain_segmind.exceptions import SegmindInsufficientCreditsError, SegmindLowCreditsWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind._journals.entries import Journal
    from langchain_segmind._journals.identity import Scope
    from langchain_segmind._protocol.account import Account
    from langchain_segmind._protocol.answers import Finished
    from langchain_segmind.credits import CreditBalance

logger = logging.getLogger("langchain_segmind")

_SLOT = AcquireSlot()


@dataclass(frozen=True, slots=True)
class Clock:
    """What a flow needs of the world, as arguments."""

    monotonic: Callable[[], float]
    """Seconds that only grow, for deadlines."""
    unix_time: Callable[[], float]
    """Seconds since 1970, for what headers say."""
    jitter: Callable[[], float]
    """Random numbers in 0..1."""


@dataclass(slots=True)
class Exchanges:
    """What a model may ask of Segmind, under its settings: each question is a flow."""

    account: Account
    clock: Clock
    max_retries: int = 2
    retry_unknown_outcome: bool = False
    timeout: float | None = 120.0
    """Seconds that a request may take with all its retries."""
    through_queue: bool = False
    """Whether completions are jobs of the queue (v2), or single calls (v1)."""
    poll_interval: float = 1.0
    queue_timeout: float = 600.0
    """Seconds from the submit, or from `resume`, to the answer of a job."""
    on_submit: Callable[[str], object] | None = None
    min_credits: float | None = None
    low_credits: float | None = None
    pause: Callable[[float], object] | None = None
    """Is told, beside the account, for how many seconds a 429 asks everyone to wait."""
    redact: Callable[[str], str] = str
    """Masks the API key in what a server may echo into the log."""

    # --- What may be asked ---

    def complete(
        self, model: str, body: bytes, *, accept_stream: bool = False
    ) -> Flow[Response | Finished]:
        """Pay for a completion: through the queue a finished answer, else v1's response.

        Raises:
            SegmindInsufficientCreditsError: The last balance seen is below `min_credits`.
            SegmindError: What the last attempt came to.
        """
        self._require_credits()
        if self.through_queue:
            return (yield from run_job(model, body, self))
        yield _SLOT
        return (
            yield from self.post(f"/v1/{model}", body, self.timeout, accept_stream=accept_stream)
        )

    def complete_once(
        self, model: str, body: bytes, journal: Journal, scope: Scope, *, account: tuple[str, ...]
    ) -> Flow[Finished]:
        """Pay for a completion, unless the journal says that it was paid for already.

        Of the `account`, which tells hosts and keys apart, only a hash is kept.
        """
        from langchain_segmind._protocol.journaled import answer_once

        return answer_once(self, model, body, journal, scope, account=account)

    def fetch(self, request_id: object) -> Flow[Finished]:
        """Wait for the answer of a job that was submitted before; it costs nothing."""
        return wait_for_job(request_id, self)

    def fetch_balance(self) -> Flow[CreditBalance]:
        """Ask what the account holds; it costs nothing."""
        return fetch_balance(self)

    # --- Sending ---

    def post(
        self, path: str, body: bytes, timeout: float | None, *, accept_stream: bool = False
    ) -> Flow[Response]:
        """POST a billable request until it is answered with 200; the limiter has let it go.

        The timeout, in seconds, spans all attempts and the waits between them.

        Raises:
            SegmindError: What the last attempt came to.
        """
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        request = Request("POST", path, body, accept_stream, deadline)
        outcomes = yield from self.send(request)
        lost_before = sum(map(may_be_billed, outcomes[:-1]))
        if isinstance(outcome := outcomes[-1], Response) and outcome.status == HTTPStatus.OK:
            self.account.retries.record_success()
            return outcome._replace(lost_before=lost_before) if lost_before else outcome
        sending = Sending(path.startswith("/v2/"), lost_before, self.retry_unknown_outcome)
        if isinstance(outcome, TransportFailure):
            if (answer := _answer_of(outcome)) is None:
                raise error_from_failure(outcome, sending)
            outcome = answer
        raise error_from_response(outcome, self.clock.unix_time(), sending)

    def send(
        self, request: Request, *, is_billable: bool = True
    ) -> Flow[list[Response | TransportFailure]]:
        """Send a request until it is answered with 200, or is not to be sent again.

        Segmind's own 429 and 5xx cost nothing and are sent again, as is what was never sent. What
        was sent and whose answer was lost, or given by a proxy in Segmind's place, may be billed
        already: it is not, unless the settings say so.

        Args:
            request: What to send; no attempt begins after its deadline.
            is_billable: Whether it may cost money: then an unknown outcome matters, all calls of
                the account share their retries, and each retry asks the limiter too.

        Returns:
            What each attempt came to; the last one counts.
        """
        outcomes: list[Response | TransportFailure] = []
        while True:
            outcome = yield from self.exchange(request)
            outcomes.append(outcome)
            if isinstance(outcome, Response) and outcome.status == HTTPStatus.OK:
                return outcomes
            delay = self._delay(outcome, len(outcomes) - 1, is_billable=is_billable)
            if delay is None or not self._fits(delay, request):
                return outcomes
            if is_billable and not (self._is_announced(outcome) or self.account.retries.spend()):
                why = "not sent again: many of the account's calls fail"
                logger.info("%s, %s", _describe(outcome), why)
                return outcomes
            how_often = f"{len(outcomes)} of {self.max_retries} retries"
            facts = (_describe(outcome), delay, how_often)
            logger.info("%s, waiting %.1f s, %s", *facts, extra={"wait_seconds": delay})
            yield Sleep(delay)
            if is_billable:
                yield _SLOT
            if not self._fits(0.0, request):
                # The slot came too late: what is sent now could be billed and not be waited for.
                return outcomes

    def exchange(self, request: Request) -> Flow[Response | TransportFailure]:
        """Send a request once, and keep in mind what the answer says about the account."""
        asked_at = self.clock.monotonic()
        outcome: Response | TransportFailure = yield request
        now = self.clock.monotonic()
        head = outcome if isinstance(outcome, Response) else outcome.head
        if logger.isEnabledFor(logging.DEBUG):
            line = f"{request.method} {request.path}: {_describe(outcome)} "
            line += f"after {now - asked_at:.2f} s{_describe_head(head)}"
            logger.debug("%s", self.redact(line))
        if head is not None:
            self._observe(head, asked_at, now)
        return outcome

    def _delay(
        self, outcome: Response | TransportFailure, attempt: int, *, is_billable: bool
    ) -> float | None:
        """Give the seconds to wait before the request is sent again, or None where it is not."""
        answer = _answer_of(outcome)
        if attempt >= self.max_retries or (answer is not None and not may_pass(answer.status)):
            return None
        if is_billable and not self.retry_unknown_outcome and may_be_billed(outcome):
            return None
        asked = None if answer is None else announced_wait(answer.headers, self.clock.unix_time())
        if asked is None:
            return backoff(attempt, self.clock.jitter())
        if asked > LONGEST_RESET:
            return None
        # Everyone is told the same second; jitter keeps them from coming back in one burst.
        return asked + backoff(0, self.clock.jitter()) / 2

    def _is_announced(self, outcome: Response | TransportFailure) -> bool:
        """Tell a 429 that says when it ends: the server works, and asks for a pause only."""
        answer = _answer_of(outcome)
        if answer is None or answer.status != HTTPStatus.TOO_MANY_REQUESTS:
            return False
        return announced_wait(answer.headers, self.clock.unix_time()) is not None

    def _fits(self, delay: float, request: Request) -> bool:
        return request.deadline is None or self.clock.monotonic() + delay < request.deadline

    # --- The account ---

    def _require_credits(self) -> None:
        least = self.min_credits
        if least is None or (balance := self.account.ledger.balance) is None or balance >= least:
            return
        raise SegmindInsufficientCreditsError(
            f"{_describe_shortage(balance, 'min_credits', least)} Nothing was sent. Top up at "
            "https://cloud.segmind.com/billing, then call llm.get_credits(), which sees the new "
            "balance and lets calls through again.",
            credits=Credits(remaining=balance),
        )

    def _observe(self, head: Response, asked_at: float, now: float) -> None:
        headers = head.headers
        self.account.ledger.note(remaining_credits(headers), asked_at=asked_at, now=now)
        if self.low_credits is not None:
            self.warn_if_low()
        if (limit := read_rate_limit(headers, self.clock.unix_time())) is not None:
            self.account.requests.observe(limit, asked_at=asked_at, now=now)
        if head.status != HTTPStatus.TOO_MANY_REQUESTS:
            return
        if (reset := announced_wait(headers, self.clock.unix_time())) is not None:
            seconds = min(reset, LONGEST_RESET)
            self.account.requests.pause(now + seconds)
            self._pass_on(seconds)

    def _pass_on(self, seconds: float) -> None:
        if self.pause is None:
            return
        try:
            self.pause(seconds)
        except Exception:
            # The call may still succeed: what the user's limiter does must not lose it.
            logger.exception("The rate limiter's pause raised; the call goes on.")

    def warn_if_low(self) -> None:
        """Warn where the balance has fallen below `low_credits`, once for each time."""
        ledger, least = self.account.ledger, self.low_credits
        if least is None or not ledger.falls_below(least):
            return
        shortage = _describe_shortage(ledger.balance or 0.0, "low_credits", least)
        message = f"{shortage} Top up at https://cloud.segmind.com/billing."
        try:
            warnings.warn(message, SegmindLowCreditsWarning, stacklevel=2)
        except SegmindLowCreditsWarning:
            # Where warnings are errors, this one must not cost an answer that is paid for.
            logger.warning("%s", message)


def may_be_billed(outcome: Response | TransportFailure) -> bool:
    """Tell a POST that may have been paid for though its answer is no 200."""
    if (answer := _answer_of(outcome)) is not None:
        return is_outcome_unknown(answer)
    return isinstance(outcome, TransportFailure) and outcome.sent


def _answer_of(outcome: Response | TransportFailure) -> Response | None:
    """Give what was answered, also where its words were lost: only a 200 is nothing without."""
    if isinstance(outcome, Response):
        return outcome
    head = outcome.head
    return None if head is None or head.status == HTTPStatus.OK else head


def _describe(outcome: Response | TransportFailure) -> str:
    """Give a status, or a failure's kind, without a word that came from outside."""
    if (answer := _answer_of(outcome)) is not None:
        return str(answer.status)
    return outcome.kind if isinstance(outcome, TransportFailure) else str(outcome.status)


def _describe_head(head: Response | None) -> str:
    """Give what an answer says of itself: no key, no prompt, no text."""
    line = ""
    if head is not None and (request_id := request_id_of(head.headers)) is not None:
        line += f", request {request_id}"
    if head is not None and (cost := Credits.from_headers(head.headers).cost) is not None:
        line += f", cost {format_credits(cost)}"
    return line


def _describe_shortage(balance: float, name: str, threshold: float) -> str:
    left, least = format_credits(balance), format_credits(threshold)
    left = f"just under {left}" if left == least else left
    return f"The last balance seen, {left} credits, is below {name}={least}."
