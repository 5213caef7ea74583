"""The soak's other calls: with a journal, in forked children, and through proxies.

`SYNC` and `ASYNC` are those of `soak_calls`, with these added.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from benchmarks.soak_calls import ASYNC, SYNC, kind
from benchmarks.soak_gateway import SLOW
from langchain_segmind import SegmindError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.soak_calls import Soak
    from langchain_segmind import ChatSegmindLlama

__all__ = ["ASYNC", "SYNC"]

KEPT_SECONDS = 60.0
"""For which the journal keeps what was answered: the file, too, must not grow."""
LONGEST_CHILD = 60.0


# --- A journal -----------------------------------------------------------------------------------


@kind(6)
def journaled(soak: Soak) -> None:
    """Call under a key, again where the outcome is unknown, and then for nothing."""
    llm = _journaling(soak)
    with soak.tally.call() as asked:
        key = {"idempotency_key": f"call {asked.number}"}
        try:
            asked.answer = llm.invoke(asked.prompt, **key).content
        except SegmindError as error:
            if not error.outcome_unknown:
                raise
            soak.tally.count("asked again")
            asked.answer = llm.invoke(asked.prompt, **key).content
        _check_replay(soak, llm.invoke(asked.prompt, **key), asked.answer)


@kind(1)
def purged(soak: Soak) -> None:
    """Forget what is old."""
    soak.journal.purge(older_than=KEPT_SECONDS)


@kind(6)
async def ajournaled(soak: Soak) -> None:
    """Cancel a call at any moment, and ask again under its key."""
    llm = _journaling(soak)
    with soak.tally.call() as asked:
        key = {"idempotency_key": f"call {asked.number}"}
        with suppress(TimeoutError, SegmindError):
            async with asyncio.timeout(soak.random.choice((0.001, 0.02, 0.2, 5.0))):
                await llm.ainvoke(asked.prompt, **key)
        asked.answer = (await llm.ainvoke(asked.prompt, **key)).content
        _check_replay(soak, await llm.ainvoke(asked.prompt, **key), asked.answer)


def _journaling(soak: Soak) -> ChatSegmindLlama:
    return soak.journaled.model_copy(update={"queue": soak.random.choice((None, False))})


def _check_replay(soak: Soak, message: Any, answer: object) -> None:
    if not message.response_metadata.get("replayed") or message.content != answer:
        soak.tally.note(f"No replay: {message!r}")


# --- Forks ---------------------------------------------------------------------------------------


@kind(1)
def forked(soak: Soak) -> None:
    """Call in a child, which has its parent's models and none of its threads."""
    with soak.tally.call() as asked:
        asked.answer = _in_a_child(lambda: soak.plain.invoke(asked.prompt).content)
    with soak.tally.call() as asked:
        asked.answer = _in_a_child(lambda: asyncio.run(soak.plain.ainvoke(asked.prompt)).content)


@kind(1)
def forked_with_a_journal(soak: Soak) -> None:
    """Call in a child, and be given its answer in the parent."""
    with soak.tally.call() as asked:
        key = {"idempotency_key": f"call {asked.number}"}
        asked.answer = _in_a_child(lambda: soak.journaled.invoke(asked.prompt, **key).content)
        _check_replay(soak, soak.journaled.invoke(asked.prompt, **key), asked.answer)


def _in_a_child(work: Callable[[], object]) -> object:
    """Give what a forked child comes to, or raise what it raises."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_tell, args=(work, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(LONGEST_CHILD):
            raise RuntimeError("a child hangs")
        outcome: object = ours.recv()
    finally:
        ours.close()
        child.kill()
        child.join()
        child.close()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _tell(work: Callable[[], object], parent: Any) -> None:
    try:
        outcome: object = work()
    except Exception as error:
        outcome = error
    parent.send(outcome)


# --- Proxies -------------------------------------------------------------------------------------


@kind(5)
def proxied(soak: Soak) -> None:
    """Call through nginx, which waits for less than a slow answer takes, or through squid."""
    for llm in soak.proxied:
        with soak.tally.call(soak.random.choice((SLOW, "x", "x", "x"))) as asked:
            asked.answer = llm.invoke(asked.prompt, queue=soak.random.choice((True, False))).content


@kind(5)
async def aproxied(soak: Soak) -> None:
    """Do the same awaited."""
    for llm in soak.proxied:
        with soak.tally.call(soak.random.choice((SLOW, "x", "x", "x"))) as asked:
            queue = soak.random.choice((True, False))
            asked.answer = (await llm.ainvoke(asked.prompt, queue=queue)).content
