"""Says in plain words whether a call would work, without paying for one.

The only request is the question after the account's credits, which is free. Nothing is ever
posted, and nothing of the key is shown.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from langchain_segmind.chat_models import DEFAULT_MODEL, ChatSegmindLlama
from langchain_segmind.cli.findings import Finding, show
from langchain_segmind.cli.network import check_route
from langchain_segmind.cli.setup_checks import (
    BILLING,
    CONSOLE,
    check_address,
    check_certificates,
    check_key,
    check_model,
    check_proxy,
    check_versions,
    describe_balance,
)
from langchain_segmind.exceptions import (
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindConnectionError,
    SegmindError,
    SegmindInsufficientCreditsError,
    SegmindMethodNotAllowedError,
    SegmindModelNotFoundError,
    SegmindPermissionDeniedError,
    SegmindRateLimitError,
    SegmindResponseError,
    SegmindTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from langchain_segmind.credits import CreditBalance

TIMEOUT = 10.0
"""Seconds for each step: a healthy answer takes less than one."""
CLOCK_TOLERANCE = 30.0
"""Seconds: a 429 names the time at which its window resets, and that is waited for."""

_NO_SEGMIND = "Correct SEGMIND_BASE_URL, or look for a proxy or login page in between."
_ADVICE: tuple[tuple[type[SegmindError], str], ...] = (
    (SegmindAuthenticationError, f"Copy the key again from {CONSOLE}; was it revoked?"),
    (SegmindInsufficientCreditsError, f"Top up at {BILLING}"),
    (SegmindPermissionDeniedError, "Ask the owner of the workspace, or of a proxy in between."),
    (SegmindRateLimitError, "Too many requests at the moment: ask again in a minute."),
    (SegmindModelNotFoundError, _NO_SEGMIND),
    (SegmindMethodNotAllowedError, _NO_SEGMIND),
    (SegmindResponseError, _NO_SEGMIND),
    (SegmindAPIError, "The server has a problem of its own: ask again in some minutes."),
    (SegmindTimeoutError, "The server is slow: ask again, or wait longer with --timeout 60."),
    (
        SegmindConnectionError,
        "The connection broke: ask again; if it stays so, is SEGMIND_BASE_URL right?",
    ),
)
"""What to do about a question after credits that failed; the first class that fits counts."""


def doctor(model: str | None, base_url: str | None, timeout: float | None) -> int:
    """Print what is found; give 1 where there is a problem."""
    problems = 0
    for finding in examine(model or DEFAULT_MODEL, base_url, timeout or TIMEOUT):
        show(finding)
        problems += finding.verdict == "problem"
    verdict = {0: "No problems.", 1: "One problem."}.get(problems, f"{problems} problems.")
    sys.stdout.write(f"\n{verdict} Nothing was spent.\n")
    return 1 if problems else 0


def examine(model: str, base_url: str | None, timeout: float) -> Iterator[Finding]:
    """Look at one thing after the other, from this machine to the account."""
    key = os.environ.get("SEGMIND_API_KEY")
    yield check_versions()
    yield (of_key := check_key(key))
    of_address, address = check_address(base_url)
    yield of_address
    if address is None or not (yield from _reach_server(address, timeout)):
        yield Finding("credits", "skipped", "The server has to be reached first.")
    elif key is None or of_key.verdict == "problem":
        yield Finding("credits", "skipped", "A key is needed first.")
    else:
        yield from _ask_for_credits(key, address, timeout)
    yield check_model(model)


def _reach_server(address: str, timeout: float) -> Generator[Finding, None, bool]:
    """Find the way to the server, and give whether it leads there."""
    of_proxy, proxy = check_proxy(address)
    yield of_proxy
    if of_proxy.verdict == "problem":
        return False
    if address.startswith("https:") or proxy:
        yield (of_certificates := check_certificates())
        if of_certificates.verdict == "problem":
            return False
    for finding in check_route(address, proxy, timeout):
        yield finding
        if finding.verdict == "problem":
            return False
    return True


def _ask_for_credits(key: str, address: str, timeout: float) -> Iterator[Finding]:
    """Ask for the credits: whether the key is accepted, what is there to spend, what time it is."""
    started = time.monotonic()
    try:
        with ChatSegmindLlama(api_key=key, base_url=address, timeout=timeout, max_retries=0) as llm:
            balance = llm.get_credits()
    except SegmindError as error:
        yield _judge_refusal(error)
        return
    yield _judge_balance(balance, time.monotonic() - started)
    if balance.as_of is not None:
        yield _judge_clock(time.time() - balance.as_of.timestamp())


def _judge_balance(balance: CreditBalance, seconds: float) -> Finding:
    if balance.total <= 0:
        message = "The key is accepted, but the account is empty: every call will be refused."
        return Finding("credits", "problem", message, f"Top up at {BILLING}")
    message = f"The key is accepted; {describe_balance(balance)} (answered in {seconds:.1f} s)."
    return Finding("credits", "ok", message)


def _judge_refusal(error: SegmindError) -> Finding:
    message = str(error)
    for kind, _ in _ADVICE:
        message = message.replace(kind.advice, "").strip()  # What it says of us, we say better.
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), error.advice)
    return Finding("credits", "problem", message, advice)


def _judge_clock(skew: float) -> Finding:
    if abs(skew) <= CLOCK_TOLERANCE:
        return Finding("clock", "ok", "agrees with the server's")
    message = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's."
    advice = "Set it: waits that rate limits ask for are reckoned by it."
    return Finding("clock", "note", f"This machine's clock is {message}", advice)
