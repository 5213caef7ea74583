"""Every kind of call that the soak makes, and what became of each.

`SYNC` and `ASYNC` list the kinds with their weights. Each prompt has a number of its own, which the
gateway finds in what it bills: so every charge can be held against what the caller was told.
"""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import threading
import traceback
from collections import Counter
from contextlib import aclosing, contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from benchmarks.soak_gateway import SLOW, TOO_LONG, TOOL
from langchain_segmind import (
    ChatSegmindLlama,
    SegmindError,
    SegmindRateLimiter,
    get_credits_callback,
)
from langchain_segmind._protocol.account import ACCOUNTS_REMEMBERED
from langchain_segmind.journals import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MOST_CALLS = 2_000_000
MOST_STRANGE = 100
"""What the soak itself keeps must not grow."""
UNUSED, ANSWERED, UNKNOWN, CANCELLED, REFUSED, ELSEWHERE = b".AUCRE"
"""What the caller was told; `ELSEWHERE` are streams, which the gateway knows nothing of."""
NOWHERE = "http://127.0.0.1:9"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Forecast(BaseModel):
    """Tell the weather of a place."""

    place: str


Forecast.__name__ = TOOL


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


class Tally:
    """What became of every call, in memory that does not grow."""

    def __init__(self) -> None:
        """Take all the memory at once."""
        self.outcomes = bytearray(b"." * MOST_CALLS)
        self.paid = bytearray(b"0" * MOST_CALLS)
        self.counts: Counter[str] = Counter()
        """Calls by kind, and outcomes by name."""
        self.strange: Counter[str] = Counter()
        """What should never happen, by its words."""
        self.last = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        """Give the next call its number."""
        with self._lock:
            self.last += 1
            return self.last

    def prompt(self, words: str = "Tell me a joke") -> tuple[int, str]:
        """Give a number, and a prompt that has it."""
        number = self.number()
        return number, f"{words} #{number}#"

    def settle(self, number: int, outcome: object, *, elsewhere: bool = False) -> None:
        """Note what the caller was told of one call."""
        code, name = ELSEWHERE if elsewhere else ANSWERED, "answered"
        if isinstance(outcome, SegmindError):
            paid = outcome.outcome_unknown or bool(outcome.credits and outcome.credits.cost)
            code, name = UNKNOWN if paid else REFUSED, type(outcome).__name__
            name += " (outcome unknown)" if paid else ""
        elif isinstance(outcome, (asyncio.CancelledError, TimeoutError)):
            code, name = CANCELLED, "cancelled"
        elif isinstance(outcome, BaseException):
            code, name = UNKNOWN, "strange"
            self.note("".join(traceback.format_exception(outcome))[-1500:])
        elif not elsewhere and f"#{number}#" not in str(outcome):
            self.note(f"The answer to another call: {str(outcome)[:60]}")
        self.outcomes[number] = ELSEWHERE if elsewhere else code
        self.count(name)

    def note(self, words: str) -> None:
        """Count something that should never happen."""
        words = re.sub("0x[0-9a-f]+", "0x…", words)
        with self._lock:
            if len(self.strange) < MOST_STRANGE or words in self.strange:
                self.strange[words] += 1

    def count(self, name: str) -> None:
        """Count an outcome or a kind."""
        with self._lock:
            self.counts[name] += 1

    @contextmanager
    def call(self, words: str = "Tell me a joke", *, elsewhere: bool = False) -> Iterator[_Asked]:
        """Make one call; an expected error ends the block."""
        number, prompt = self.prompt(words)
        asked = _Asked(number, prompt)
        try:
            yield asked
        except SegmindError as error:
            self.settle(number, error, elsewhere=elsewhere)
        except BaseException as error:
            self.settle(number, error, elsewhere=elsewhere)
            if not isinstance(error, Exception):
                raise
        else:
            self.settle(number, asked.answer, elsewhere=elsewhere)


class _Asked:
    def __init__(self, number: int, prompt: str) -> None:
        self.number = number
        self.prompt = prompt
        self.answer: object = f"#{number}#"
        """Checked for the number, where the kind of call keeps it."""


class Soak:
    """The models that live as long as the soak does, and where to make more."""

    def __init__(
        self, *, url: str, streams: str, key: str, journal: Path, proxied: Sequence[str]
    ) -> None:
        """Build the models; `proxied` are URLs that lead to the gateway through a proxy."""
        self.tally = Tally()
        self.random = Random(2)
        self._settings = {"base_url": url, "api_key": key}
        self._streams = streams
        self.plain = self.model()
        self.queue = self.model(queue=True)
        self.events = self.streaming()
        self.hasty = self.model(timeout=0.15)
        self.paced = self.model(rate_limiter=SegmindRateLimiter(requests_per_minute=600))
        self.journal = SqliteJournal(journal)
        self.journaled = self.model(journal=self.journal)
        self.proxied = [self.model(base_url=each) for each in proxied]
        template = ChatPromptTemplate.from_template("{words}")
        self.chain = template | self.plain | StrOutputParser()
        for number in range(ACCOUNTS_REMEMBERED):  # The table of accounts is full from the start.
            self.model(api_key=f"SG_{number:016x}")

    def model(self, **settings: Any) -> ChatSegmindLlama:
        """Build a model that talks to the gateway."""
        return ChatSegmindLlama(**{"poll_interval": 0.1, **self._settings, **settings})

    def streaming(self) -> ChatSegmindLlama:
        """Build a model that talks to the server of streams."""
        return self.model(base_url=self._streams, streaming=True)


SYNC: list[tuple[Callable[[Soak], None], int]] = []
ASYNC: list[tuple[Callable[[Soak], Any], int]] = []


def kind(weight: int) -> Callable[[Any], Any]:
    """Register a kind of call, which is made as often as its weight says."""

    def register(function: Any) -> Any:
        kinds: list[Any] = ASYNC if asyncio.iscoroutinefunction(function) else SYNC
        kinds.append((function, weight))
        return function

    return register


# --- Blocking ------------------------------------------------------------------------------------


@kind(12)
def invoke(soak: Soak) -> None:
    """Call a model that lives long."""
    with soak.tally.call() as asked:
        asked.answer = soak.plain.invoke(asked.prompt).content


@kind(4)
def chained(soak: Soak) -> None:
    """Run a chain, its costs counted."""
    with soak.tally.call() as asked, get_credits_callback():
        asked.answer = soak.chain.invoke({"words": asked.prompt})


@kind(2)
def batch(soak: Soak) -> None:
    """Call several times at once."""
    numbers, prompts = zip(*(soak.tally.prompt() for _ in range(6)), strict=True)
    answers = soak.plain.batch(list(prompts), {"max_concurrency": 3}, return_exceptions=True)
    for number, answer in zip(numbers, answers, strict=True):
        soak.tally.settle(number, answer)


@kind(5)
def queued(soak: Soak) -> None:
    """Call through the queue; fetch what was not waited for."""
    ids: list[str] = []
    llm = soak.queue.model_copy(update={"on_submit": ids.append, "queue_timeout": 1.0})
    with soak.tally.call() as asked:
        try:
            asked.answer = llm.invoke(asked.prompt).content
        except SegmindError as error:
            if not (ids and error.outcome_unknown):
                raise
            soak.tally.count("resumed")
            asked.answer = soak.queue.resume(ids[0]).content


@kind(2)
def streamed_whole(soak: Soak) -> None:
    """Stream from a server that sends no stream."""
    with soak.tally.call() as asked:
        asked.answer = "".join(str(chunk.content) for chunk in soak.plain.stream(asked.prompt))


@kind(2)
def streamed(soak: Soak) -> None:
    """Read a stream of events to its end."""
    with soak.tally.call(elsewhere=True) as asked:
        for _ in soak.events.stream(asked.prompt):
            pass


@kind(2)
def left_stream(soak: Soak) -> None:
    """Leave a stream of events early, without closing it."""
    with soak.tally.call(elsewhere=True) as asked:
        for _ in soak.events.stream(asked.prompt):
            break


@kind(3)
def tooled(soak: Soak) -> None:
    """Call with tools, bound anew."""
    with soak.tally.call() as asked:
        message: Any = soak.plain.bind_tools([Forecast], tool_choice="any").invoke(asked.prompt)
        if [call["name"] for call in message.tool_calls] != [TOOL]:
            soak.tally.note(f"No tool call: {message.content!r}")


@kind(3)
def structured(soak: Soak) -> None:
    """Ask for a form."""
    with soak.tally.call() as asked:
        soak.plain.with_structured_output(Joke).invoke(asked.prompt)


@kind(4)
def fresh(soak: Soak) -> None:
    """Make a model, use it, close it."""
    with soak.tally.call() as asked, soak.model() as llm:
        asked.answer = llm.invoke(asked.prompt).content


@kind(4)
def dropped(soak: Soak) -> None:
    """Make a model, use it, forget it."""
    with soak.tally.call() as asked:
        asked.answer = soak.model().invoke(asked.prompt).content


@kind(3)
def copied(soak: Soak) -> None:
    """Use copies of a model."""
    pickled = pickle.loads(pickle.dumps(soak.plain))
    for llm in (copy.copy(soak.plain), copy.deepcopy(soak.plain), pickled):
        with soak.tally.call() as asked:
            asked.answer = llm.invoke(asked.prompt, temperature=0.5).content


@kind(2)
def too_late(soak: Soak) -> None:
    """Wait for less time than the answer takes."""
    with soak.tally.call(SLOW) as asked:
        soak.hasty.invoke(asked.prompt)


@kind(2)
def closed(soak: Soak) -> None:
    """Close a model that others are using."""
    soak.plain.close()
    soak.plain.get_credits()


@kind(2)
def paced(soak: Soak) -> None:
    """Call at a pace."""
    with soak.tally.call() as asked:
        asked.answer = soak.paced.invoke(asked.prompt).content


@kind(2)
def own_client(soak: Soak) -> None:
    """Call over a client of the user's."""
    with soak.tally.call() as asked, httpx.Client(verify=False) as client:
        asked.answer = soak.model(http_client=client).invoke(asked.prompt).content


@kind(4)
def refused(soak: Soak) -> None:
    """Make every mistake there is."""
    image: list[Any] = [{"type": "image_url", "image_url": {"url": PIXEL}}]
    key = f"SG_{soak.tally.last:016x}"  # Another one each time.
    for settings, words, options in (
        ({"api_key": key}, "x", {}),
        ({"base_url": NOWHERE, "max_retries": 0}, "x", {}),
        ({"model": "llama-v2-70b-chat"}, "x", {}),
        ({}, TOO_LONG, {}),
        ({}, TOO_LONG, {"queue": True}),
    ):
        with soak.tally.call(words) as asked:
            soak.model(**settings, **options).invoke(asked.prompt)
    with soak.tally.call():
        soak.plain.invoke([HumanMessage(content=image)])


# --- Awaited: each of these runs on a loop that lives long, and on loops of its own ---------------


@kind(12)
async def ainvoke(soak: Soak) -> None:
    """Call a model that lives long."""
    with soak.tally.call() as asked:
        asked.answer = (await soak.plain.ainvoke(asked.prompt)).content


@kind(2)
async def abatch(soak: Soak) -> None:
    """Call several times at once."""
    numbers, prompts = zip(*(soak.tally.prompt() for _ in range(6)), strict=True)
    answers = await soak.plain.abatch(list(prompts), return_exceptions=True)
    for number, answer in zip(numbers, answers, strict=True):
        soak.tally.settle(number, answer)


@kind(5)
async def aqueued(soak: Soak) -> None:
    """Call through the queue; fetch what was cancelled meanwhile."""
    ids: list[str] = []
    llm = soak.queue.model_copy(update={"on_submit": ids.append})
    with soak.tally.call() as asked:
        try:
            async with asyncio.timeout(soak.random.choice((0.05, 0.2, 5.0))):
                asked.answer = (await llm.ainvoke(asked.prompt)).content
        except TimeoutError:
            if not ids:
                raise
            soak.tally.count("resumed")
            asked.answer = (await soak.queue.aresume(ids[0])).content


@kind(2)
async def astreamed_whole(soak: Soak) -> None:
    """Stream from a server that sends no stream."""
    with soak.tally.call() as asked:
        found = [str(chunk.content) async for chunk in soak.plain.astream(asked.prompt)]
        asked.answer = "".join(found)


@kind(2)
async def astreamed(soak: Soak) -> None:
    """Read a stream of events to its end."""
    with soak.tally.call(elsewhere=True) as asked:
        async for _ in soak.events.astream(asked.prompt):
            pass


@kind(2)
async def aleft_stream(soak: Soak) -> None:
    """Leave a stream of events early: half of them closed, half left to the event loop."""
    with soak.tally.call(elsewhere=True) as asked:
        stream: Any = soak.events.astream(asked.prompt)
        if soak.random.choice((True, False)):
            await anext(stream)
            return
        async with aclosing(stream):
            await anext(stream)


@kind(3)
async def atooled(soak: Soak) -> None:
    """Call with tools, bound anew."""
    with soak.tally.call() as asked:
        message: Any = await soak.plain.bind_tools([Forecast]).ainvoke(asked.prompt)
        if [call["name"] for call in message.tool_calls] != [TOOL]:
            soak.tally.note(f"No tool call: {message.content!r}")


@kind(4)
async def afresh(soak: Soak) -> None:
    """Make a model, use it, close it."""
    with soak.tally.call() as asked:
        async with soak.model() as llm:
            asked.answer = (await llm.ainvoke(asked.prompt)).content


@kind(4)
async def adropped(soak: Soak) -> None:
    """Make a model, use it, forget it."""
    with soak.tally.call() as asked:
        asked.answer = (await soak.model().ainvoke(asked.prompt)).content


@kind(6)
async def cancelled(soak: Soak) -> None:
    """Cancel a call at any moment of it."""
    task = asyncio.create_task(_cancellable(soak, soak.random.choice((SLOW, "x"))))
    await asyncio.sleep(soak.random.choice((0.0, 0.001, 0.003, 0.01, 0.1)))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@kind(2)
async def one_for_all(soak: Soak) -> None:
    """Cancel calls because another one failed."""

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise LookupError

    with suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(_cancellable(soak, SLOW))
            group.create_task(fail())


async def _cancellable(soak: Soak, words: str) -> None:
    with soak.tally.call(words) as asked:
        await soak.plain.ainvoke(asked.prompt)


@kind(2)
async def atoo_late(soak: Soak) -> None:
    """Wait for less time than the answer takes."""
    with soak.tally.call(SLOW) as asked:
        await soak.hasty.ainvoke(asked.prompt)


@kind(2)
async def aclosed(soak: Soak) -> None:
    """Close a model that others are using, and ask for the balance."""
    await soak.plain.aclose()
    await soak.plain.aget_credits()


@kind(2)
async def aown_client(soak: Soak) -> None:
    """Call over a client of the user's."""
    with soak.tally.call() as asked:
        async with httpx.AsyncClient(verify=False) as client:
            llm = soak.model(http_async_client=client)
            asked.answer = (await llm.ainvoke(asked.prompt)).content


@kind(3)
async def arefused(soak: Soak) -> None:
    """Make some mistakes."""
    key = f"SG_{soak.tally.last:016x}"
    for settings in ({"api_key": key}, {"base_url": NOWHERE, "max_retries": 0}):
        with soak.tally.call() as asked:
            await soak.model(**settings).ainvoke(asked.prompt)
    with soak.tally.call(TOO_LONG) as asked:
        await soak.plain.ainvoke(asked.prompt)
