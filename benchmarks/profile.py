"""Whose time a call takes: `python -m benchmarks.profile` samples CPU time and writes PROFILE.md.

A timer interrupts the process after some CPU time, again and again; the sample goes to the package
whose Python code is running, with the C code it called and the standard library's on its behalf.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sysconfig
import time
from collections import Counter
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.__main__ import local_server
from benchmarks.contestants import OURS, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

HERE = Path(__file__).parent
STANDARD = sysconfig.get_paths()["stdlib"]
INSTALLED = sysconfig.get_paths()["purelib"]
SOCKETS = ("httpcore/_backends/sync.py", "asyncio/selector_events.py")
"""Whose own time is the kernel's: reading and writing."""

SECONDS = 30.0
"""Of CPU time, for each kind of call."""
IN_FLIGHT = 64
LEAST_SHARE = 0.01
"""Of the time: who took less is not named."""


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Count, for each owner, the samples of CPU time spent in a block."""
    samples: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: samples.update([owner_of(frame)]))
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def owner_of(frame: FrameType | None) -> str:
    """Name the package on whose behalf a frame runs."""
    while frame is not None:
        if (owner := _owner(frame.f_code.co_filename)) is not None:
            return owner
        frame = frame.f_back
    return "asyncio"


@cache
def _owner(path: str) -> str | None:
    if path.endswith(SOCKETS):
        return "the kernel: sockets"
    if path.startswith(INSTALLED):
        return Path(path).relative_to(INSTALLED).parts[0].removesuffix(".py")
    if path.startswith(str(HERE)):
        return "the benchmark"
    if path.startswith(str(HERE.parent)):
        return "langchain_segmind"
    return None  # The standard library's: whoever called it.


def profiled(url: str, *, is_async: bool) -> tuple[Counter[str], float]:
    """Sample calls for a while; give the samples, and the microseconds of a call."""
    contestant = build(OURS, url)
    call, acall = contestant.call, contestant.acall
    assert call is not None
    assert acall is not None

    async def many() -> int:
        async def one_after_another() -> int:
            calls = 0
            while time.process_time() < end:
                await acall()
                calls += 1
            return calls

        return sum(await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT))))

    call()
    start = time.process_time()
    end, calls = start + SECONDS, 0
    with sampled() as samples:
        if is_async:
            calls = asyncio.run(many())
        else:
            while time.process_time() < end:
                call()
                calls += 1
    return samples, (time.process_time() - start) / calls * 1e6


def table(title: str, samples: Counter[str], microseconds: float) -> str:
    """Write the owners of a call's time in Markdown, the largest first."""
    total = samples.total()
    shares = [(owner, count / total) for owner, count in samples.most_common()]
    rows = [
        f"| {owner} | {share:.0%} | {share * microseconds:,.0f} µs |"
        for owner, share in shares
        if share >= LEAST_SHARE
    ]
    head = (f"## {title}: {microseconds:,.0f} µs of CPU time", "")
    return "\n".join((*head, "| whose | share | |", "| --- | --- | --- |", *rows, ""))


def main() -> None:
    """Profile blocking and async calls, print the tables and write them."""
    cores = sorted(os.sched_getaffinity(0))
    with local_server(cores[-1]) as url:
        os.sched_setaffinity(0, {cores[0]})
        blocking = table("One `invoke`", *profiled(url, is_async=False))
        awaited = table(f"One `ainvoke` of {IN_FLIGHT} in flight", *profiled(url, is_async=True))
    names = ("langchain-core", "pydantic", "httpcore", "h11", "aiohttp")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    text = (
        "# Whose time a call takes\n\n"
        f"Python {platform.python_version()}, {versions}. CPU time, sampled for "
        f"{SECONDS:.0f} s against a local server that answers at once; C code and the standard "
        "library count for whoever called them. `python -m benchmarks.profile` repeats it.\n\n"
        f"{blocking}\n{awaited}"
    )
    print(text)
    (HERE / "PROFILE.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
