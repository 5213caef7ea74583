from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind import (
    SegmindAPIError,
    SegmindError,
    SegmindRateLimitError,
    SegmindTimeoutError,
)
from langchain_segmind._protocol.account import Account
from langchain_segmind._protocol.calls import Exchanges
from langchain_segmind._protocol.retry import RETRIES_IN_HAND
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Flow,
    Request,
    Response,
    Sleep,
    TransportFailure,
)
from tests.flows import UNIX, Driver, Script, completion, reply, scripted

if TYPE_CHECKING:
    from langchain_segmind._protocol.answers import Finished

GOOD = reply(completion())
UNSENT = TransportFailure("unsent", "refused", sent=False)
LOST = TransportFailure("lost", "reset")
SLOW = TransportFailure("timeout", "no answer in time")
CUT = TransportFailure("unreadable", "cut short", head=Response(200, {}))
GAVE_UP = reply({"error": "upstream timed out"}, 504)
PAGE = reply(b"<html><h1>502 Bad Gateway</h1></html>", 502)
BROKEN_PAGE = TransportFailure("lost", "reset", head=Response(503, {"content-type": "text/html"}))
UNKNOWN = [LOST, SLOW, CUT, GAVE_UP, PAGE, BROKEN_PAGE]


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
    settings: dict[str, Any] = {"max_retries": max_retries, "retry_unknown_outcome": unknown}
    try:
        outcome: Any = driver.run(posting(driver, timeout=timeout, **settings))
    except SegmindError as error:
        outcome = error
    return driver, outcome


def posting(
    driver: Driver,
    *,
    timeout: float | None = 10.0,
    account: Account | None = None,
    **settings: Any,
) -> Flow[Response | Finished]:
    """Give the flow of a call, of an account of its own where it is not told another."""
    exchanges = Exchanges(account or Account(), driver.clock, timeout=timeout, **settings)
    return exchanges.complete("x", b"{}")


def test_an_answer_ends_the_call() -> None:
    driver, outcome = driven(scripted(GOOD))
    assert outcome is GOOD
    assert driver.requests == [Request("POST", "/v1/x", b"{}", deadline=100.0)]
    assert driver.waits == []
    assert driver.permits == [AcquireSlot()]


def test_each_repetition_waits_longer_and_asks_for_a_permit() -> None:
    driver, outcome = driven(scripted(reply({}, 500)), max_retries=3)
    assert isinstance(outcome, SegmindAPIError)
    assert driver.posts == 4
    assert driver.waits == [0.5, 1.0, 2.0]
    assert driver.permits == [AcquireSlot()] * 4


def test_a_repetition_is_the_same_request() -> None:
    driver, outcome = driven(scripted(reply({}, 503), UNSENT, GOOD))
    assert outcome is GOOD
    assert driver.requests[0] == driver.requests[1] == driver.requests[2]


@pytest.mark.parametrize("failure", UNKNOWN)
def test_what_may_be_billed_is_sent_once(failure: Response | TransportFailure) -> None:
    driver, outcome = driven(scripted(failure, GOOD), max_retries=9)
    assert isinstance(outcome, SegmindError)
    assert outcome.outcome_unknown
    assert not outcome.is_retryable
    assert "not billed" not in str(outcome)
    assert driver.posts == 1


@pytest.mark.parametrize("failure", UNKNOWN)
def test_what_may_be_billed_is_sent_again_where_the_user_says_so(
    failure: Response | TransportFailure,
) -> None:
    driver, outcome = driven(scripted(failure, GOOD), unknown=True)
    assert outcome == GOOD._replace(lost_before=1)
    assert driver.posts == 2


@pytest.mark.parametrize("last", [reply({"error": "busy"}, 503), reply({}, 429), UNSENT])
@pytest.mark.parametrize("failure", UNKNOWN)
def test_a_refusal_after_an_unknown_outcome_does_not_make_it_free(
    failure: Response | TransportFailure, last: Response | TransportFailure
) -> None:
    _, outcome = driven(scripted(failure, last), unknown=True)
    assert isinstance(outcome, SegmindError)
    assert (outcome.outcome_unknown, outcome.is_retryable) == (True, False)
    assert "An earlier attempt of this call had been sent and may have been billed." in str(outcome)
    assert "not billed" not in str(outcome)
    assert "Nothing was sent." not in str(outcome)


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


@pytest.mark.parametrize(
    "headers",
    [{"x_rate_limit_reset_at_utc": str(UNIX - 30)}, {"retry_after": "0"}, {"retry_after": "-5"}],
)
def test_a_429_whose_moment_is_past_is_waited_for_like_one_without(headers: dict[str, str]) -> None:
    """A clock that is ahead sees each reset as past."""
    driver, account = Driver(scripted(rate_limited(**headers)), jitter=lambda: 1.0), Account()
    with pytest.raises(SegmindRateLimitError, match=r"429: slow down\. Wait for the window"):
        driver.run(posting(driver, account=account))
    assert driver.waits == [0.5, 1.0]
    assert [account.retries.spend() for _ in range(RETRIES_IN_HAND - 2)][-1]
    assert not account.retries.spend()


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
    flow = posting(driver)
    assert next(flow) == AcquireSlot()
    assert isinstance(flow.send(None), Request)
    assert isinstance(flow.send(UNSENT), Sleep)
    assert flow.send(None) == AcquireSlot()
    driver.now = 11.0
    with pytest.raises(SegmindError):
        flow.send(None)


def test_a_turn_that_was_waited_for_is_not_held_against_the_call() -> None:
    """A plan may make a call wait for minutes before it is sent."""
    driver = Driver(scripted(GOOD))
    flow = posting(driver, timeout=10.0)
    assert next(flow) == AcquireSlot()
    driver.now = 600.0
    assert flow.send(None) == Request("POST", "/v1/x", b"{}", deadline=610.0)


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
        if isinstance(outcome, TransportFailure):
            billed = outcome.sent
        else:
            billed = outcome.status < 429 or outcome.status in (504, 520, 522, 524)
        assert not billed


class TestBudget:
    """What all calls of an account may repeat together."""

    def test_an_outage_costs_at_most_half_a_retry_a_call(self) -> None:
        driver, account = Driver(scripted(reply({}, 503))), Account()
        for _ in range(150):
            self._call(driver, account)
        assert driver.posts == 150 + RETRIES_IN_HAND <= 1.5 * 150

    def test_the_first_success_ends_it(self) -> None:
        """One call that is answered gives one retry, and as many as there were give all."""
        driver, account = Driver(scripted(reply({}, 503))), Account()
        for _ in range(60):
            self._call(driver, account)
        assert self._posts_of(scripted(reply({}, 503), GOOD), account) == 1
        assert self._posts_of(scripted(GOOD), account) == 1
        assert self._posts_of(scripted(reply({}, 503), GOOD), account) == 2
        for _ in range(RETRIES_IN_HAND):
            self._posts_of(scripted(GOOD), account)
        assert self._posts_of(scripted(reply({}, 503)), account) == 3

    def test_calls_that_fail_here_and_there_never_run_out(self) -> None:
        account = Account()
        for _ in range(500):
            assert self._posts_of(scripted(reply({}, 500), GOOD), account) == 2

    def test_a_429_that_says_when_it_ends_is_no_outage(self) -> None:
        """The server works, and everyone waits until then; without a date it may be anything."""
        account = Account()
        for _ in range(100):
            assert self._posts_of(scripted(rate_limited(retry_after="1")), account) == 3
        for _ in range(RETRIES_IN_HAND):
            self._posts_of(scripted(rate_limited()), account)
        assert self._posts_of(scripted(rate_limited()), account) == 1

    def test_who_is_not_repeated_says_why(self, caplog: pytest.LogCaptureFixture) -> None:
        account = Account()
        with caplog.at_level(logging.INFO, "langchain_segmind"):
            for _ in range(RETRIES_IN_HAND):
                self._posts_of(scripted(reply({}, 503)), account)
        assert caplog.messages[-1] == "503, not sent again: many of the account's calls fail"

    def _posts_of(self, script: Script, account: Account) -> int:
        driver = Driver(script)
        self._call(driver, account)
        return driver.posts

    def _call(self, driver: Driver, account: Account) -> None:
        with suppress(SegmindError):
            driver.run(posting(driver, account=account, timeout=100.0))


class TestLog:
    def test_a_retry_is_told_before_it_is_waited_for(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        driver = Driver(scripted(rate_limited(retry_after="12"), LOST), jitter=lambda: 0.0)
        with caplog.at_level(logging.INFO, "langchain_segmind"), suppress(SegmindError):
            driver.run(posting(driver, timeout=100.0))
        assert caplog.messages == ["429, waiting 12.1 s, 1 of 2 retries"]

    def test_each_exchange_is_a_line_for_who_debugs(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither what was asked nor what was answered is in it, and no key that is echoed."""
        answer = reply(completion(), x_request_id="SECRET-1", x_cost="0.00101475000000001")
        driver = Driver(scripted(UNSENT, reply({"error": "secret"}, 503), answer))
        flow = posting(driver, redact=lambda line: line.replace("SECRET", "***"))
        with caplog.at_level(logging.DEBUG, "langchain_segmind"):
            driver.run(flow)
        assert [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG] == [
            "POST /v1/x: unsent after 0.00 s",
            "POST /v1/x: 503 after 0.00 s",
            "POST /v1/x: 200 after 0.00 s, request ***-1, cost 0.00101475",
        ]
