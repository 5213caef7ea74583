"""A file's prompts on a local Ray, whose driver and workers are killed and lose answers."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import SegmindRateLimiter, SegmindRateLimitError
from langchain_segmind.gateway import Faults, RunningGateway, ScriptedEngine, Settings, serve
from langchain_segmind.journals import PostgresJournal, SqliteJournal
from tests.postgres import PASSWORD, run_server
from tests.servers import faults, http, model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_segmind.journals import Journal

pytest.importorskip("ray", reason="Ray has no wheel for this platform.")
pa: Any = pytest.importorskip("pyarrow", reason="It comes with Ray Data.")
pq: Any = pytest.importorskip("pyarrow.parquet")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Processes are found through /proc."),
    pytest.mark.timeout(480),
]

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_batch.py"
ROWS = 140
IN_FLIGHT = 2 * 16
"""Two workers, and what Ray Data lets each have under way."""


class Story:
    """One account, one file, one journal, and the runs that work on them."""

    def __init__(self, folder: Path, ray: str, gateway: RunningGateway, store: str) -> None:
        self.folder, self.gateway, self.store = folder, gateway, store
        self.journal: Journal
        if "://" in store:
            self.journal = PostgresJournal(store)
        else:
            self.journal = SqliteJournal(folder / store)
        prompts = [{"id": row, "prompt": f"question-{row}"} for row in range(ROWS)]
        pq.write_table(pa.Table.from_pylist(prompts), folder / "prompts.parquet")
        self.mark = f"SEGMIND_BASE_URL={gateway.url}"
        self.env = os.environ | {
            "SEGMIND_BASE_URL": gateway.url,
            "SEGMIND_API_KEY": gateway.api_key,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_TMPDIR": ray,
            "OMP_NUM_THREADS": "1",
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the example, as a user would; nothing of it is left behind."""
        command = [sys.executable, str(EXAMPLE), "prompts.parquet", "answers", self.store, "100000"]
        with (
            (self.folder / "log").open("a") as log,
            subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT
            ) as run,
        ):
            try:
                yield run
                run.wait(300)
            finally:
                while pids := self.processes():
                    self.kill(pids)

    def kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, name: str = "") -> list[int]:
        """Find what this account's runs have started and is still there."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = self.mark.encode() in (place / "environ").read_bytes().split(b"\0")
                if is_ours and name in (place / "cmdline").read_text("utf-8", "replace"):
                    found.append(int(place.name))
            except OSError:
                continue  # It has gone.
        return found

    def submitted(self) -> set[str]:
        return {entry.key for entry in self.journal.entries("submitted")}

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait as long as a busy machine may take to start Ray."""
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"it did not come to pass: {self.log[-4000:]}")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8")


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


class Desk:
    """Answers, but only while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.engine = ScriptedEngine(self.answer)
        self.answered = 0

    async def answer(self, body: dict[str, Any]) -> str:
        if not self.open.is_set():
            await asyncio.to_thread(self.open.wait)
        self.answered += 1
        return prompt_of(body).replace("question", "answer")

    def is_idle(self) -> bool:
        return self.answered == len(self.engine.bodies)


@contextmanager
def store_of(kind: str) -> Iterator[str]:
    """Give what the example is told of a journal."""
    if kind == "sqlite":
        yield "run.sqlite"
        return
    with run_server() as server:
        yield f"postgresql://tester:{PASSWORD}@/postgres?host={server.folder}"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """Kill the machine, go on, and kill both workers; one answer in seven is broken.

    Where the journal is a server, it is the workers alone: a start of Ray takes its time.
    """
    third = 1 / 21
    broken = Faults(error_rate=third, drop_after_rate=third, half_body_rate=third)
    settings = Settings(rpm=40, rate_window=1.0, post_faults=broken, poll_faults=broken)
    desk, folder = Desk(), tmp_path_factory.mktemp("ray")
    with (
        # Ray's own folder: the names of the sockets in it must not be long.
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray,
        store_of(request.param) as store,
        serve(settings, desk.engine) as gateway,
    ):
        told = Story(folder, ray, gateway, store)
        try:
            outstanding = kill_machine(told, desk) if request.param == "sqlite" else set()
            yield kill_workers(told, desk, outstanding)
        finally:
            desk.open.set()
            told.journal.close()


def kill_machine(story: Story, desk: Desk) -> set[str]:
    """Kill all at once, with answers outstanding that are paid for; give their keys."""
    with story.running():
        story.wait_for(lambda: len(story.submitted()) >= IN_FLIGHT // 2)
        story.kill(story.processes())
    outstanding = story.submitted()
    assert len(outstanding) >= IN_FLIGHT // 2
    desk.open.set()
    story.wait_for(desk.is_idle)
    desk.open.clear()
    return outstanding


def kill_workers(story: Story, desk: Desk, outstanding: set[str]) -> SimpleNamespace:
    """Run to the end, though both workers are killed; what they waited for is fetched by others."""
    with story.running() as run:
        story.wait_for(lambda: len(story.submitted() - outstanding) >= IN_FLIGHT // 4)
        story.kill(story.processes("ray::MapWorker"))
        outstanding |= story.submitted()
        desk.open.set()
    assert run.returncode == 0, story.log[-4000:]
    rows = pq.read_table(story.folder / "answers").to_pylist()
    return SimpleNamespace(
        rows=sorted(rows, key=lambda row: row["id"]),
        outstanding=outstanding,
        entries={entry.key: entry for entry in story.journal.entries()},
        billed=[prompt_of(body) for body in story.gateway.account.billed_bodies],
    )


def test_every_row_is_there_once_with_its_own_answer_or_its_error(story: SimpleNamespace) -> None:
    """An error stays only where a submit's answer was lost, and Segmind's id with it."""
    assert [row["id"] for row in story.rows] == list(range(ROWS))
    for row in story.rows:
        assert row["answer"] in ("", f"answer-{row['id']}")
        assert row["answer"] or "may have been billed" in row["error"]
    assert sum(bool(row["answer"]) for row in story.rows) > ROWS * 3 // 4


def test_none_is_paid_twice(story: SimpleNamespace) -> None:
    """Also not those whose answer was lost; and what was answered was paid."""
    assert set(Counter(story.billed).values()) == {1}
    assert {row["prompt"] for row in story.rows if row["answer"]} <= set(story.billed)


def test_what_was_submitted_before_a_kill_is_fetched(story: SimpleNamespace) -> None:
    assert {story.entries[key].state for key in story.outstanding} == {"answered"}


class Actor:
    """Stands in for Ray's handle of an actor: the same calls, in this process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


async def test_a_429_of_one_worker_holds_all_back() -> None:
    """Nobody posts until the reset that it named."""
    limiter = Actor(SegmindRateLimiter(requests_per_minute=1000))
    pace = runpy.run_path(str(EXAMPLE))["Pace"]
    arrived: list[float] = []

    def note(_received: Any, _wire: Any) -> bytes:
        arrived.append(time.time())
        return http()

    reset = time.time() + 1.5
    slow = http({"error": "slow"}, 429, {"x-rate-limit-reset-at-utc": str(reset)})
    with faults(slow, note) as server:
        one, other = (model(server, rate_limiter=pace(limiter), max_retries=0) for _ in range(2))
        with pytest.raises(SegmindRateLimitError):
            await one.ainvoke("hi")
        assert (await other.ainvoke("hi")).text == "Hello!"
    assert [moment >= reset for moment in arrived] == [True]
