"""Answer the prompts of a JSONL or Parquet file with Ray Data: every row once, none paid twice.

    python examples/ray_batch.py prompts.jsonl answers --requests-per-minute 50 --min-credits 1

Rows have an `id` and a `prompt`. `answers/rows` gets them all back, with `answer`, `error` and
`cost`; `answers/book.sqlite` knows what was sent and paid for, so that the same command again goes
on where the last one stopped. How it works, and what it cannot promise: docs/scale-out.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from langchain_core.rate_limiters import BaseRateLimiter
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter
from langchain_segmind.exceptions import SegmindInsufficientCreditsError, SegmindJobNotFoundError

FATE = ("answer", "error", "cost", "request_id", "lost")
"""What the book says of a row. Lost: sent, perhaps billed, and never to be sent again unasked."""


class Book:
    """The one actor that all workers share: the account's limits, and what became of each row."""

    def __init__(self, path: Path, pace: int, min_credits: float, balance: float) -> None:
        """Open the book on the driver's disk."""
        self.pace = SegmindRateLimiter(requests_per_minute=pace)
        self.balance, self.min_credits = balance, min_credits
        self.turns: dict[str, str] = {}
        # What is written is on disk; a second run at the same time is refused.
        self.rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.rows.executescript(
            "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS book"
            f" (row PRIMARY KEY, {', '.join(FATE)}); COMMIT"
        )

    async def read(self, row: str) -> dict[str, Any]:
        """Say what became of a row."""
        found = self.rows.execute("SELECT * FROM book WHERE row = ?", [row]).fetchone()
        return dict(zip(FATE, found[1:] if found else [None] * len(FATE), strict=True))

    async def wait(self) -> None:
        """Wait for a place in the plan's minute, if there is anything to wait for."""
        if self.balance >= self.min_credits:
            await self.pace.aacquire()

    async def admit(self, row: str, turn: str) -> str:
        """Note that a row is being sent, or say why it must not be."""
        if self.balance < self.min_credits:
            return "broke"
        if self.turns.setdefault(row, turn) != turn:
            return "taken"
        self._write(row, {"error": "Sent, and nothing was heard: it may be billed.", "lost": True})
        return "go"

    async def submitted(self, row: str, request_id: str) -> None:
        """Note where the answer of a row that was sent can be fetched."""
        noted = "UPDATE book SET request_id = ?, error = NULL, lost = NULL WHERE row = ? AND lost"
        self.rows.execute(noted, [request_id, row])

    async def settle(
        self, row: str, turn: str, fate: dict[str, Any], balance: float | None
    ) -> None:
        """Note what a row came to, and the balance that its answer named."""
        # An answer counts whoever fetched it; an error only from the one whose turn it is.
        if fate.get("answer") is not None or self.turns.get(row, turn) == turn:
            self._write(row, fate)
            self.turns.pop(row, None)
        self.balance = self.balance if balance is None else min(self.balance, balance)

    async def pause(self, seconds: float) -> None:
        """Let nobody send anything: a worker was answered with 429."""
        self.pace.pause(seconds)

    async def sums(self) -> Any:
        """Count the answers, what they cost, and what is lost."""
        sums = "SELECT count(answer), total(cost), count(lost) FROM book"
        return self.rows.execute(sums).fetchone()

    def _write(self, row: str, fate: dict[str, Any]) -> None:
        values = [row, *(fate.get(name) for name in FATE)]
        self.rows.execute("INSERT OR REPLACE INTO book VALUES (?, ?, ?, ?, ?, ?)", values)


class Turn(BaseRateLimiter):
    """A row's way to the book: asks before each paid request, tells what comes of it."""

    def __init__(self, book: Any, row: str) -> None:
        """Take a turn at a row."""
        self.book, self.row, self.name = book, row, uuid.uuid4().hex

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Wait for the account's pace; raise where nothing may be sent."""
        if not blocking:  # Only who waits can know.
            return False
        await self.book.wait.remote()
        # Apart: who dies while it waits has sent nothing, and its row must not look so.
        verdict = await self.book.admit.remote(self.row, self.name)
        if verdict == "broke":
            raise SegmindInsufficientCreditsError("Below --min-credits: nothing was sent.")
        if verdict == "taken":
            raise SegmindError("The same row is being answered elsewhere: nothing was sent.")
        return True

    def acquire(self, *, blocking: bool = True) -> bool:
        """Serve no blocking calls."""
        raise NotImplementedError("Workers call ainvoke.")

    def pause(self, seconds: float) -> None:
        """Tell the others of a 429; the model calls this."""
        self.book.pause.remote(seconds)

    def submitted(self, request_id: str) -> None:
        """Note the id of a job that Segmind has taken; the model calls this."""
        self.book.submitted.remote(self.row, request_id)


class Worker:
    """Answers rows, 16 at a time. Ray runs the rows of one that died again; the book knows them."""

    def __init__(self, llm: ChatSegmindLlama) -> None:
        """Start on one of the machines, with that machine's key."""
        self.llm, self.book = llm, ray.get_actor("book")

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Give a row back with what is known of it, after asking if need be."""
        named = json.dumps([row["id"], row["prompt"]], default=str)
        key = hashlib.sha256(named.encode()).hexdigest()
        fate = await self.book.read.remote(key)
        if fate["answer"] is None and not fate["lost"]:
            fate = await self.answer(key, row["prompt"], fate["request_id"])
        return row | {name: fate.get(name) for name in ("answer", "error", "cost")}

    async def answer(self, key: str, prompt: Any, request_id: str | None) -> dict[str, Any]:
        """Call, or fetch what an earlier run has paid for, and put it down."""
        turn = Turn(self.book, key)
        paced = self.llm.model_copy(update={"rate_limiter": turn, "on_submit": turn.submitted})
        try:
            asking = self.llm.aresume(request_id) if request_id else paced.ainvoke(prompt)
            message = await asking
        except Exception as error:  # noqa: BLE001 - a row's error is that row's result.
            fate = fate_after(error, await self.book.read.remote(key))
            told = error.credits if isinstance(error, SegmindError) else None
            left = told.remaining if told else None
            if isinstance(error, SegmindInsufficientCreditsError):
                left = float("-inf")  # Who asks next would hear the same.
        else:
            fate = {"answer": message.text, "cost": message.response_metadata["credits"]["cost"]}
            left = message.response_metadata["credits"]["remaining"]
        await self.book.settle.remote(key, turn.name, fate, left)
        return fate


def fate_after(error: Exception, fate: dict[str, Any]) -> dict[str, Any]:
    """Say what the next run may do: call again, fetch what was submitted, or leave it alone."""
    match error:
        case SegmindJobNotFoundError():
            fate |= {"request_id": None, "lost": True}
        case SegmindError(outcome_unknown=False):
            fate |= {"request_id": None, "lost": None}
        case SegmindError(request_id=str(request_id)):
            fate |= {"request_id": request_id, "lost": None}
    return fate | {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Read, answer and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prompts", type=Path, help="a .jsonl or .parquet file")
    parser.add_argument("out", type=Path, help="a folder for rows and book")
    parser.add_argument("--requests-per-minute", type=int, required=True, help="of your plan")
    parser.add_argument("--min-credits", type=float, default=0.0, help="stop below this balance")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    ray.init()  # The cluster that RAY_ADDRESS names, or one on this machine.
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = -1  # Slow plans are fine.
    llm = ChatSegmindLlama(queue=True, max_retries=5)  # Travels without its key: each machine's.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    shared = ray.remote(Book).options(
        name="book", num_cpus=0, max_concurrency=10_000, scheduling_strategy=here
    )
    path, balance = (given.out / "book.sqlite").absolute(), llm.get_credits().total
    book = shared.remote(path, given.requests_per_minute, given.min_credits, balance)
    ray.get(book.sums.remote())  # Raises where the book is in use.

    is_parquet = given.prompts.suffix == ".parquet"
    rows = (ray.data.read_parquet if is_parquet else ray.data.read_json)(str(given.prompts))
    few = rows.repartition(target_num_rows_per_block=64)
    pool = ray.data.ActorPoolStrategy(size=given.workers)
    # They wait nearly all the time: a whole core for each would leave none to read and write.
    answered = few.map(Worker, fn_constructor_args=[llm], compute=pool, num_cpus=0.1)
    where = str(given.out.absolute() / "rows")
    if is_parquet:  # A file in which nothing failed would not know the type of its errors.
        ours = [("answer", pa.string()), ("error", pa.string()), ("cost", pa.float64())]
        schema = pa.schema([*rows.schema().base_schema, *ours])
        answered.write_parquet(where, mode="overwrite", schema=schema)
    else:
        answered.write_json(where, mode="overwrite")
    done, cost, lost = ray.get(book.sums.remote())
    print(f"The book: {done} rows answered, for {cost:.6f} credits; {lost} lost.")


if __name__ == "__main__":
    main()
