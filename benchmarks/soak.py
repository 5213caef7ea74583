"""An hour of everything at once: does the client stay as small as it was, and is the money right?

    python -m benchmarks.soak --minutes 60

Blocking, awaited, queued, streamed and cancelled calls, with a journal and without, also from
forked children and through nginx and squid, go to a gateway with faults and a rate limit in another
process, some fifty a second. Every half minute no new ones are made until all under way have
ended, and then everything is counted that could have leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

os.environ["LANGSMITH_TRACING"] = "false"

from benchmarks import soak_probe, soak_report
from benchmarks.soak_calls import Soak
from benchmarks.soak_places import ASYNC, SYNC
from tests.proxies import PASSWORD, USER, find_program, run_nginx, run_squid

if TYPE_CHECKING:
    from collections.abc import Callable

IN_FLIGHT = 40
THREADS = 16
LOOP_THREADS = 4
"""Of our pool, and of the long loop's executor."""
BETWEEN_SAMPLES = 30.0
BETWEEN_COUNTS = 300.0
"""Seconds between two counts of all objects, which stop the process for a while."""
NGINX = "proxy_read_timeout 700ms", "keepalive_timeout 1s"
"""Less than a slow answer takes, and than our own transports keep a connection."""
STUCK = 90.0
"""Seconds after which a call that has not ended is a finding: more than all its time-outs."""

_SHARES = {"blocking": 45, "long loop": 35, "own loop": 15, "careless loop": 5}


class Gateway:
    """The other process."""

    def __init__(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "benchmarks.soak_gateway"]
        root = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addresses: dict[str, str] = self._hear()

    def report(self) -> dict[str, Any]:
        """Ask what was paid for since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        report: dict[str, Any] = self._hear()
        return report

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Dispatcher:
    """Starts calls at a rate, each kind in its place; never more than `IN_FLIGHT` at once."""

    def __init__(self, soak: Soak, rate: float) -> None:
        """Start the threads and the loop that live long."""
        self._soak = soak
        self._pause = 1 / rate
        self._random = Random(3)
        self._pool = _started_pool(THREADS, "soak")
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_started_pool(LOOP_THREADS, "soak-loop"))
        self.loop.set_exception_handler(self._complain)
        self._thread = threading.Thread(target=self.loop.run_forever, name="soak-loop")
        self._thread.start()
        self._free = threading.Semaphore(IN_FLIGHT)
        self.running: dict[object, str] = {}

    def work(self, seconds: float) -> None:
        """Start calls for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._free.acquire()
            self._start()
            time.sleep(self._random.expovariate(1 / self._pause))

    def drain(self) -> bool:
        """Wait until all calls have ended; False where some do not."""
        until = time.monotonic() + STUCK
        while self.running:
            if time.monotonic() > until:
                self._soak.tally.note(f"Stuck: {sorted(self.running.values())}")
                return False
            time.sleep(0.05)
        return True

    def stop(self) -> None:
        """End the loop and the threads."""
        self._pool.shutdown()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _start(self) -> None:
        place = self._random.choices([*_SHARES], [*_SHARES.values()])[0]
        kinds: list[Any] = SYNC if place == "blocking" else ASYNC
        function = self._random.choices(*zip(*kinds, strict=True))[0]
        token = object()
        name = self.running[token] = f"{place}: {function.__name__}"
        self._soak.tally.count(name)

        def ended() -> None:
            del self.running[token]
            self._free.release()

        if place == "long loop":
            asyncio.run_coroutine_threadsafe(self._awaited(function, ended), self.loop)
        else:
            self._pool.submit(self._blocking, place, function, ended)

    async def _awaited(self, function: Callable[[Soak], Any], ended: Callable[[], None]) -> None:
        try:
            await function(self._soak)
        except BaseException as error:
            self._soak.tally.note(f"{function.__name__}: {error!r}")
            raise
        finally:
            ended()

    def _blocking(self, place: str, function: Any, ended: Callable[[], None]) -> None:
        try:
            if place == "blocking":
                function(self._soak)
            elif place == "own loop":
                asyncio.run(function(self._soak))
            else:
                self._carelessly(function)
        except BaseException as error:
            self._soak.tally.note(f"{function.__name__}: {error!r}")
            raise
        finally:
            ended()

    def _carelessly(self, function: Callable[[Soak], Any]) -> None:
        """Run a loop that does not shut its generators down: asyncio complains, and rightly."""
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: self._soak.tally.count("careless loop: complaints"))
        try:
            loop.run_until_complete(function(self._soak))
        finally:
            loop.close()

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._soak.tally.note(f"asyncio: {context['message']}")


def _started_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """Start all threads: one that starts later takes its memory in the middle of the hour."""
    pool = ThreadPoolExecutor(threads, name)
    everyone = threading.Barrier(threads)
    for waiting in [pool.submit(everyone.wait) for _ in range(threads)]:
        waiting.result()
    return pool


def soak(seconds: float, rate: float, output: Path, *, trace: bool) -> bool:
    """Run it, and say whether everything stayed as it was."""
    with ExitStack() as stack:
        gateway = Gateway()
        stack.callback(gateway.stop)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxied = _start_proxies(gateway.addresses["url"], stack)
        work = Soak(**gateway.addresses, journal=folder / "journal.sqlite", proxied=proxied)
        _listen_for_complaints(work)
        dispatcher = Dispatcher(work, rate)
        try:
            _run(work, dispatcher, gateway, seconds, output, trace=trace)
        finally:
            dispatcher.stop()
        time.sleep(3)  # What was cancelled may still be billed.
        last = _note_paid(work, gateway.report())
        work.journal.close()
    samples = [json.loads(line) for line in output.read_text().splitlines()]
    return soak_report.print_report(samples, work.tally, last)


def _start_proxies(url: str, stack: ExitStack) -> list[str]:
    """Start what is installed; give the URLs that lead to the gateway through it."""
    proxied = []
    if find_program("nginx"):
        nginx = stack.enter_context(run_nginx(url, *NGINX))
        proxied.append(nginx.url)
    if find_program("squid"):
        squid = stack.enter_context(run_squid())
        # By its other name, so that squid is asked for it, and for nothing else.
        os.environ["NO_PROXY"] = "127.0.0.1"
        os.environ["HTTP_PROXY"] = f"http://{USER}:{PASSWORD}@127.0.0.1:{squid.port}"
        proxied.append(url.replace("127.0.0.1", "localhost"))
    if len(proxied) < len(("nginx", "squid")):
        print("Without nginx and squid there are fewer proxies in it: apt-get install them.")
    return proxied


def _run(
    work: Soak,
    dispatcher: Dispatcher,
    gateway: Gateway,
    seconds: float,
    output: Path,
    *,
    trace: bool,
) -> None:
    """Write the samples down, and keep none: they would count as growth."""
    started = time.monotonic()
    count, before = 0, None
    with output.open("w") as kept:
        while (spent := time.monotonic() - started) < seconds:
            dispatcher.work(min(BETWEEN_SAMPLES, seconds - spent))
            if not dispatcher.drain():
                break
            sample = _sample(work, dispatcher, gateway, time.monotonic() - started)
            kept.write(json.dumps(sample) + "\n")
            kept.flush()
            count += 1
            if trace and count == soak_report.WARM_UP:
                tracemalloc.start(10)
                before = tracemalloc.take_snapshot()
    if before is not None:
        soak_report.print_growth(before, tracemalloc.take_snapshot())


def _sample(work: Soak, dispatcher: Dispatcher, gateway: Gateway, seconds: float) -> dict[str, Any]:
    report = _note_paid(work, gateway.report())
    tally = work.tally
    sample = {
        "seconds": round(seconds, 1),
        "calls": tally.last,
        **soak_probe.figures(dispatcher.loop),
        "tables": soak_probe.tables(),
        "posts": report["posts"],
        "charges": report["charges"],
        "spent": report["spent"],
        "counts": dict(tally.counts),
        "strange": dict(tally.strange),
    }
    if seconds % BETWEEN_COUNTS < BETWEEN_SAMPLES:
        sample["objects"] = soak_probe.objects()
    return sample


def _note_paid(work: Soak, report: dict[str, Any]) -> dict[str, Any]:
    for number in report["paid"]:
        work.tally.paid[number] += 1
    return report


def _listen_for_complaints(work: Soak) -> None:
    """Count warnings and errors nobody sees; what the package logs of lost calls is no news."""

    def shown(message: Warning | str, category: type[Warning], *_: object) -> None:
        if category is ResourceWarning and str(message).startswith("unclosed"):
            # A loop that was just closed can close no transport; the sockets are counted anyway.
            work.tally.count("careless loop: complaints")
            return
        work.tally.note(f"{category.__name__}: {str(message)[:200]}")

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        work.tally.note(f"unraisable: {found.exc_value!r} in {found.object!r}"[:300])

    class Complaints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or record.name == "asyncio":
                work.tally.note(f"{record.name}: {record.getMessage()[:200]}")

    warnings.simplefilter("always", ResourceWarning)
    warnings.showwarning = shown  # type: ignore[assignment]
    sys.unraisablehook = unraisable
    logging.getLogger().addHandler(Complaints())


def main() -> int:
    """Run the command line and give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, help="instead of minutes")
    parser.add_argument("--rate", type=float, default=25.0, help="kinds of calls started a second")
    parser.add_argument("--output", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--tracemalloc", action="store_true", help="tell which lines hold memory")
    options = parser.parse_args()
    with suppress(OSError):
        os.nice(19)
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    good = soak(seconds, options.rate, options.output, trace=options.tracemalloc)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
