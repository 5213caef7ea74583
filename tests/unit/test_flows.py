from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind import (
    SegmindAPIError,
    SegmindError,
    SegmindRateLimitError,
    SegmindTimeoutError,
)
from langchain_segmind._protocol.calls import post
from langchain_segmind._protocol.retry import RetryPolicy
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Request,
    Response,
    Sleep,
    TransportFailure,
)
from tests.flowing import UNIX, Driver, Script, completion, reply, scripted

GOOD = reply(completion())
UNSENT = TransportFailure("unsent", "refused", sent=False)
LOST = TransportFailure("lost", "reset")
SLOW = TransportFailure("timeout", "no answer in time")
CUT = TransportFailure("unreadable", "cut short", head=Response(200, {}))


def driven(
    script: Script,
    *,
    max_retries: int = 2,
    unknown: bool = False,
    timeout: float | None = 100.0,
    jitter: float = 1.0,
) -> tuple[Driver, Response | SegmindError]:
    """Drive a call; give the driver and what it came to."""
    driver = Driver(script, jitter=lambda: jitter)
    policy = RetryPolicy(max_retries, retry_unknown_outcome=unknown)
    try:
        outcome: Any = driver.run(
            post("/v1/x", b"{}", policy=policy, timeout=timeout, clock=driver.clock)
        )
    except SegmindError as error:
        outcome = error
    return driver, outcome


def test_an_answer_ends_the_call() -> None:
    driver, outcome = driven(scripted(GOOD))
    assert outcome is GOOD
    assert driver.requests == [Request("POST", "/v1/x", b"{}", deadline=100.0)]
    assert driver.waits == []
    assert driver.permits == []


def test_each_repetition_waits_longer_and_asks_for_a_permit() -> None:
    driver, outcome = driven(scripted(reply({}, 500)), max_retries=3)
    assert isinstance(outcome, SegmindAPIError)
    assert driver.posts == 4
    assert driver.waits == [0.5, 1.0, 2.0]
    assert driver.permits == [AcquireSlot()] * 3


def test_a_repetition_is_the_same_request() -> None:
    driver, outcome = driven(scripted(reply({}, 503), UNSENT, GOOD))
    assert outcome is GOOD
    assert driver.requests[0] == driver.requests[1] == driver.requests[2]


@pytest.mark.parametrize("failure", [LOST, SLOW, CUT])
def test_what_may_be_billed_is_sent_once(failure: TransportFailure) -> None:
    driver, outcome = driven(scripted(failure, GOOD), max_retries=9)
    assert isinstance(outcome, SegmindError)
    assert outcome.outcome_unknown
    assert not outcome.is_retryable
    assert driver.posts == 1


@pytest.mark.parametrize("failure", [LOST, SLOW, CUT])
def test_what_may_be_billed_is_sent_again_where_the_user_says_so(failure: TransportFailure) -> None:
    driver, outcome = driven(scripted(failure, GOOD), unknown=True)
    assert outcome is GOOD
    assert driver.posts == 2


@pytest.mark.parametrize(
    "failure", [UNSENT, TransportFailure("timeout", "no connection", sent=False)]
)
def test_what_was_never_sent_is_tried_again(failure: TransportFailure) -> None:
    driver, outcome = driven(scripted(failure))
    assert isinstance(outcome, SegmindError)
    assert not outcome.outcome_unknown
    assert driver.posts == 3


def rate_limited(**headers: str) -> Response:
    return reply({"error": "slow down"}, 429, **headers)


def iso(seconds: float, form: str) -> str:
    return datetime.fromtimestamp(UNIX + seconds, UTC).strftime(form)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_rate_limit_reset_at_utc": iso(30, "%Y-%m-%dT%H:%M:%SZ")},
        {"x_rate_limit_reset_at_utc": iso(30, "%Y-%m-%dT%H:%M:%S+00:00")},
        {"x_rate_limit_reset_at_utc": iso(30, "%Y-%m-%d %H:%M:%S")},
        {"x_rate_limit_reset_at_utc": str(UNIX + 30)},
        {"x_rate_limit_reset_at_utc": str(int(UNIX + 30) * 1000)},
        {"retry_after": "30"},
        {"retry_after": iso(30, "%a, %d %b %Y %H:%M:%S GMT")},
    ],
)
def test_a_429_waits_for_the_window_and_spreads_those_who_wait(headers: dict[str, str]) -> None:
    driver, outcome = driven(scripted(rate_limited(**headers), GOOD))
    assert outcome is GOOD
    assert driver.waits == [pytest.approx(30.25)]


def test_a_429_whose_body_broke_off_waits_as_well() -> None:
    broken = TransportFailure("lost", "reset", head=Response(429, {"retry-after": "30"}))
    driver, outcome = driven(scripted(broken, GOOD))
    assert outcome is GOOD
    assert driver.waits == [30.25]


def test_a_503_may_name_a_time_too() -> None:
    driver, _ = driven(scripted(reply({}, 503, retry_after="7"), GOOD))
    assert driver.waits == [7.25]


@pytest.mark.parametrize(("reset", "timeout"), [("121", None), ("99999", 1e6), ("60", 50.0)])
def test_a_wait_that_is_too_long_is_told_at_once(reset: str, timeout: float | None) -> None:
    driver, outcome = driven(scripted(rate_limited(retry_after=reset)), timeout=timeout)
    assert isinstance(outcome, SegmindRateLimitError)
    assert outcome.retry_after == float(reset)
    assert driver.posts == 1
    assert driver.waits == []


def test_one_deadline_spans_all_attempts() -> None:
    driver, outcome = driven(scripted(reply({}, 500)), max_retries=99, timeout=10.0)
    assert isinstance(outcome, SegmindAPIError)
    assert driver.now < 10
    assert {request.deadline for request in driver.requests} == {10.0}


def test_a_permit_that_comes_too_late_is_not_used() -> None:
    driver = Driver(scripted(GOOD))
    flow = post("/v1/x", b"", policy=RetryPolicy(2), timeout=10.0, clock=driver.clock)
    assert isinstance(next(flow), Request)
    assert isinstance(flow.send(UNSENT), Sleep)
    assert flow.send(None) == AcquireSlot()
    driver.now = 11.0
    with pytest.raises(SegmindError):
        flow.send(None)


def test_no_retry_means_none() -> None:
    driver, outcome = driven(scripted(SLOW), max_retries=0, unknown=True)
    assert isinstance(outcome, SegmindTimeoutError)
    assert driver.posts == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 406, 410, 422])
@pytest.mark.parametrize("broken", [False, True])
def test_a_refusal_is_final_even_where_its_words_are_lost(status: int, broken: bool) -> None:
    refusal = (
        TransportFailure("lost", "reset", head=Response(status, {}))
        if broken
        else reply({}, status)
    )
    driver, outcome = driven(scripted(refusal, GOOD), max_retries=9, unknown=True)
    assert isinstance(outcome, SegmindError)
    assert outcome.status_code == status
    assert driver.posts == 1


outcomes = st.one_of(
    st.sampled_from([UNSENT, LOST, SLOW, CUT, GOOD]),
    st.builds(
        lambda status, after: reply({}, status, retry_after=after),
        st.integers(201, 599),
        st.sampled_from(["", "0", "5", "500", "soon"]),
    ),
)


@given(st.lists(outcomes, min_size=1, max_size=8), st.integers(0, 5), st.floats(0, 1))
def test_whatever_happens_money_is_spent_once(
    script: list[Response | TransportFailure], max_retries: int, jitter: float
) -> None:
    """No request follows one that may have been billed, nor goes beyond what was allowed."""
    seen: list[Response | TransportFailure] = []

    def answer(_request: Request) -> Response | TransportFailure:
        seen.append(script[min(len(seen), len(script) - 1)])
        return seen[-1]

    driver, _ = driven(answer, max_retries=max_retries, jitter=jitter)
    assert driver.posts <= max_retries + 1
    assert driver.now < 100
    for outcome in seen[:-1]:
        billed = outcome.sent if isinstance(outcome, TransportFailure) else outcome.status < 429
        assert not billed
