"""Processes that are killed and stores that break: nothing is paid twice, or lost and not named."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindJournalError
from langchain_segmind.exceptions import SegmindOutcomeUnknownError
from langchain_segmind.journals import SqliteJournal
from tests.servers import COLOURS, KEY, completion, faults, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from langchain_segmind.journals import Claim, JournalEntry

# From Python 3.12 on a fork beside threads is warned of; the package allows for it.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
FORK = multiprocessing.get_context("fork")


class Segmind:
    """Bills every submit that reaches it, whoever lives to hear the answer."""

    url = ""

    def __init__(self) -> None:
        self.billed: list[str] = []
        self.on_post: Callable[[], object] = lambda: None

    def answer(self, received: Any, _wire: Any) -> bytes:
        if received.line.startswith("GET"):
            prompt = received.line.split("/")[3].split()[0].removeprefix("job-")
            output = json.dumps(completion(f"You said: {prompt}"))
            return http({"status": "COMPLETED", "output": output, "metrics": {}})
        prompt = received.json["messages"][0]["content"]
        self.billed.append(prompt)
        self.on_post()
        if "/v2/" in received.line:
            return http({"request_id": f"job-{prompt}", "status": "QUEUED"})
        return http(completion(f"You said: {prompt}"), headers={"x-request-id": "r-1"})


@pytest.fixture
def segmind() -> Iterator[Segmind]:
    served = Segmind()
    with faults(served.answer) as server:
        served.url = server.url
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


def model(segmind: Segmind, journal: Any, **settings: Any) -> ChatSegmindLlama:
    given = {"api_key": KEY, "base_url": segmind.url, "poll_interval": 0.01}
    return ChatSegmindLlama(**{**given, "journal": journal, **settings})


@contextmanager
def process(work: Callable[..., object], *args: Any) -> Iterator[Any]:
    """Run a function in a process of its own, which may be killed, or may tell something."""
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=work, args=(*args, theirs))
    child.start()
    theirs.close()
    try:
        yield child, ours
    finally:
        child.join(60)
        child.kill()
        child.join()


# --- One call, killed ---------------------------------------------------------------------------

BEFORE = {"submitted": "id received", "answered": "answer received"}
AFTER = {"submitted": "id written", "answered": "answer written"}


class Lethal(SqliteJournal):
    """Kills the process that comes to a moment."""

    moment = ""

    def reach(self, moment: str | None) -> None:
        if moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def claim(self, key: str, fingerprint: str, **options: Any) -> Claim:
        claim = super().claim(key, fingerprint, **options)
        self.reach("intent written")
        return claim

    async def aclaim(self, key: str, fingerprint: str, **options: Any) -> Claim:
        claim = await super().aclaim(key, fingerprint, **options)
        self.reach("intent written")
        return claim

    def update(self, entry: JournalEntry, **change: Any) -> JournalEntry | None:
        self.reach(BEFORE.get(change["state"]))
        moved = super().update(entry, **change)
        self.reach(AFTER.get(change["state"]))
        return moved

    async def aupdate(self, entry: JournalEntry, **change: Any) -> JournalEntry | None:
        self.reach(BEFORE.get(change["state"]))
        moved = await super().aupdate(entry, **change)
        self.reach(AFTER.get(change["state"]))
        return moved


def call_until_killed(segmind: Segmind, path: Path, moment: str, call: Any, _told: Any) -> None:
    journal = Lethal(path)
    journal.moment = moment
    colour, queue = call
    llm = model(segmind, journal, queue=queue)
    if colour == "sync":
        llm.invoke("hi", idempotency_key="row-17")
    else:
        asyncio.run(llm.ainvoke("hi", idempotency_key="row-17"))


def kill_at(segmind: Segmind, path: Path, moment: str, call: tuple[str, bool]) -> None:
    with process(call_until_killed, segmind, path, moment, call) as (child, _):
        if moment == "request sent":
            segmind.on_post = child.kill
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    segmind.on_post = lambda: None


LOST = [
    ("intent written", True),
    ("intent written", False),
    ("request sent", True),
    ("request sent", False),
    ("id received", True),
    ("answer received", False),
]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("moment", "queue"), LOST)
def test_a_call_that_was_killed_unheard_is_named(
    moment: str, queue: bool, colour: str, segmind: Segmind, path: Path
) -> None:
    """Nobody can tell whether it was billed, so it is sent again on demand alone."""
    billed = 0 if moment == "intent written" else 1
    kill_at(segmind, path, moment, (colour, queue))
    llm = model(segmind, path, queue=queue)
    for _ in range(2):
        with pytest.raises(SegmindOutcomeUnknownError, match="row-17"):
            llm.invoke("hi", idempotency_key="row-17")
    assert len(segmind.billed) == billed
    insistent = model(segmind, path, queue=queue, retry_unknown_outcome=True)
    assert insistent.invoke("hi", idempotency_key="row-17").text == "You said: hi"
    assert llm.invoke("hi", idempotency_key="row-17").response_metadata["replayed"]
    assert len(segmind.billed) == billed + 1


KEPT = [
    ("id written", True),
    ("answer received", True),
    ("answer written", True),
    ("answer written", False),
]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("moment", "queue"), KEPT)
def test_a_call_that_was_killed_later_is_delivered(
    moment: str, queue: bool, colour: str, segmind: Segmind, path: Path
) -> None:
    kill_at(segmind, path, moment, (colour, queue))
    answer = model(segmind, path, queue=queue).invoke("hi", idempotency_key="row-17")
    assert answer.text == "You said: hi"
    assert ("replayed" in answer.response_metadata) == (moment == "answer written")
    assert segmind.billed == ["hi"]


# --- Many calls -----------------------------------------------------------------------------------


def run_rows(segmind: Segmind, path: Path, rows: int, told: Any) -> None:
    """Ask for every row at once, and tell which were answered and which are unknown."""
    llm = model(segmind, path)
    keys: Any = [
        {"metadata": {"idempotency_key": row}, "max_concurrency": 32} for row in range(rows)
    ]
    answers = llm.batch([f"row-{row}" for row in range(rows)], keys, return_exceptions=True)
    told.send([describe(answer) for answer in answers])


def describe(answer: Any) -> str:
    return type(answer).__name__ if isinstance(answer, Exception) else str(answer.text)


def test_two_processes_on_one_file_pay_for_each_row_once(segmind: Segmind, path: Path) -> None:
    with (
        process(run_rows, segmind, path, 60) as (_, one),
        process(run_rows, segmind, path, 60) as (_, other),
    ):
        assert one.recv() == other.recv() == [f"You said: row-{row}" for row in range(60)]
    assert sorted(segmind.billed) == sorted(f"row-{row}" for row in range(60))


def test_six_kills_leave_at_most_four_rows_each_in_doubt(segmind: Segmind, path: Path) -> None:
    """As a submit arrives, with 32 calls under way; what is billed and not answered is named."""
    for _ in range(6):
        with process(run_rows, segmind, path, 200) as (child, _):
            arrivals = itertools.count(1)
            segmind.on_post = lambda child=child, arrivals=arrivals: (  # type: ignore[misc]
                child.kill() if next(arrivals) == 20 else None
            )
            child.join(60)
            assert child.exitcode == -signal.SIGKILL
    segmind.on_post = lambda: None
    with process(run_rows, segmind, path, 200) as (_, told):
        answers = told.recv()
    named = [row for row, answer in enumerate(answers) if "UnknownError" in answer]
    delivered = [row for row, answer in enumerate(answers) if answer == f"You said: row-{row}"]
    assert sorted(named + delivered) == list(range(200))
    assert len(named) <= 6 * 4
    assert len(set(segmind.billed)) == len(segmind.billed)
    assert {f"row-{row}" for row in delivered} <= set(segmind.billed)


# --- Stores that break ----------------------------------------------------------------------------


def fill_disk(pid: int, path: Path) -> None:
    """Let no file of a process grow: the journal's log is where the next write would go."""
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size if log.exists() else path.stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))


def drop_table(_pid: int, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE segmind_journal")


def forbid_writing(_pid: int, path: Path) -> None:
    """Leave the file to be read by all, and written by nobody but root."""
    path.chmod(0o444)
    for folder in list(path.parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    path.parent.chmod(0o555)


BREAKS = [
    pytest.param(
        fill_disk, marks=pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's.")
    ),
    drop_table,
]


def call_and_tell(segmind: Segmind, path: Path, queue: bool, break_store: Any, told: Any) -> None:
    """Call once, and tell what came of it, with the log."""
    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("langchain_segmind").addHandler(handler)
    llm = model(segmind, path, queue=queue)
    if break_store is not None:
        break_store(os.getpid(), path)
    if break_store is forbid_writing and os.getuid() == 0:
        os.setuid(65534)
    try:
        told.send((describe(llm.invoke("hi", idempotency_key="row-17")), log))
    except SegmindError as error:
        told.send((repr(error), log))


@pytest.mark.parametrize("queue", [True, False])
@pytest.mark.parametrize("break_store", [*BREAKS, forbid_writing])
def test_a_store_that_broke_before_the_call_stops_it(
    break_store: Any, queue: bool, segmind: Segmind, path: Path
) -> None:
    journal = SqliteJournal(path)
    journal.get("row-17")
    journal.close()
    with process(call_and_tell, segmind, path, queue, break_store) as (_, told):
        answer, _log = told.recv()
    assert answer.startswith(SegmindJournalError.__name__)
    assert segmind.billed == []


@pytest.mark.parametrize("queue", [True, False])
@pytest.mark.parametrize("break_store", BREAKS)
def test_a_store_that_broke_after_the_call_does_not_lose_the_answer(
    break_store: Any, queue: bool, segmind: Segmind, path: Path
) -> None:
    """The log has the key, and Segmind's id."""
    with process(call_and_tell, segmind, path, queue, None) as (child, told):
        segmind.on_post = lambda: break_store(child.pid, path)
        answer, log = told.recv()
    assert answer == "You said: hi"
    assert "'row-17'" in "".join(log)
    assert ("job-hi" if queue else "r-1") in "".join(log)
    assert segmind.billed == ["hi"]
