"""A file's prompts on a local Ray of two workers that lose answers, are stopped and are killed."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import SegmindRateLimitError
from langchain_segmind.gateway import Faults, RunningGateway, ScriptedEngine, Settings, serve
from tests.servers import faults, http, model

if TYPE_CHECKING:
    from collections.abc import Callable

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
SPENT = 15
"""Credits, and so answers, until a run is to stop."""


class Story:
    """One account, one file, and the runs that work on it."""

    def __init__(self, folder: Path, ray: str, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.folder = folder
        self.runs: list[subprocess.Popen[bytes]] = []
        self.prompts = [{"id": row, "prompt": f"question-{row}"} for row in range(ROWS)]
        lines = (json.dumps(prompt) + "\n" for prompt in self.prompts)
        (folder / "prompts.jsonl").write_text("".join(lines), "utf-8")
        self.mark = f"SEGMIND_BASE_URL={gateway.url}"
        self.env = os.environ | {
            "SEGMIND_BASE_URL": gateway.url,
            "SEGMIND_API_KEY": gateway.api_key,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_TMPDIR": ray,
            "OMP_NUM_THREADS": "1",
        }

    def start(
        self, prompts: str = "prompts.jsonl", min_credits: float = 0
    ) -> subprocess.Popen[bytes]:
        """Run the example, as a user would."""
        given = [prompts, "out", "--requests-per-minute=100000", f"--min-credits={min_credits}"]
        with (self.folder / "log").open("a") as log:
            run = subprocess.Popen(
                [sys.executable, str(EXAMPLE), *given],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.runs.append(run)
        return run

    def finish(self, run: subprocess.Popen[bytes]) -> None:
        """Let a run come to its end, and Ray with it."""
        assert run.wait(300) == 0, (self.folder / "log").read_text("utf-8")[-4000:]
        self.wait_for(lambda: not self.processes())

    def kill(self, pid: int) -> None:
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

    def book(self) -> list[dict[str, Any]]:
        """Read the book, also beneath the lock of a run."""
        where = f"file:{self.folder}/out/book.sqlite?immutable=1"
        try:
            with closing(sqlite3.connect(where, uri=True)) as book:
                book.row_factory = sqlite3.Row
                return [dict(row) for row in book.execute("SELECT * FROM book")]
        except sqlite3.DatabaseError:
            return []  # Not there yet, or just being written.

    def submitted(self) -> int:
        return sum(row["request_id"] is not None for row in self.book())

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait as long as a busy machine may take to start Ray."""
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(
            "it did not come to pass: " + (self.folder / "log").read_text()[-4000:]
        )

    def asked(self) -> list[str]:
        return [prompt_of(post.json()) for post in self.gateway.account.posts]

    def billed(self) -> list[str]:
        return [prompt_of(body) for body in self.gateway.account.billed_bodies]


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


class OperationQueue:
    """Answers with one word, a credit each, and only while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.engine = ScriptedEngine(self.answer)
        self.answered = 0

    async def answer(self, body: dict[str, Any]) -> str:
        if not self.open.is_set():
            await asyncio.to_thread(self.open.wait)
        self.answered += 1
        return prompt_of(body).replace("question", "answer")

    def close(self) -> None:
        self.open.clear()

    def is_idle(self) -> bool:
        return self.answered == len(self.engine.bodies)


def output(folder: Path, suffix: str) -> list[dict[str, Any]]:
    """Read the rows that a run wrote."""
    paths = list((folder / "out" / "rows").iterdir())
    assert {path.suffix for path in paths} == {suffix}
    if suffix == ".parquet":
        rows = pq.read_table(folder / "out" / "rows").to_pylist()
    else:
        lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
        rows = [json.loads(line) for line in lines]
    return sorted(rows, key=lambda row: row["id"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Run three times: the driver is killed; the money runs low; both workers are killed.

    One answer in seven is broken all the while, of submits as of polls, and the plan is small.
    """
    third = 1 / 21
    broken = Faults(error_rate=third, drop_after_rate=third, half_body_rate=third)
    settings = Settings(
        credits=1000.0,
        prompt_price=0.0,
        completion_price=1.0,
        rpm=40,
        rate_window=1.0,
        post_faults=broken,
        poll_faults=broken,
    )
    queue, seen = OperationQueue(), SimpleNamespace()
    folder = tmp_path_factory.mktemp("ray")
    # Ray's own folder: the names of the sockets in it must not be long.
    short = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
    with short as ray, serve(settings, queue.engine) as gateway:
        told = Story(folder, ray, gateway)
        try:
            _driver_killed(told, queue, seen)
            _money_low(told, queue, seen)
            _workers_killed(told, queue, seen)
        finally:
            queue.open.set()
            for pid in told.processes():
                told.kill(pid)
            for run in told.runs:
                run.wait()
        seen.billed, seen.rows = told.billed(), output(folder, ".parquet")
    return seen


def _driver_killed(story: Story, queue: OperationQueue, seen: SimpleNamespace) -> None:
    """With answers outstanding that are paid for."""
    run = story.start()
    story.wait_for(lambda: story.submitted() >= IN_FLIGHT // 2)
    story.kill(run.pid)
    run.wait()
    story.wait_for(lambda: not story.processes())
    seen.outstanding = {row["row"] for row in story.book() if row["request_id"]}
    queue.open.set()
    story.wait_for(queue.is_idle)


def _money_low(story: Story, queue: OperationQueue, seen: SimpleNamespace) -> None:
    before = story.gateway.account.charge_count
    story.finish(story.start(min_credits=story.gateway.account.remaining - SPENT))
    seen.spent = story.gateway.account.charge_count - before
    seen.book = {row["row"]: row for row in story.book()}
    seen.stopped = output(story.folder, ".json")
    story.wait_for(queue.is_idle)
    seen.billed_till_then = story.billed()


def _workers_killed(story: Story, queue: OperationQueue, seen: SimpleNamespace) -> None:
    """The same rows from a Parquet file; what its workers waited for is fetched by new ones."""
    pq.write_table(pa.Table.from_pylist(story.prompts), story.folder / "prompts.parquet")
    queue.close()
    asked = len(story.asked())
    known = story.submitted()
    run = story.start("prompts.parquet")
    story.wait_for(lambda: story.submitted() - known > IN_FLIGHT // 4)
    for worker in story.processes("ray::MapWorker"):
        story.kill(worker)
    queue.open.set()
    story.finish(run)
    seen.asked_third = story.asked()[asked:]
    seen.answered = sum(row["answer"] is not None for row in story.book())
    seen.log = (story.folder / "log").read_text("utf-8")


def test_every_row_is_there_once_with_its_own_answer_or_its_error(story: SimpleNamespace) -> None:
    """An error stays only where a submit's answer was lost, and Segmind's id with it."""
    for rows in (story.stopped, story.rows):
        assert [row["id"] for row in rows] == list(range(ROWS))
        assert all((row["answer"] is None) == (row["error"] is not None) for row in rows)
    for row in story.rows:
        assert row["answer"] in (None, f"answer-{row['id']}")
        assert row["answer"] or "may have been billed" in row["error"] or "Sent," in row["error"]
    assert sum(row["answer"] is not None for row in story.rows) > ROWS * 3 // 4


def test_none_is_paid_twice(story: SimpleNamespace) -> None:
    """Also not those whose answer was lost; and what was answered was paid."""
    assert set(Counter(story.billed).values()) == {1}
    answered = {row["prompt"] for row in story.rows if row["answer"] is not None}
    assert answered <= set(story.billed)
    lost = [row for row in story.rows if row["answer"] is None]
    assert len(answered) + len(lost) == ROWS >= len(story.billed)


def test_a_killed_run_loses_no_answer_that_was_submitted(story: SimpleNamespace) -> None:
    """The next run fetches it by its id and posts nothing."""
    assert len(story.outstanding) >= IN_FLIGHT // 2
    assert all(story.book[row]["answer"] for row in story.outstanding)


def test_what_killed_workers_waited_for_is_in_the_book(story: SimpleNamespace) -> None:
    """Their rows were run again, fetched and put down, in the same run."""
    assert story.answered == sum(row["answer"] is not None for row in story.rows)


def test_min_credits_stops_all_workers_and_leaves_the_rest_for_later(
    story: SimpleNamespace,
) -> None:
    assert SPENT <= story.spent <= SPENT + IN_FLIGHT
    refused = [row for row in story.stopped if "min-credits" in (row["error"] or "")]
    unsent = {row["prompt"] for row in refused}
    assert len(unsent) > ROWS // 4
    assert unsent.isdisjoint(story.billed_till_then)
    # The killed workers may have had leave to send some, and not have come to it.
    missed = unsent - set(story.asked_third)
    assert len(missed) < len(unsent) // 2
    assert all(row["answer"] is None for row in story.rows if row["prompt"] in missed)


def test_the_last_run_posts_nothing_for_what_was_answered(story: SimpleNamespace) -> None:
    done = {row["prompt"] for row in story.stopped if row["answer"] is not None}
    assert len(done) > SPENT
    assert done.isdisjoint(story.asked_third)


def test_the_progress_is_shown(story: SimpleNamespace) -> None:
    """Ray Data's own: bars in a terminal, lines in a log."""
    assert "Map(Worker)" in story.log
    assert f"The book: {story.answered} rows answered" in story.log


class Handle:
    """Stands in for Ray's handle of an actor: the same calls, in this process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._calls: list[asyncio.Task[Any]] = []

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self._called(getattr(self._actor, name), args))

    def _called(self, method: Any, args: tuple[Any, ...]) -> asyncio.Task[Any]:
        call: asyncio.Task[Any] = asyncio.ensure_future(method(*args))
        self._calls.append(call)
        return call


async def test_a_429_of_one_worker_holds_all_back(tmp_path: Path) -> None:
    """Nobody posts until the reset that it named."""
    example = runpy.run_path(str(EXAMPLE))
    book = example["Book"](tmp_path / "book.sqlite", 1000, 0.0, 1.0)
    arrived: list[float] = []

    def note(_received: Any, _wire: Any) -> bytes:
        arrived.append(time.time())
        return http()

    reset = time.time() + 1.5
    with faults(
        http({"error": "slow"}, 429, {"x-rate-limit-reset-at-utc": str(reset)}), note
    ) as to:
        turns = [example["Turn"](Handle(book), row) for row in ("one", "other")]
        one, other = (model(to, rate_limiter=turn, max_retries=0) for turn in turns)
        with pytest.raises(SegmindRateLimitError):
            await one.ainvoke("hi")
        assert (await other.ainvoke("hi")).text == "Hello!"
    assert [moment >= reset for moment in arrived] == [True]
    book.rows.close()


async def test_two_of_the_same_row_do_not_both_send_it(tmp_path: Path) -> None:
    """One that Ray took for dead, say, and the one that took its place."""
    example = runpy.run_path(str(EXAMPLE))
    book = example["Book"](tmp_path / "book.sqlite", 1000, 0.0, 1.0)
    with faults(http()) as server:
        turns = [example["Turn"](Handle(book), "row") for _ in range(2)]
        one, other = (model(server, rate_limiter=turn) for turn in turns)
        await one.ainvoke("hi")
        with pytest.raises(Exception, match="being answered elsewhere"):
            await other.ainvoke("hi")
        assert len(server.requests) == 1
    book.rows.close()
