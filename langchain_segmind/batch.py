"""Many requests, each paid for once: `run` answers them on the journal, under a budget.

`langchain-segmind batch` does the same from a file to a file.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_segmind._batch.budget import Budget, BudgetReachedError
from langchain_segmind._batch.iteration import iterate
from langchain_segmind._batch.requests import BadRequestError, BatchRequest
from langchain_segmind._batch.results import BatchResult, SchemaMismatchError
from langchain_segmind._batch.runner import Requests, Runner, as_samples
from langchain_segmind._batch.schemas import AnswerSchema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable, Mapping

    from langchain_segmind.chat_models import ChatSegmindLlama

__all__ = [
    "BadRequestError",
    "BatchRequest",
    "BatchResult",
    "BudgetReachedError",
    "SchemaMismatchError",
    "run",
    "run_sync",
]

IN_FLIGHT = 64


async def run(
    requests: Requests,
    llm: ChatSegmindLlama,
    *,
    samples: int = 1,
    in_flight: int = IN_FLIGHT,
    budget: float | None = None,
    schema: dict[str, Any] | type | None = None,
    schema_retries: int = 0,
) -> AsyncGenerator[BatchResult]:
    """Answer requests, many at once, and give each result as soon as it is there.

    What the model's journal has is given again for nothing, whoever paid for it; what is left
    when the iteration ends early is fetched or sent by the next run.

    Example:
        ```python
        import asyncio

        from langchain_segmind import ChatSegmindLlama, batch

        llm = ChatSegmindLlama(journal="jokes.sqlite", max_tokens=100)
        rows = ({"id": animal, "prompt": f"A joke on {animal}s"} for animal in ("cat", "dog"))


        async def main() -> None:
            async for result in batch.run(rows, llm, budget=1.0):
                print(result.custom_id, result.error or result.text)


        asyncio.run(main())
        ```

    Args:
        requests: An iterable, plain or async, read as slots come free: `BatchRequest`s, OpenAI's
            batch lines, or dicts with `id` and `messages` or `prompt`. Each id has to be its own.
        llm: A model with a `journal`; its `rate_limiter`, `min_credits` and
            `retry_unknown_outcome` hold.
        samples: How many answers to give to each request.
        in_flight: How many calls are under way at most.
        budget: Credits; what the journal says was paid counts as it is met. Never passed: what is
            in flight is counted at the dearest it can be, and a call without `max_tokens` is given
            one, of 2,048 or what is left of the budget.
        schema: What answers have to fit: a pydantic class, TypedDict or JSON schema.
        schema_retries: How often an answer that does not fit is asked for again, for money.

    Raises:
        BudgetReachedError: The next call might pass the budget, or leave less than `min_credits`.
        BadRequestError: The iterable gave what is no request.
        ValueError: The model has no journal, or a number makes no sense.
        SegmindError: The account cannot be used, or the journal not be written. What else goes
            wrong is the `error` of one result.
    """
    if llm.journal is None:
        raise ValueError('batch.run needs a journal: ChatSegmindLlama(journal="run.sqlite")')
    if min(samples, in_flight) < 1 or schema_retries < 0:
        raise ValueError("samples and in_flight must be at least 1, schema_retries at least 0")
    ledger = llm._connected().account.ledger  # noqa: SLF001 - of this package.
    money = Budget(budget, min_credits=llm.min_credits, balance=lambda: ledger.balance)
    runner = Runner(
        llm,
        as_samples(requests, samples),
        in_flight=in_flight,
        budget=money,
        schema=None if schema is None else AnswerSchema(llm, schema),
        schema_retries=schema_retries,
    )
    async with aclosing(runner.results()) as results:
        async for result in results:
            yield result
    if runner.failure is not None:
        raise runner.failure


def run_sync(
    requests: Iterable[BatchRequest | Mapping[str, Any]],
    llm: ChatSegmindLlama,
    *,
    samples: int = 1,
    in_flight: int = IN_FLIGHT,
    budget: float | None = None,
    schema: dict[str, Any] | type | None = None,
    schema_retries: int = 0,
) -> Generator[BatchResult]:
    """Do as `run`, blocking: the calls are made in a thread, and go on whatever the caller does."""
    results = run(
        requests,
        llm,
        samples=samples,
        in_flight=in_flight,
        budget=budget,
        schema=schema,
        schema_retries=schema_retries,
    )
    yield from iterate(results, llm.aclose, in_flight)
