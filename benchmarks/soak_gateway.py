"""What the soak talks to, in a process of its own: the local gateway, with faults.

Streams come from the benchmarks' server, since Segmind sends none today, nor does its double. This
prints one line of JSON with the addresses; then answers each line of its input with one that says
what was paid for since the last one. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from random import Random
from typing import TYPE_CHECKING, Any

from benchmarks.server import BenchmarkServer
from langchain_segmind.gateway import EchoEngine, EngineError, Faults, Settings, serve
from langchain_segmind.gateway.engines.base import chat_completion

if TYPE_CHECKING:
    from langchain_segmind.gateway import Account

SLOW = "[slow]"
"""Takes a second."""
TOO_LONG = "[long]"
"""Is refused as too long a prompt."""
TOOL = "forecast"
TOO_SLOW_RATE = 0.01
"""The share of answers that take longer than v1 allows."""
SLOW_RATE = 0.2
"""The share of answers that take their time."""

_NUMBER = re.compile(rb"#(\d+)#")
_BROKEN = Faults(
    error_rate=0.04,
    drop_before_rate=0.01,
    drop_after_rate=0.01,
    half_body_rate=0.01,
    malformed_rate=0.01,
    proxy_timeout_rate=0.01,
)
SETTINGS = Settings(
    credits=1e6,
    rpm=50,
    rate_window=1.0,  # 50 a second: some POSTs and polls are refused now and then.
    rate_polls=True,
    v1_limit=1.5,
    job_ttl=120.0,
    post_faults=_BROKEN,
    poll_faults=_BROKEN,
    failing_jobs_rate=0.03,
)


class Engine(EchoEngine):
    """An echo that takes its time, calls tools and refuses."""

    def __init__(self) -> None:
        self._random = Random(1)

    async def complete(self, body: dict[str, Any]) -> Any:
        """Answer after a while; one in a hundred takes longer than v1 allows."""
        prompt = "\n".join(str(message["content"]) for message in body["messages"])
        if TOO_LONG in prompt:
            raise EngineError(400, "This model's maximum context length is 8192 tokens")
        await asyncio.sleep(1.0 if SLOW in prompt else self._seconds())
        if TOOL in prompt:
            call = json.dumps({"name": TOOL, "parameters": {"place": "Oslo"}})
            return chat_completion(body["model"], [(call, "stop")], 100, 10)
        return await super().complete(body)

    def _seconds(self) -> float:
        drawn = self._random.random()
        if drawn < TOO_SLOW_RATE:
            return 2.0
        return self._random.uniform(0.05, 0.3) if drawn < SLOW_RATE else 0.0


class Reporter:
    """Says what the account was charged for, by the number in each prompt."""

    def __init__(self, account: Account) -> None:
        """Start before the first charge."""
        self._account = account
        self._told = 0

    def report(self) -> dict[str, Any]:
        """Give the totals, and the numbers paid for since the last report."""
        count = self._account.charge_count
        charges = self._account.charges
        posts = {post.request_id: post.body for post in self._account.posts}
        new = charges[len(charges) - (count - self._told) :] if count > self._told else []
        self._told = count
        found = [_NUMBER.search(posts[charge.request_id]) for charge in new]
        return {
            "posts": self._account.post_count,
            "charges": count,
            "spent": SETTINGS.credits - self._account.remaining,
            "paid": [int(number[1]) for number in found if number],
        }


def main() -> None:
    """Serve until the input ends."""
    streams = BenchmarkServer()
    streams.start()
    with serve(SETTINGS, Engine()) as gateway:
        reporter = Reporter(gateway.account)
        of_streams = f"{streams.url}/chunks=300"
        _say({"url": gateway.url, "streams": of_streams, "key": gateway.api_key})
        for _ in sys.stdin:
            _say(reporter.report())
    streams.stop()


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
