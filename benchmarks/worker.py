"""One contestant in a process of its own, pinned: reads jobs as JSON lines, answers in JSON lines.

Times are CPU times (user and system) of the process in microseconds a call, unless they say wall.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.contestants import PROMPT, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.contestants import Contestant

Result = dict[str, Any]

_SLOW = 10.0
"""Seconds: who takes longer is not asked twice."""


class Worker:
    """Measures one contestant; one event loop serves all async jobs."""

    def __init__(self, name: str, server: str) -> None:
        """Build nothing yet, so that a job may measure the building."""
        self._name = name
        self._server = server
        self._built: dict[str, Contestant] = {}
        self._runner = asyncio.Runner()

    def contestant(self, options: str = "") -> Contestant:
        """Give the contestant that talks to the server with these options in its path."""
        if options not in self._built:
            url = f"{self._server}/{options}" if options else self._server
            self._built[options] = build(self._name, url)
        return self._built[options]

    # --- Jobs ---

    def sync(self, calls: int) -> Result:
        """One call after another."""
        call = self.contestant().call
        assert call is not None
        call()
        with _Stopwatch(calls) as watch:
            for _ in range(calls):
                call()
        return watch.result

    def parallel(self, calls: int, in_flight: int, options: str = "") -> Result:
        """So many tasks, each calling one time after another."""
        acall = self.contestant(options).acall
        assert acall is not None

        async def several(count: int) -> None:
            for _ in range(count):
                await acall()

        async def everyone(count: int) -> None:
            await asyncio.gather(*(several(count) for _ in range(in_flight)))

        self._runner.run(everyone(1))
        with _Stopwatch(calls) as watch:
            self._runner.run(everyone(calls // in_flight))
        return watch.result

    def rows(self, calls: int, in_flight: int) -> Result:
        """So many rows of a batch, or as many calls by tasks of one's own; jobs end at once."""
        batch = self.contestant("done").batch
        if batch is None:
            return self.parallel(calls, in_flight, "done")
        batch(in_flight)
        with _Stopwatch(calls) as watch:
            batch(calls)
        return watch.result

    def flight(self, calls: int, delay: float) -> Result:
        """All at once against answers that take their time."""
        contestant = self.contestant(f"delay={delay}")

        async def everyone() -> Sequence[object]:
            if contestant.model is not None:
                config: Any = {}
                return await contestant.model.abatch(
                    [PROMPT] * calls, config, return_exceptions=True
                )
            acall = contestant.acall
            assert acall is not None
            return await asyncio.gather(*(acall() for _ in range(calls)), return_exceptions=True)

        with _Stopwatch(calls) as watch:
            answers = self._runner.run(everyone())
        if calls / watch.result["rate"] < _SLOW:  # The second time, connections are there.
            with _Stopwatch(calls) as watch:
                answers = self._runner.run(everyone())
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        kinds = sorted({type(error).__name__ for error in errors})
        return {**watch.result, "errors": len(errors), "kinds": kinds}

    def flight_memory(self, calls: int, delay: float) -> Result:
        """Resident memory that each of so many calls in flight adds."""
        contestant = self.contestant(f"delay={delay}")
        acall = contestant.acall
        assert acall is not None

        async def everyone() -> int:
            await acall()
            gc.collect()
            before = _resident()
            tasks = [asyncio.ensure_future(acall()) for _ in range(calls)]
            peak = before
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0.05)
                peak = max(peak, _resident())
            await asyncio.gather(*tasks, return_exceptions=True)
            return peak - before

        return {"bytes": self._runner.run(everyone()) / calls}

    def abatch(self, calls: int, in_flight: int) -> Result:
        """One long `abatch` with `max_concurrency`, between many of a hundred prompts."""
        model = self.contestant().model
        assert model is not None
        config: Any = {"max_concurrency": in_flight}

        def batches(count: int, prompts: int) -> float:
            with _Stopwatch(count * prompts) as watch:
                for _ in range(count):
                    self._runner.run(model.abatch([PROMPT] * prompts, config))
            return float(watch.result["cpu"])

        batches(1, 100)
        before, cpu, after = batches(20, 100), batches(1, calls), batches(20, 100)
        return {"cpu": cpu, "few": (before + after) / 2}

    def threads(self, calls: int, threads: int) -> Result:
        """One `batch` over so many threads."""
        contestant = self.contestant()
        call: Any = contestant.call

        def everyone(count: int) -> None:
            if contestant.model is not None:
                config: Any = {"max_concurrency": threads}
                contestant.model.batch([PROMPT] * count, config)
                return
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda _: call(), range(count)))

        everyone(threads)
        with _Stopwatch(calls) as watch:
            everyone(calls)
        with _Stopwatch(calls) as alone:
            for _ in range(calls):
                call()
        return {**watch.result, "alone": alone.result["cpu"]}

    def stream(self, chunks: int, streams: int) -> Result:
        """Streams of server-sent events, through `stream` and through `_stream` alone."""
        from langchain_core.messages import BaseMessage, HumanMessage

        options = "stream" if self._name.startswith("core") else f"chunks={chunks}"
        model = self.contestant(options).model
        assert model is not None
        if hasattr(model, "streaming"):
            model.streaming = True
        seen = sum(1 for _ in model.stream(PROMPT))
        with _Stopwatch(streams * chunks) as watch:
            for _ in range(streams):
                for _chunk in model.stream(PROMPT):
                    pass
        prompt: list[BaseMessage] = [HumanMessage(PROMPT)]
        with _Stopwatch(streams * chunks) as bare:
            for _ in range(streams):
                for _bare_chunk in model._stream(prompt):  # noqa: SLF001 - without langchain-core's share.
                    pass
        return {**watch.result, "seen": seen, "bare": bare.result["cpu"]}

    def memory(self) -> Result:
        """Resident memory of the process after one call."""
        call = self.contestant().call
        assert call is not None
        call()
        gc.collect()
        return {"bytes": _resident()}

    def polls(self, jobs: int, seconds: float) -> Result:
        """The share of a core that waiting for so many queued jobs takes."""
        model: Any = self.contestant("queue").model
        model.queue = True

        async def everyone() -> float:
            waiting = [asyncio.ensure_future(model.ainvoke(PROMPT)) for _ in range(jobs)]
            await asyncio.sleep(5 + jobs / 200)  # Until all are submitted, and asked after calmly.
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            share = (time.process_time() - cpu) / (time.perf_counter() - wall)
            failed = sum(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert not failed, f"{failed} jobs ended"
            return share

        return {"share": self._runner.run(everyone())}

    # --- What grows with what is sent and received ---

    def history(self, messages: int, calls: int) -> Result:
        """A conversation of so many messages."""
        from langchain_core.messages import AIMessage, HumanMessage

        model = self.contestant().model
        assert model is not None
        pair = [HumanMessage(PROMPT), AIMessage("A cat sat on the mat. " * 10)]
        return self._repeated(lambda: model.invoke(pair * (messages // 2)), calls)

    def reply(self, size: int, calls: int) -> Result:
        """A reply of so many bytes."""
        model = self.contestant(f"size={size}").model
        assert model is not None
        return self._repeated(lambda: model.invoke(PROMPT), calls)

    def tools(self, tools: int, calls: int) -> Result:
        """So many bound tools."""
        model = self.contestant().model
        assert model is not None
        bound = model.bind_tools([_tool(index) for index in range(tools)])
        return self._repeated(lambda: bound.invoke(PROMPT), calls)

    def _repeated(self, call: Callable[[], object], calls: int) -> Result:
        call()
        with _Stopwatch(calls) as watch:
            for _ in range(calls):
                call()
        return watch.result


def _tool(index: int) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The name of the city"},
            "days": {"type": "integer", "description": "How many days ahead"},
        },
        "required": ["city"],
    }
    function = {
        "name": f"weather_{index}",
        "description": "Tell the weather of a city in the days to come.",
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


class _Stopwatch:
    """CPU and wall time of a block."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self.result: Result = {}

    def __enter__(self) -> Self:
        gc.collect()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        self.result = {"cpu": cpu / self._calls * 1e6, "rate": self._calls / wall}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def main() -> None:
    """Take jobs until stdin ends."""
    core, name, server = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < hard else (soft, hard))
    worker = Worker(name, server)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            result = getattr(worker, job.pop("job"))(**job)
        except Exception as error:
            result = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(result), flush=True)
    os._exit(0)  # Connections are closed by the system: nobody waits for them.


if __name__ == "__main__":
    main()
