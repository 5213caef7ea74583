"""Queued calls over the local gateway: the same answers as on v1, in both colours."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindInvalidInputError,
    SegmindJobFailedError,
    SegmindJobNotFoundError,
    SegmindRateLimiter,
)
from langchain_segmind.gateway import ScriptedEngine, Settings, serve
from langchain_segmind.gateway.jobs import Job
from tests.servers import COLOURS, ask, streamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable

    from langchain_segmind.gateway import RunningGateway

CALL = '{"type": "function", "name": "add", "parameters": {"a": 1, "b": 2}}'


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Joke(BaseModel):
    """A joke."""

    setup: str


@pytest.fixture
def ids() -> list[str]:
    """Collect the ids of what was submitted."""
    return []


@pytest.fixture
def queued(gateway: RunningGateway, ids: list[str]) -> Iterator[ChatSegmindLlama]:
    """Give a model that queues."""
    llm = ChatSegmindLlama(
        api_key=gateway.api_key,
        base_url=gateway.url,
        queue=True,
        poll_interval=0.01,
        on_submit=ids.append,
    )
    with llm:
        yield llm


def call(runnable: Runnable[Any, Any], colour: str, given: Any, **options: Any) -> Any:
    if colour == "sync":
        return runnable.invoke(given, **options)
    return asyncio.run(runnable.ainvoke(given, **options))


def resume(llm: ChatSegmindLlama, colour: str, request_id: str, **told: Any) -> AIMessage:
    if colour == "sync":
        return llm.resume(request_id, **told)
    return asyncio.run(llm.aresume(request_id, **told))


def comparable(message: AIMessage) -> dict[str, Any]:
    """Give what two answers to one prompt have in common."""
    data = message.model_dump(exclude={"id"})
    for each in data["tool_calls"]:
        each.pop("id")
    return data


@pytest.mark.parametrize("colour", COLOURS)
class TestCalls:
    def test_gives_the_answer_and_its_accounting(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, ids: list[str], colour: str
    ) -> None:
        message = call(queued, colour, "hi")
        [charge] = gateway.account.charges
        metadata = message.response_metadata
        assert message.content == "You said: hi"
        assert metadata["credits"] == {"remaining": charge.remaining, "cost": charge.cost}
        assert [metadata["request_id"]] == ids == [charge.request_id]
        assert charge.path == "v2"
        assert metadata["queue_time"] >= 0
        assert metadata["inference_time"] >= 0
        assert message.usage_metadata["total_tokens"] == 4

    def test_sends_the_body_v1_gets(
        self,
        queued: ChatSegmindLlama,
        llm: ChatSegmindLlama,
        gateway: RunningGateway,
        colour: str,
    ) -> None:
        call(queued.bind_tools([add]), colour, "hi", temperature=0.5)
        call(llm.bind_tools([add]), colour, "hi", temperature=0.5)
        by_queue, by_v1 = gateway.account.posts
        assert by_queue.json() == by_v1.json()
        assert (by_queue.path, by_v1.path.replace("v1", "v2", 1)) == (by_queue.path,) * 2

    def test_streams_one_chunk(self, queued: ChatSegmindLlama, colour: str) -> None:
        chunks = streamed(queued.model_copy(update={"streaming": True}), colour)
        assert "".join(chunk.content for chunk in chunks) == "You said: hi"

    def test_calls_tools(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, colour: str
    ) -> None:
        gateway.engine = ScriptedEngine(lambda _: CALL)
        [made] = call(queued.bind_tools([add]), colour, "1 + 2?").tool_calls
        assert (made["name"], made["args"]) == ("add", {"a": 1, "b": 2})

    def test_answers_in_a_form(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, colour: str
    ) -> None:
        gateway.engine = ScriptedEngine(lambda _: '{"setup": "Why?"}')
        assert call(queued.with_structured_output(Joke), colour, "joke") == Joke(setup="Why?")

    def test_a_bad_body_fails_as_a_job(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, ids: list[str], colour: str
    ) -> None:
        """Segmind validates when the job runs; that is not billed."""
        bad = queued.model_copy(update={"model_kwargs": {"n": "many"}})
        with pytest.raises(SegmindJobFailedError, match="n") as caught:
            call(bad, colour, "hi")
        assert [caught.value.request_id] == ids
        assert gateway.account.charge_count == 0

    def test_settings_do_not_travel_in_bodies(self, queued: ChatSegmindLlama, colour: str) -> None:
        with pytest.raises(SegmindInvalidInputError, match="queue"):
            call(queued, colour, "hi", queue=False)


@pytest.mark.parametrize("colour", COLOURS)
class TestResuming:
    def test_gives_the_message_the_call_gave(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, ids: list[str], colour: str
    ) -> None:
        message = call(queued, colour, "hi")
        again = resume(queued, colour, ids[0])
        assert comparable(again) == comparable(message)
        assert gateway.account.post_count == 1

    def test_reads_tool_calls_where_it_is_told_the_tools(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, ids: list[str], colour: str
    ) -> None:
        """By `tools=`, or from the bound model itself."""
        gateway.engine = ScriptedEngine(lambda _: CALL)
        bound = queued.bind_tools([add])
        message = call(bound, colour, "1 + 2?")
        told = resume(queued, colour, ids[0], tools=[add])
        from_bound = call(bound, colour, [], resume=ids[0])
        assert comparable(told) == comparable(from_bound) == comparable(message)
        assert gateway.account.post_count == 1

    def test_reads_structured_output_from_its_chain(
        self,
        queued: ChatSegmindLlama,
        gateway: RunningGateway,
        ids: list[str],
        colour: str,
    ) -> None:
        gateway.engine = ScriptedEngine(lambda _: '{"setup": "Why?"}')
        chain = queued.with_structured_output(Joke)
        call(chain, colour, "joke")
        assert call(chain, colour, [], resume=ids[0]) == Joke(setup="Why?")
        with_raw = queued.with_structured_output(Joke, include_raw=True)
        assert call(with_raw, colour, [], resume=ids[0])["parsed"] == Joke(setup="Why?")
        assert gateway.account.post_count == 1

    def test_cuts_at_the_stop_it_is_told(
        self, queued: ChatSegmindLlama, ids: list[str], colour: str
    ) -> None:
        call(queued, colour, "one two")
        assert resume(queued, colour, ids[0], stop=["two"]).content == "You said: one "

    def test_waits_for_a_job_that_runs_and_needs_no_queueing_model(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, ids: list[str], colour: str
    ) -> None:
        release = asyncio.Event()

        async def answer(_: object) -> str:
            await asyncio.wait_for(release.wait(), 5)
            return "At last."

        gateway.engine = ScriptedEngine(answer)
        impatient = queued.model_copy(update={"queue_timeout": 0.5})
        with pytest.raises(Exception, match="not finished"):
            call(impatient, colour, "hi")
        release._loop.call_soon_threadsafe(release.set)  # type: ignore[attr-defined]
        plain = queued.model_copy(update={"queue": False})
        assert resume(plain, colour, ids[0]).content == "At last."

    def test_an_unknown_or_expired_id_says_so(self, colour: str) -> None:
        clock = [1_700_000_000.0]
        with serve(clock=lambda: clock[0]) as gateway:
            ids: list[str] = []
            llm = ChatSegmindLlama(
                api_key=gateway.api_key, base_url=gateway.url, queue=True, on_submit=ids.append
            )
            call(llm, colour, "hi")
            clock[0] += 3700
            for gone in (ids[0], "never-was"):
                with pytest.raises(SegmindJobNotFoundError, match="about an hour"):
                    resume(llm, colour, gone)
            llm.close()

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_an_error_that_had_no_id_is_answered_in_words(
        self, queued: ChatSegmindLlama, gateway: RunningGateway, nothing: Any, colour: str
    ) -> None:
        """And is no new call, which a prompt beside it would be."""
        with pytest.raises(SegmindInvalidInputError, match="no request id to resume"):
            resume(queued, colour, nothing)
        with pytest.raises(SegmindInvalidInputError, match="the submit itself was not answered"):
            call(queued, colour, "hi", resume=nothing)
        assert gateway.account.post_count == 0

    def test_runs_the_callbacks(
        self, queued: ChatSegmindLlama, ids: list[str], colour: str
    ) -> None:
        class Seen(BaseCallbackHandler):
            ends = 0

            def on_llm_end(self, *_: Any, **__: Any) -> None:
                self.ends += 1

        seen = Seen()
        call(queued, colour, "hi")
        resume(queued, colour, ids[0], config={"callbacks": [seen]})
        assert seen.ends == 1


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("form", ["object", "plain text"])
def test_outputs_of_every_form(form: str, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway gives a string that holds JSON; these are the others."""
    whole = Job.result_body

    def other(self: Job) -> dict[str, Any]:
        body = whole(self)
        output = json.loads(body["output"])
        text = output["choices"][0]["message"]["content"]
        return {**body, "output": output if form == "object" else text}

    monkeypatch.setattr(Job, "result_body", other)
    with serve() as gateway:
        llm = ChatSegmindLlama(
            api_key=gateway.api_key, base_url=gateway.url, queue=True, poll_interval=0.01
        )
        assert ask(llm, colour).content == "You said: hi"


async def test_a_429_on_polls_ends_in_answers() -> None:
    """Polls that count as requests run into the limit; every job is answered, and paid once."""
    settings = Settings(rpm=30, rate_window=0.2, rate_polls=True)
    with serve(settings) as gateway:
        llm = ChatSegmindLlama(
            api_key=gateway.api_key,
            base_url=gateway.url,
            queue=True,
            poll_interval=0.05,
            max_retries=20,
            rate_limiter=SegmindRateLimiter(requests_per_minute=1000, count_polls=True),
        )
        answers = await llm.abatch([f"p{number}" for number in range(25)])
    assert [answer.content for answer in answers] == [f"You said: p{n}" for n in range(25)]
    assert gateway.account.charge_count == 25
