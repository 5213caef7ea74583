"""Each exchange with Segmind, written once: generators that describe I/O and perform none.

The money rules live here: what is sent again, what never is, and when nothing is sent at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_segmind._exchange import Failure, Flow, Permit, Reply, Request, Wait
from langchain_segmind._replies import error_from_failure, error_from_reply
from langchain_segmind._retry import (
    LONGEST_RESET,
    RetryPolicy,
    backoff,
    is_unbilled_and_passing,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OK = 200


@dataclass(frozen=True, slots=True)
class Surroundings:
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
    world: Surroundings,
    accept_stream: bool = False,
) -> Flow[Reply]:
    """POST a billable request until it is answered with 200.

    An answered 429 or 5xx cost nothing and is sent again, as is what was never sent. What was sent
    and whose answer was lost may be billed already: it is not, unless the policy says so. The
    timeout, in seconds, spans all attempts and the waits between them.

    Raises:
        SegmindError: What the last attempt came to.
    """
    deadline = None if timeout is None else world.monotonic() + timeout
    request = Request("POST", path, body, accept_stream=accept_stream, deadline=deadline)
    attempt = 0
    while True:
        outcome = yield request
        if isinstance(outcome, Reply) and outcome.status == OK:
            return outcome
        assert isinstance(outcome, Reply | Failure)  # noqa: S101 - drivers answer requests.
        delay = _delay(outcome, attempt, policy, world)
        if delay is None or not _fits(delay, deadline, world):
            raise _error(outcome, world)
        yield Wait(delay)
        yield Permit()
        attempt += 1


def _delay(
    outcome: Reply | Failure, attempt: int, policy: RetryPolicy, world: Surroundings
) -> float | None:
    """Give the seconds to wait before the request is sent again, or None where it is not."""
    if attempt >= policy.max_retries:
        return None
    if isinstance(outcome, Failure):
        head = outcome.head
        answered = head is not None and is_unbilled_and_passing(head.status)
        if outcome.sent and not answered and not policy.retry_unknown_outcome:
            return None
        return backoff(attempt, world.jitter())
    if not is_unbilled_and_passing(outcome.status):
        return None
    asked = retry_after(outcome.headers, world.unix_time())
    if asked is None:
        return backoff(attempt, world.jitter())
    if asked > LONGEST_RESET:
        return None
    # Everyone is told the same second; jitter keeps them from coming back in one burst.
    return asked + backoff(0, world.jitter()) / 2


def _fits(delay: float, deadline: float | None, world: Surroundings) -> bool:
    return deadline is None or world.monotonic() + delay < deadline


def _error(outcome: Reply | Failure, world: Surroundings) -> Exception:
    if isinstance(outcome, Failure):
        head = outcome.head
        if head is None or head.status == OK:
            return error_from_failure(outcome)
        outcome = head  # The status was answered; only its words were lost.
    return error_from_reply(outcome, world.unix_time())
