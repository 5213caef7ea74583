"""What may be sent again, and when: functions of numbers and headers; no clock, no I/O."""

from __future__ import annotations

import math
import re
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_segmind._protocol.types import Response

BASE_DELAY = 0.5
"""Seconds before the first retry, at most."""
LONGEST_DELAY = 8.0
"""Seconds before any retry that the server did not ask for, at most."""
LONGEST_RESET = 120.0
"""Seconds that a 429 may make a call wait; beyond that the caller is told instead."""

MOST_REQUESTS = 1e9
"""More than any plan has: what names more is no number of requests."""

RETRIES_IN_HAND = 50
"""How many retries an account has before one of its calls must succeed again."""

FIRST_POLL = 0.1
"""The share of the poll interval that passes before a job is first asked after."""
POLL_GROWTH = 1.5
"""How much longer each wait for a job is than the one before, up to the poll interval."""
POLLS_PER_SECOND = 150
"""How often all jobs of an account together are asked after: a few per cent of a core."""
JOBS_IN_STEP = 8
"""From how many jobs on polls go in step: woken for one at a time, each costs twice as much."""
POLL_STEP = 0.2
"""Seconds between two steps, at most."""
PROBE_INTERVAL = 0.1
"""Seconds between polls that go one at a time, while they are refused."""


class RetryBudget:
    """The retries that all calls of an account share, so that an outage does not triple its load.

    A retry takes one and a call that succeeds gives one back, as in botocore's standard mode and
    gRPC's throttling: calls that fail here and there never run out, and while nothing succeeds
    each call is soon sent once. The first call that succeeds ends that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = RETRIES_IN_HAND

    def spend(self) -> bool:
        """Take one retry, or tell that there is none."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def record_success(self) -> None:
        """Give one retry back."""
        if self._left < RETRIES_IN_HAND:
            with self._lock:
                self._left = min(self._left + 1, RETRIES_IN_HAND)


PROXY_TIMEOUTS = frozenset([HTTPStatus.GATEWAY_TIMEOUT, 520, 522, 524])
"""What a proxy answers that gave up waiting; those from 520 on are Cloudflare's."""


_FOREIGN_JSON = re.compile(rb'[{,]\s*"(?:message|title)"\s*:')
"""Where a model was too slow AWS API Gateway answers 503 with `{"message": "Service Unavailable"}`,
and Kong 502 with a `message`; Cloudflare, and what follows RFC 9457, names a `title`."""


def may_pass(status: int) -> bool:
    """Tell the statuses that may be another one next time: 429 and 5xx."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def is_outcome_unknown(reply: Response) -> bool:
    """Tell the failures of a proxy, behind which a model may go on and be billed.

    Only Segmind's own answers are promised to cost nothing, and Segmind's 5xx are JSON with an
    `error`: a page, an empty 502, or JSON of another dialect was written by something in between,
    which may have passed the request on.
    """
    if reply.status in PROXY_TIMEOUTS:
        return True
    if reply.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return False
    body = reply.body.removeprefix(b"\xef\xbb\xbf").lstrip()
    if body:
        is_foreign = b'"error"' not in body and _FOREIGN_JSON.search(body) is not None
        return is_foreign or not body.startswith(b"{")
    # Empty, or lost on the way.
    is_page = reply.headers.get("content-type", "").lower().startswith("text/")
    return is_page or reply.status == HTTPStatus.BAD_GATEWAY


def backoff(attempt: float, jitter: float) -> float:
    """Give the seconds to wait after attempt 0, 1, 2, …: exponential, with jitter in 0..1."""
    ceiling = min(BASE_DELAY * math.exp2(min(attempt, 10)), LONGEST_DELAY)
    return ceiling * (0.5 + jitter / 2)


def poll_delay(polls: int, interval: float, jobs: int, jitter: float) -> float:
    """Give the seconds to wait for a job after 0, 1, 2, … polls, with jitter in 0..1.

    Quick at first, then the interval; longer where so many jobs wait that they share the polls.
    """
    own = interval * min(FIRST_POLL * POLL_GROWTH ** min(polls, 40), 1.0)
    return max(own * (0.75 + jitter / 4), jobs / POLLS_PER_SECOND * (0.5 + jitter))


def align_delay(now: float, delay: float, pace: float) -> float:
    """Lengthen a delay so that it ends when others do, by a fifth of the pace at most."""
    step = min(POLL_STEP, pace / 5)
    return math.ceil((now + delay) / step) * step - now


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read how many seconds the server asks to wait, at the Unix time `now`.

    `x-rate-limit-reset-at-utc` is Segmind's; `Retry-After` is what proxies send (RFC 9110).
    """
    if (reset := _moment(headers.get("x-rate-limit-reset-at-utc", ""))) is not None:
        return max(0.0, reset - now)
    value = headers.get("retry-after", "").strip()
    if (seconds := _number(value)) is not None:
        return max(0.0, seconds)
    date = _http_date(value)
    return None if date is None else max(0.0, date - now)


SOON = 0.01
"""Seconds: a moment that a 429 names and that is nearer, or past, is none to wait for."""


def announced_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Read how many seconds a 429 asks to wait; None where its moment is past.

    A clock that is ahead sees each reset as past: to come back at once would be refused again.
    """
    seconds = retry_after(headers, now)
    return seconds if seconds is not None and seconds > SOON else None


class RateLimit(NamedTuple):
    """What an answer says of the account's limit."""

    remaining: int
    """Requests that are left."""
    reset: float
    """Seconds until all of them are there again."""


def read_rate_limit(headers: Mapping[str, str], now: float) -> RateLimit | None:
    """Read `x-rate-limit-remaining` and the reset at the Unix time `now`, where both are named."""
    if "x-rate-limit-remaining" not in headers:
        return None
    remaining = _number(headers["x-rate-limit-remaining"])
    reset = _moment(headers.get("x-rate-limit-reset-at-utc", ""))
    if remaining is None or reset is None or abs(remaining) > MOST_REQUESTS:
        return None
    return RateLimit(int(remaining), max(0.0, reset - now))


_LATEST = 1e11
"""Unix seconds, in the year 5138: what is more are milliseconds."""


def _moment(value: str) -> float | None:
    """Read a moment in UTC: ISO 8601, an HTTP date, or a Unix time in seconds or milliseconds."""
    text = value.strip()
    if (number := _number(text)) is not None:
        return number / 1000 if number > _LATEST else number
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return _http_date(text)


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
