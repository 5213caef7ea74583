"""What LangChain makes of one call: repairs, retries and fallbacks, with a journal."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindError,
    SegmindOutcomeUnknownError,
)
from langchain_segmind.gateway import EngineError, Faults, ScriptedEngine, Settings, serve
from tests.scripted import call
from tests.servers import COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_segmind.gateway import RunningGateway

Method = Literal["json_schema", "function_calling", "json_mode"]
METHODS: list[Method] = ["json_schema", "function_calling", "json_mode"]


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


@pytest.fixture
def llm(tmp_path: Path) -> Callable[..., ChatSegmindLlama]:
    """Give models on one journal, as processes would have that come one after the other."""
    return lambda gateway, **settings: ChatSegmindLlama(
        api_key=gateway.api_key,
        base_url=gateway.url,
        journal=tmp_path / "run.sqlite",
        poll_interval=0.01,
        **settings,
    )


def invoke(chain: Any, colour: str, prompt: str, config: Any = None, **options: Any) -> Any:
    if colour == "sync":
        return chain.invoke(prompt, config, **options)
    return asyncio.run(chain.ainvoke(prompt, config, **options))


def replies(method: str) -> Callable[[dict[str, Any]], str]:
    """Reply twice with what does not fit, then with what does."""

    def reply(body: dict[str, Any]) -> str:
        values: list[dict[str, Any]] = [
            {"name": "Paris"},
            {"inhabitants": 2},
            {"name": "Paris", "inhabitants": 2100000},
        ]
        value = values[len(body["messages"]) // 2]
        return call("City", **value) if method == "function_calling" else json.dumps(value)

    return reply


def keys(gateway: RunningGateway, llm: Any) -> list[str]:
    return [entry.key for entry in llm(gateway).journal.entries()]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("method", METHODS)
def test_each_repair_is_a_call_of_its_own(method: Method, colour: str, llm: Any) -> None:
    with serve(engine=ScriptedEngine(replies(method))) as gateway:
        for _ in range(2):
            chain = llm(gateway).with_structured_output(
                City, method=method, max_repairs=2, idempotency_key="paris"
            )
            city = invoke(chain, colour, "Tell me about Paris, in JSON.")
            assert city == City(name="Paris", inhabitants=2100000)
        assert keys(gateway, llm) == ["paris", "paris/repair-1", "paris/repair-2"]
        assert len(gateway.account.charges) == 3


@pytest.mark.parametrize("colour", COLOURS)
def test_a_key_may_be_given_with_the_call(colour: str, llm: Any) -> None:
    with serve(engine=ScriptedEngine(replies("json_schema"))) as gateway:
        chain = llm(gateway).with_structured_output(City, max_repairs=1)
        with pytest.raises(OutputParserException):
            invoke(chain, colour, "Tell me about Paris.", idempotency_key="paris")
        assert keys(gateway, llm) == ["paris", "paris/repair-1"]


@pytest.mark.parametrize("max_repairs", [0, 1])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_key_reaches_the_model_of_a_chain_that_gives_the_raw_reply(
    colour: str, max_repairs: int, llm: Any
) -> None:
    with serve(engine=ScriptedEngine(lambda _: '{"name": "Paris", "inhabitants": 2}')) as gateway:
        chain = llm(gateway).with_structured_output(City, include_raw=True, max_repairs=max_repairs)
        replies = [invoke(chain, colour, "Paris?", idempotency_key="paris") for _ in range(2)]
        assert "replayed" in replies[1]["raw"].response_metadata
        assert replies[0]["parsed"] == replies[1]["parsed"] == City(name="Paris", inhabitants=2)
        assert gateway.account.post_count == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_repairs_in_a_scope_are_told_apart_by_what_they_send(colour: str, llm: Any) -> None:
    with serve(engine=ScriptedEngine(replies("json_schema"))) as gateway:
        chain = llm(gateway).with_structured_output(City, max_repairs=2, include_raw=True)
        for _ in range(2):
            config = {"metadata": {"idempotency_key": "paris"}}
            assert invoke(chain, colour, "Tell me about Paris.", config)["parsed"].name == "Paris"
        assert len(gateway.account.charges) == 3


OF_ALL: Any = {"retry_if_exception_type": (SegmindError,), "wait_exponential_jitter": False}
"""Not only what is_retryable allows: with a journal, to call again is safe whatever went wrong."""


@pytest.mark.parametrize("colour", COLOURS)
def test_with_retry_sends_nothing_again_that_may_be_billed(colour: str, llm: Any) -> None:
    with serve(Settings(post_faults=Faults(drop_after_rate=1.0))) as gateway:
        patient = llm(gateway).with_retry(**OF_ALL, stop_after_attempt=3)
        with pytest.raises(SegmindOutcomeUnknownError):
            invoke(patient, colour, "hi", idempotency_key="row-17")
        assert gateway.account.post_count == 1


def test_with_retry_fetches_what_was_submitted(llm: Any) -> None:
    """The first attempt gives up waiting; the second one is given its answer."""

    async def slowly(_body: Any) -> str:
        await asyncio.sleep(1.0)
        return "Hello!"

    with serve(engine=ScriptedEngine(slowly)) as gateway:
        patient = llm(gateway, queue_timeout=0.7).with_retry(**OF_ALL, stop_after_attempt=5)
        assert patient.invoke("hi", idempotency_key="row-17").text == "Hello!"
        assert gateway.account.post_count == len(gateway.account.charges) == 1


def test_with_retry_sends_again_what_cost_nothing(llm: Any) -> None:
    failures = iter([EngineError(500, "out of memory")])

    def reply(_body: Any) -> str:
        for failure in failures:
            raise failure
        return "Hello!"

    with serve(engine=ScriptedEngine(reply)) as gateway:
        patient = llm(gateway).with_retry(**OF_ALL, stop_after_attempt=2)
        assert patient.invoke("hi", idempotency_key="row-17").text == "Hello!"
        assert (gateway.account.post_count, len(gateway.account.charges)) == (2, 1)
