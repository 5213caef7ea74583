"""12,800 calls under some thirty kinds of faults at once: is the bill what the callers were told?

    python -m benchmarks.storm --seed 1

Blocking calls come from 64 threads and awaited ones from four event loops, half of either on v1
and half through the queue, all of one account and over our own transports. A table says what became
of each kind; the exit code is 1 where a call was paid twice, was told otherwise than it was billed,
or raised anything but a `SegmindError`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal, TypeAlias

from benchmarks.storm_faults import BURSTS, KINDS, NGINX_READ_TIMEOUT, TIMEOUT, Kind, StormServer
from langchain_segmind import ChatSegmindLlama, SegmindError
from tests.proxies import find_program, make_authority, run_nginx
from tests.servers import KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CALLS_OF_A_KIND = 320
THREADS = 64
LOOPS = 4
IN_FLIGHT = 50
"""Of each loop."""
BURST, PAUSES = 40, [0.18, 0.185, 0.19, 0.195, 0.2] * 8
"""Awaited calls at once, and the seconds between two bursts."""
TITLES = (
    *("what the server does", "calls", "answered", "may be billed", "not billed"),
    *("billed", "paid twice", "told otherwise", "untyped", "longest, s"),
)
KEPT = 0.2
"""Seconds for which nginx keeps an idle connection."""

Told: TypeAlias = Literal["answered", "unknown", "refused", "swapped", "untyped"]
"""Of these `refused` says that nothing was billed, and `unknown` that something may have been."""
WRONG = {("answered", False), ("refused", True)}
"""What a caller was told, and whether the call was billed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, which its number in the prompt tells from all others."""

    number: int
    kind: Kind
    is_queued: bool
    is_awaited: bool


@dataclass(slots=True)
class Row:
    """What became of the calls of a kind."""

    told: Counter[Told] = field(default_factory=Counter)
    billed: int = 0
    twice: int = 0
    otherwise: int = 0
    seconds: float = 0.0
    """The longest call."""

    def add(self, told: Told, seconds: float, bill: int) -> None:
        """Count a call."""
        self.told[told] += 1
        self.billed += bill
        self.twice += bill > 1
        self.otherwise += (told, bill > 0) in WRONG or told == "swapped"
        self.seconds = max(self.seconds, seconds)

    def cells(self) -> list[str]:
        """Give what the table shows."""
        told = [self.told[each] for each in ("answered", "unknown", "refused")]
        wrong = [self.twice, self.otherwise, self.told["untyped"]]
        return [str(n) for n in (self.told.total(), *told, self.billed, *wrong)] + [
            f"{self.seconds:.1f}"
        ]


class Storm:
    """The calls, the models that make them, and what they were told."""

    def __init__(self, url: str, nginx_url: str) -> None:
        self.told: dict[int, tuple[Told, float]] = {}
        self._urls = {False: url, True: nginx_url}
        self._models: dict[str, ChatSegmindLlama] = {}

    def make_all(self, calls: Sequence[Call]) -> None:
        """Make calls from all threads and loops at once."""
        for call in calls:
            self._model(call)  # Now: later, threads would race to build them.
        awaited = [call for call in calls if call.is_awaited]
        loops = [
            threading.Thread(target=asyncio.run, args=[self._make_awaited(awaited[each::LOOPS])])
            for each in range(LOOPS)
        ]
        for loop in loops:
            loop.start()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._make, (call for call in calls if not call.is_awaited)))
        for loop in loops:
            loop.join()

    async def make_bursts(self, calls: Sequence[Call]) -> None:
        """Make awaited calls in bursts, each about when nginx closes what the last one left."""
        for at, pause in zip(range(0, len(calls), BURST), PAUSES, strict=False):
            await asyncio.gather(*map(self._amake, calls[at : at + BURST]))
            await asyncio.sleep(pause)

    async def _make_awaited(self, calls: Iterable[Call]) -> None:
        free = asyncio.Semaphore(IN_FLIGHT)

        async def make(call: Call) -> None:
            async with free:
                await self._amake(call)

        await asyncio.gather(*map(make, calls))

    def _make(self, call: Call) -> None:
        started = time.monotonic()
        try:
            answer: object = self._model(call).invoke(f"#{call.number}#").content
        except Exception as error:
            answer = error
        self._note(call, answer, started)

    async def _amake(self, call: Call) -> None:
        started = time.monotonic()
        try:
            answer: object = (await self._model(call).ainvoke(f"#{call.number}#")).content
        except Exception as error:
            answer = error
        self._note(call, answer, started)

    def _note(self, call: Call, answer: object, started: float) -> None:
        told: Told = "answered" if answer == f"#{call.number}#" else "swapped"
        if isinstance(answer, SegmindError):
            told = "unknown" if answer.outcome_unknown else "refused"
        elif isinstance(answer, Exception):
            told = "untyped"
            traceback.print_exception(answer)
        self.told[call.number] = told, time.monotonic() - started

    def _model(self, call: Call) -> ChatSegmindLlama:
        settings = {
            "api_key": KEY,
            "base_url": self._urls[call.kind.through_nginx],
            "timeout": TIMEOUT,
            "queue": call.is_queued,
            "poll_interval": 0.2,
            **call.kind.settings,
        }
        return self._models.setdefault(repr(settings), ChatSegmindLlama(**settings))


def _calls(calls_of_a_kind: int) -> list[Call]:
    calls: list[Call] = []
    for kind in KINDS:
        for each in range(calls_of_a_kind):
            is_queued = kind.is_queued_only or each % 4 > 1
            calls.append(Call(len(calls), kind, is_queued, is_awaited=each % 2 == 1))
    return calls


def run(seed: int, calls_of_a_kind: int) -> bool:
    """Make all calls and print what became of them; say whether the money is right."""
    calls = _calls(calls_of_a_kind)
    numbers = range(len(calls), len(calls) + BURST * len(PAUSES))
    bursts = [Call(number, BURSTS, is_queued=False, is_awaited=True) for number in numbers]
    server = StormServer([call.kind for call in (*calls, *bursts)], seed)
    Random(seed).shuffle(calls)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority, certificate = make_authority(folder)
        os.environ["SSL_CERT_FILE"] = str(authority)
        server.start()
        stack.callback(server.stop)
        settings = (
            f"proxy_read_timeout {NGINX_READ_TIMEOUT * 1000:.0f}ms",
            f"keepalive_timeout {KEPT * 1000:.0f}ms",
        )
        nginx = stack.enter_context(run_nginx(server.url, *settings, certificate=certificate))
        storm = Storm(server.url, nginx.url)
        storm.make_all(calls)
        asyncio.run(storm.make_bursts(bursts))
    return _print([*calls, *bursts], storm, server)


def _print(calls: Sequence[Call], storm: Storm, server: StormServer) -> bool:
    rows: dict[str, Row] = {kind.name: Row() for kind in (*KINDS, BURSTS)}
    total = Row()
    for call in calls:
        for row in (rows[call.kind.name], total):
            row.add(*storm.told[call.number], server.bill[call.number])
    print(f"| {' | '.join(TITLES)} |\n|{' --- |' * len(TITLES)}")
    for name, row in {**rows, "all": total}.items():
        print(f"| {name} | {' | '.join(row.cells())} |")
    lost = rows[BURSTS.name].told["unknown"]
    return lost <= 1 and not (total.twice or total.otherwise or total.told["untyped"])


def main() -> int:
    """Run the command line and give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another order, and other draws")
    parser.add_argument("--calls", type=int, default=CALLS_OF_A_KIND, help="of each kind")
    options = parser.parse_args()
    if find_program("nginx") is None or find_program("openssl") is None:
        sys.exit("The storm needs nginx and openssl: apt-get install nginx-light openssl")
    os.nice(10)
    started = time.monotonic()
    good = run(options.seed, options.calls)
    print(f"\nseed {options.seed}, {time.monotonic() - started:.0f} s in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
