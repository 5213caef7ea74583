"""Children that are forked while a thread of the parent holds whatever can be held."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from langchain_segmind._protocol.per_process import PerProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")

PARENT = """
    import os, signal, sys, threading
    from contextlib import ExitStack
    from pydantic import SecretStr
    from langchain_segmind import ChatSegmindLlama, SegmindRateLimiter
    from langchain_segmind._protocol import account as accounts

    limiter = SegmindRateLimiter(requests_per_minute=1)
    llm, alone = ChatSegmindLlama(api_key="SG_x", rate_limiter=limiter), limiter
    account = accounts.account_of(llm.base_url, SecretStr("SG_x"))
    account.ledger.set_balance(5.0, now=0.0)
    assert llm.rate_limiter.acquire(blocking=False) and alone.acquire(blocking=False)
    held, done = threading.Event(), threading.Event()

    def hold():
        parts = [account.ledger, account.requests, account.polls, account.retries]
        parts.append(alone._account.requests)
        with ExitStack() as locks:
            for lock in (accounts._LOCK.get(), *(part._lock for part in parts)):
                locks.enter_context(lock)
            held.set()
            done.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    for child in sys.stdin.read().splitlines():
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            exec(child)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(f"{child}: {status}")
    done.set()
"""
CHILDREN = """\
account.ledger.set_balance(4.0, now=1.0)
assert account.ledger.balance is None
assert llm.rate_limiter.acquire(blocking=False)
assert alone.acquire(blocking=False)
assert accounts.account_of(llm.base_url, SecretStr("SG_x")) is account
account.polls.count_job().__enter__()
account.retries.spend()
ChatSegmindLlama(api_key="SG_y")
"""


def test_a_child_knows_nothing_and_waits_for_nobody() -> None:
    """Neither for a lock of its parent's nor for a request that its parent sent."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(PARENT)],
        check=False,
        input=CHILDREN,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_value_is_made_once_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is given the number of one that has died starts anew."""
    made: list[int] = []
    own = PerProcess(lambda: made.append(os.getpid()) or len(made))  # type: ignore[func-returns-value]
    seen = []
    for pid in (1, 1, 2, 2, 1):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        seen += [own.get(), own.get()]
    assert seen == [2, 2, 2, 2, 3, 3, 3, 3, 4, 4]
