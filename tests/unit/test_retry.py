from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._protocol.retry import (
    BASE_DELAY,
    LONGEST_DELAY,
    RateLimit,
    backoff,
    is_outcome_unknown,
    may_pass,
    read_rate_limit,
    retry_after,
)
from langchain_segmind._protocol.types import Response

NOW = 1_795_000_000.0
"""2026-11-18 11:06:40 UTC."""


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-18T11:07:10Z",
        "2026-11-18T11:07:10+00:00",
        "2026-11-18T12:07:10+01:00",
        "2026-11-18T11:07:10",
        "2026-11-18 11:07:10",
        "2026-11-18 11:07:10 UTC",
        "2026-11-18T11:07:10.000Z",
        " 2026-11-18T11:07:10Z ",
        "Wed, 18 Nov 2026 11:07:10 GMT",
        "1795000030",
        "1795000030.0",
        "1795000030000",
    ],
)
def test_the_reset_of_a_window_is_read_in_every_form(value: str) -> None:
    assert retry_after({"x-rate-limit-reset-at-utc": value}, NOW) == pytest.approx(30)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("1.5", 1.5),
        ("0", 0),
        ("-5", 0),
        ("Wed, 18 Nov 2026 11:07:10 GMT", 30),
        ("Wed, 18 Nov 2026 11:07:10 -0000", 30),
        ("Wed, 18 Nov 2026 11:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value}, NOW) == pytest.approx(seconds)


def test_the_reset_counts_before_retry_after() -> None:
    headers = {"x-rate-limit-reset-at-utc": "1795000030", "retry-after": "5"}
    assert retry_after(headers, NOW) == 30


def test_a_reset_that_has_passed_means_now() -> None:
    assert retry_after({"x-rate-limit-reset-at-utc": "2026-11-18T11:00:00Z"}, NOW) == 0


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "1e999", "99999-01-01", "T", "²"])
def test_what_cannot_be_read_is_not_there(value: str) -> None:
    assert retry_after({"x-rate-limit-reset-at-utc": value, "retry-after": value}, NOW) is None
    assert retry_after({"x-rate-limit-reset-at-utc": value, "retry-after": "5"}, NOW) == 5


@given(st.text(), st.text())
def test_any_header_gives_seconds_or_nothing(reset: str, after: str) -> None:
    wait = retry_after({"x-rate-limit-reset-at-utc": reset, "retry-after": after}, NOW)
    assert wait is None or wait >= 0


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_stays_between_a_moment_and_its_longest(attempt: int, jitter: float) -> None:
    assert BASE_DELAY / 2 <= backoff(attempt, jitter) <= LONGEST_DELAY


def test_backoff_doubles_and_jitter_spreads_it_over_a_half() -> None:
    assert [backoff(attempt, 1.0) for attempt in range(6)] == [0.5, 1, 2, 4, 8, 8]
    assert backoff(1, 0.0) == 0.5


@pytest.mark.parametrize(
    ("status", "again"), [(400, 0), (401, 0), (406, 0), (422, 0), (429, 1), (500, 1), (599, 1)]
)
def test_only_429_and_5xx_pass(status: int, again: int) -> None:
    assert may_pass(status) is bool(again)


class TestRateLimit:
    def test_what_is_left_and_until_when(self) -> None:
        headers = {
            "x-rate-limit-remaining": "7",
            "x-rate-limit-reset-at-utc": "2026-11-18T11:07:10Z",
        }
        assert read_rate_limit(headers, NOW) == RateLimit(7, 30.0)

    @pytest.mark.parametrize("remaining", ["", "many", "nan", "inf", "1e300", "-1e300"])
    @pytest.mark.parametrize("reset", ["", "soon", "1795000030"])
    def test_what_is_half_named_is_not_named(self, remaining: str, reset: str) -> None:
        named = {"x-rate-limit-remaining": remaining, "x-rate-limit-reset-at-utc": reset}
        assert read_rate_limit(named, NOW) is None
        assert read_rate_limit({"x-rate-limit-remaining": "7"}, NOW) is None


OWN = b'{"error": "Server had some issue"}'
PAGE = b"<html><h1>Bad moment</h1></html>"


class TestUnknownOutcomes:
    @pytest.mark.parametrize("status", [504, 520, 522, 524])
    @pytest.mark.parametrize("body", [OWN, PAGE, b""])
    def test_a_proxy_that_gave_up_waiting_may_have_passed_the_request_on(
        self, status: int, body: bytes
    ) -> None:
        assert is_outcome_unknown(Response(status, {}, body))

    @pytest.mark.parametrize("status", [500, 502, 503, 530])
    @pytest.mark.parametrize("body", [PAGE, b"upstream connect error", b"[1]"])
    def test_a_5xx_that_is_not_segminds_json_is_a_proxys(self, status: int, body: bytes) -> None:
        """Varnish and Envoy, for two, answer 503 for a back end that was too slow."""
        assert is_outcome_unknown(Response(status, {}, body))

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (503, b'{"message": "Service Unavailable"}'),
            (502, b'{"message":"An invalid response was received from the upstream server"}'),
            (500, b'{"type": "about:blank", "title": "Internal Server Error", "status": 500}'),
            (
                502,
                b'{"title": "Error 502: Bad gateway", "error_code": 502, "cloudflare_error": true}',
            ),
        ],
    )
    def test_json_of_another_dialect_is_a_proxys(self, status: int, body: bytes) -> None:
        """AWS API Gateway, Kong, RFC 9457 and Cloudflare: the model may have been too slow."""
        assert is_outcome_unknown(Response(status, {}, body))

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    @pytest.mark.parametrize(
        "body",
        [
            OWN,
            b"{}",
            b'{"error": {"message": "no", "title": "x"}}',
            b'\xef\xbb\xbf {"error": "cut sho',
        ],
    )
    def test_segminds_own_answers_cost_nothing(self, status: int, body: bytes) -> None:
        assert not is_outcome_unknown(Response(status, {}, body))

    def test_a_429_of_a_proxy_was_not_passed_on(self) -> None:
        assert not is_outcome_unknown(Response(429, {}, PAGE))

    @pytest.mark.parametrize(
        ("status", "content_type", "unknown"),
        [(503, "text/html", 1), (503, "application/json", 0), (503, "", 0), (502, "", 1)],
    )
    def test_words_that_are_lost_are_known_by_their_type(
        self, status: int, content_type: str, unknown: int
    ) -> None:
        reply = Response(status, {"content-type": content_type})
        assert is_outcome_unknown(reply) is bool(unknown)
