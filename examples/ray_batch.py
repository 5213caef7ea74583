"""Answer a Parquet file's prompts with Ray Data, none paid twice: see docs/scale-out.md.

`ray_batch.py prompts.parquet answers run.sqlite 50`: with the plan's requests a minute.
"""

import sys
from dataclasses import dataclass

import ray
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter
from langchain_segmind.journals import PostgresJournal, SqliteJournal


@dataclass(eq=False)
class Pace(BaseRateLimiter):
    """A worker's way to the actor that counts the requests of all."""

    actor: ray.actor.ActorHandle

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait for a turn."""
        return bool(ray.get(self.actor.aacquire.remote(blocking=blocking)))

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Wait for a turn."""
        return bool(await self.actor.aacquire.remote(blocking=blocking))

    def pause(self, seconds: float) -> None:
        """Hold everyone back: a worker was answered with 429."""
        self.actor.pause.remote(seconds)


@dataclass
class Worker:
    """Answers rows, 16 at a time; Ray runs those of a worker that died once more."""

    llm: ChatSegmindLlama

    async def __call__(self, row: dict[str, object]) -> dict[str, object]:
        """Give a row with its answer, or with what went wrong."""
        try:
            answer = await self.llm.ainvoke(row["prompt"], idempotency_key=str(row["id"]))
        except SegmindError as error:
            return row | {"answer": "", "error": f"{type(error).__name__}: {error}"}
        return row | {"answer": answer.text, "error": ""}


if __name__ == "__main__":
    prompts, answers, store, per_minute = sys.argv[1:]
    journal = PostgresJournal(store) if "://" in store else SqliteJournal(store)
    pace = Pace(ray.remote(SegmindRateLimiter).remote(requests_per_minute=int(per_minute)))
    llm = ChatSegmindLlama(journal=journal, rate_limiter=pace, max_retries=5, min_credits=0.01)
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = -1  # Plans are slow.
    rows = ray.data.read_parquet(prompts).repartition(target_num_rows_per_block=64)
    pool = ray.data.ActorPoolStrategy(size=2)
    rows = rows.map(Worker, fn_constructor_args=[llm], compute=pool, num_cpus=0.1)
    rows.write_parquet(answers, mode="overwrite")
