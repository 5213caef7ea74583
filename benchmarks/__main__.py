"""Run everybody in turn, round after round, and write what it came to.

The server has a core of its own, and so has the contestant whose turn it is: each lives in a
process of its own, and only one of them works at a time. Rounds are interleaved, so that what else
the machine does meets everybody alike; of the rounds, medians count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.contestants import (
    BATCH,
    BATCH_QUEUE,
    CORE,
    JOURNAL,
    OURS,
    PEERS,
    QUEUE,
    RAW,
    ROW_PEERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent

EVERYONE = (OURS, *PEERS)
PATIENCE = 5.0
"""Seconds: who has used as many in one experiment is not asked to run its other rounds, but where
the experiment is a long one."""


@dataclass(frozen=True)
class Experiment:
    """One job, given to several contestants."""

    name: str
    contestants: Sequence[str]
    job: dict[str, Any]
    rounds: int = 5
    patience: float = PATIENCE
    fresh: bool = False
    """Whether each round needs a new process: memory is not given back."""


def experiments(*, quick: bool) -> list[Experiment]:
    """List what is measured; `quick` takes a few minutes, with more noise."""
    many, few = (9, 2) if quick else (41, 3)
    flight = 300 if quick else 1_000
    # What leaves most behind in a process, connections and garbage, comes last.
    return [
        Experiment(
            "sync",
            (*EVERYONE, CORE, "httpx", f"httpx + {CORE}", "httpx2", f"httpx2 + {CORE}"),
            {"job": "sync", "calls": 100},
            many,
        ),
        Experiment("journal", (OURS, JOURNAL), {"job": "sync", "calls": 100}, many, patience=30.0),
        Experiment(
            "stream", (*EVERYONE, CORE), {"job": "stream", "chunks": 500, "streams": 4}, few * 3
        ),
        *_growing(few + 2),
        Experiment(
            "threads", (*EVERYONE, CORE), {"job": "threads", "calls": 256, "threads": 64}, many
        ),
        Experiment(
            "parallel",
            (*EVERYONE, CORE, *RAW, f"httpx over aiohttp + {CORE}", f"aiohttp + {CORE}"),
            {"job": "parallel", "calls": 256, "in_flight": 64},
            many,
        ),
        Experiment(
            "rows",
            (BATCH, BATCH_QUEUE, OURS, JOURNAL, QUEUE, *ROW_PEERS),
            {"job": "rows", "calls": 512, "in_flight": 64},
            few * 3,
            patience=60.0,
        ),
        Experiment(
            "abatch",
            (OURS, CORE),
            {"job": "abatch", "calls": 1_000 if quick else 10_000, "in_flight": 64},
            few,
        ),
        Experiment(
            "flight",
            (*EVERYONE, *RAW),
            {"job": "flight", "calls": flight, "delay": 0.2},
            few + 2,
            patience=30.0,
        ),
        Experiment(
            "flight memory",
            EVERYONE,
            {"job": "flight_memory", "calls": flight, "delay": 1.0},
            few,
            fresh=True,
        ),
        Experiment("memory", EVERYONE, {"job": "memory"}, few, fresh=True),
        Experiment(
            "polls", (OURS,), {"job": "polls", "jobs": 1_000, "seconds": 5 if quick else 20}, 1
        ),
    ]


def _growing(rounds: int) -> list[Experiment]:
    """List what shows whether costs grow linearly with what is sent and received."""
    grown = (OURS, *PEERS[:1])
    return [
        *(
            Experiment(
                f"history {messages}",
                grown,
                {"job": "history", "messages": messages, "calls": 3},
                rounds,
            )
            for messages in (1_000, 2_000, 4_000)
        ),
        *(
            Experiment(f"reply {size}", grown, {"job": "reply", "size": size, "calls": 3}, rounds)
            for size in (500_000, 1_000_000, 2_000_000)
        ),
        *(
            Experiment(
                f"tools {tools}", grown, {"job": "tools", "tools": tools, "calls": 10}, rounds
            )
            for tools in (64, 128, 256)
        ),
    ]


@dataclass
class Worker:
    """A contestant's process."""

    process: subprocess.Popen[str]
    pipe: tuple[IO[str], IO[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Take hold of both ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.pipe = (self.process.stdin, self.process.stdout)

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """Have a job done."""
        jobs, answers = self.pipe
        jobs.write(json.dumps(job) + "\n")
        jobs.flush()
        answer: dict[str, Any] = json.loads(answers.readline() or '{"failed": "it died"}')
        return answer

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


class Bench:
    """Runs experiments against one server."""

    def __init__(self, core: int, url: str, folder: str) -> None:
        """Start with no contestant running; journals go into the folder."""
        self._core = core
        self._url = url
        self._environment = {**_plain_environment(), "TMPDIR": folder}
        self._running: dict[str, Worker] = {}

    def run(self, experiment: Experiment) -> report.Results:
        """Run all rounds; the first round of several warms up and does not count."""
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in experiment.contestants}
        used = dict.fromkeys(experiment.contestants, 0.0)
        for _ in range(experiment.rounds):
            for name in experiment.contestants:
                if used[name] > experiment.patience:
                    continue
                worker = self._worker(name, fresh=experiment.fresh)
                start = time.perf_counter()
                rounds[name].append(worker.do(experiment.job))
                used[name] += time.perf_counter() - start
        return {name: _medians(answers) for name, answers in rounds.items()}

    def _worker(self, name: str, *, fresh: bool) -> Worker:
        if fresh and name in self._running:
            self._running.pop(name).stop()
        if name not in self._running:
            self._running[name] = Worker(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.worker", str(self._core), name, self._url],
                    cwd=HERE.parent,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
        return self._running[name]

    def stop(self) -> None:
        """End every contestant."""
        for worker in self._running.values():
            worker.stop()
        self._running.clear()


def _medians(answers: list[dict[str, Any]]) -> dict[str, Any]:
    good = [answer for answer in answers if "failed" not in answer]
    if not good:
        return answers[-1]
    counted = good[1:] if len(good) > 1 else good
    numbers = [name for name, value in good[-1].items() if isinstance(value, (int, float))]
    return {name: median(answer[name] for answer in counted) for name in numbers}


def _plain_environment() -> dict[str, str]:
    # What is installed is compiled, so that a checkout has to be, too.
    out = ("LANGSMITH", "LANGCHAIN", "SEGMIND", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(out)}


_IMPORT = """
import sys, time
# langsmith imports it, and so aiohttp, where it finds it: a plain install does not have it.
sys.modules["httpx_aiohttp"] = None
start = time.process_time()
import langchain_core.language_models.chat_models
core = time.process_time()
import langchain_segmind
print(core - start, time.process_time() - start)
"""


def imports(rounds: int) -> dict[str, float]:
    """Measure imports in new processes: medians of CPU time, in seconds."""
    command = [sys.executable, "-c", _IMPORT]
    found = []
    for _ in range(rounds + 1):  # The first time may compile.
        told = subprocess.run(
            command, check=True, cwd=HERE.parent, env=_plain_environment(), stdout=subprocess.PIPE
        )
        core, ours = map(float, told.stdout.split())
        found.append((core, ours, ours / core))
    core, ours, ratio = map(median, zip(*found[1:], strict=True))
    return {"core": core, "ours": ours, "ratio": ratio}


def versions() -> dict[str, str]:
    """Name what is compared with what."""
    clients = ("httpx", "httpx2", "aiohttp", "litellm", "distilabel")
    return {name: version(name) for name in ("langchain-core", *PEERS, *clients)}


@contextmanager
def local_server(core: int) -> Iterator[str]:
    """Run the server on a core of its own; give its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server", str(core)],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes, with more noise")
    parser.add_argument("--only", help="run the experiments whose names begin so, write nothing")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        parser.error("two cores are needed: one for the server, one for the rest")
    chosen = [
        experiment
        for experiment in experiments(quick=options.quick)
        if options.only is None or experiment.name.startswith(options.only)
    ]
    found: dict[str, report.Results] = {}
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    with tempfile.TemporaryDirectory() as folder, local_server(cores[-1]) as url:
        bench = Bench(cores[0], url, folder)
        try:
            for experiment in chosen:
                print(f"{experiment.name} …", file=sys.stderr, flush=True)
                found[experiment.name] = bench.run(experiment)
                if options.only is not None:
                    print(json.dumps(found[experiment.name], indent=1))
        finally:
            bench.stop()
    if options.only is not None:
        return
    found["import"] = {"seconds": dict(imports(7 if options.quick else 21))}
    measured = {
        "python": platform.python_version(),
        "versions": versions(),
        "results": found,
    }
    report.write(measured, HERE, keep=not options.quick)


if __name__ == "__main__":
    main()
