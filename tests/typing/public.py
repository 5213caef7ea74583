"""The public types, as a user's type checker sees them: checked, never run.

`make lint` checks it with mypy, and the packaging tests check it with mypy and pyright against
the installed wheel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, assert_type

import httpx
import httpx2
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from pydantic import BaseModel, SecretStr

from langchain_segmind import (
    ChatSegmindLlama,
    CreditBalance,
    Credits,
    CreditsCallbackHandler,
    SegmindError,
    SegmindRateLimiter,
    get_credits_callback,
)
from langchain_segmind.journals import Claim, Journal, JournalEntry, PostgresJournal, SqliteJournal

if TYPE_CHECKING:
    from pathlib import Path


class Joke(BaseModel):
    """A schema as a pydantic class."""

    setup: str


class Weather(TypedDict):
    """A schema as a TypedDict."""

    degrees: float


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return city


def construction(client: httpx.Client) -> None:
    """Every name, alias and form that the constructor converts is one that checkers accept."""
    ChatSegmindLlama()
    ChatSegmindLlama(model="llama-v3-8b-instruct", api_key="SG_0", base_url=None)
    ChatSegmindLlama(model_name="llama-v3-8b-instruct", segmind_api_key=SecretStr("SG_0"))
    ChatSegmindLlama(temperature=0, max_tokens=9, top_p=0.5, seed=1, stop="\n", timeout=3)
    ChatSegmindLlama(stop=["a", "b"], timeout=httpx.Timeout(3, connect=1), http_client=client)
    ChatSegmindLlama(timeout=httpx2.Timeout(3, connect=1), http_client=httpx2.Client())
    ChatSegmindLlama(http_async_client=httpx2.AsyncClient(), timeout=httpx.Timeout(3))
    ChatSegmindLlama(http_async_client=httpx.AsyncClient())
    ChatSegmindLlama(http_client=httpx2.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ChatSegmindLlama(timeout=(1, None, None, 2), queue=True, on_submit=print, min_credits=1)
    ChatSegmindLlama(rate_limiter=SegmindRateLimiter(requests_per_minute=5), tags=["a"])
    ChatSegmindLlama(temprature=0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ChatSegmindLlama(stop=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def calls(llm: ChatSegmindLlama) -> None:
    """A call gives a message, its stream gives chunks, and a chain what its parser gives."""
    assert_type(llm.invoke("hi"), AIMessage)
    assert_type(llm.invoke([("system", "Be brief."), ("human", "hi")], temperature=0), AIMessage)
    assert_type(llm.batch(["hi"]), list[AIMessage])
    assert_type(llm.stream("hi"), Iterator[AIMessageChunk])
    assert_type(llm.astream("hi"), AsyncIterator[AIMessageChunk])
    assert_type(llm.resume("id"), AIMessage)
    chain = ChatPromptTemplate.from_template("{x}") | llm | StrOutputParser()
    assert_type(chain.invoke({"x": "hi"}), str)


async def async_calls() -> None:
    """So does the async side."""
    async with ChatSegmindLlama() as llm:
        assert_type(llm, ChatSegmindLlama)
        assert_type(await llm.ainvoke("hi"), AIMessage)
        assert_type(await llm.aget_credits(), CreditBalance)
        assert_type(await llm.aresume("id"), AIMessage)


def tools(llm: ChatSegmindLlama) -> None:
    """A bound model answers with messages."""
    bound = llm.bind_tools([get_weather, Joke], tool_choice="any", strict=True)
    assert_type(bound, Runnable[LanguageModelInput, AIMessage])
    assert_type(bound.invoke("hi").tool_calls[0]["name"], str)


def structured_output(llm: ChatSegmindLlama) -> None:
    """A pydantic class comes back as itself; anything else as langchain-core has it."""
    assert_type(llm.with_structured_output(Joke).invoke("hi"), Joke)
    repaired = llm.with_structured_output(Joke, method="json_mode", max_repairs=1)
    assert_type(repaired, Runnable[LanguageModelInput, Joke])
    raw = llm.with_structured_output(Joke, include_raw=True)
    assert_type(raw.invoke("hi"), dict[str, Any])
    from_typed_dict = llm.with_structured_output(Weather)
    assert_type(from_typed_dict.invoke("hi"), dict[str, Any] | BaseModel)
    from_schema = llm.with_structured_output({"title": "Joke", "type": "object"})
    assert_type(from_schema.invoke("hi"), dict[str, Any] | BaseModel)


def credit_counting(llm: ChatSegmindLlama, credits_of_a_call: Credits) -> None:
    """Sums are numbers; what Segmind may leave out can be None."""
    assert_type(llm.get_credits(), CreditBalance)
    assert_type(llm.get_credits().total, float)
    with get_credits_callback() as spent:
        assert_type(spent, CreditsCallbackHandler)
        assert_type(spent.cost, float)
        assert_type(spent.calls, int)
        assert_type(spent.unknown, int)
    assert_type(credits_of_a_call.remaining, float | None)


def journals(path: Path) -> None:
    """An entry is claimed, moved on and read."""
    journal: Journal = SqliteJournal(path, encrypt=bytes.upper, decrypt=bytes.lower)
    journal = PostgresJournal("postgresql://user@host/database")
    claim = journal.claim("row-17", "f", lease_seconds=60)
    assert_type(claim, Claim)
    entry = journal.update(claim.entry, state="answered", answer=b"{}", accounting={"cost": 1})
    assert_type(entry, JournalEntry | None)
    assert_type(journal.entries("unknown"), Iterator[JournalEntry])
    assert_type(journal.aentries(), AsyncIterator[JournalEntry])
    assert_type(journal.purge(older_than=timedelta(days=7)), int)
    journal.update(claim.entry, state="done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def errors(error: SegmindError) -> None:
    """Errors carry data."""
    assert_type(error.status_code, int | None)
    assert_type(error.request_id, str | None)
    assert_type(error.retry_after, float | None)
    assert_type(error.credits, Credits | None)
    assert_type(error.outcome_unknown, bool)
