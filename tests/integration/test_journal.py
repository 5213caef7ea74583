"""Calls with a journal, over the local gateway: each identity is paid for once."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindError,
    SegmindIdempotencyError,
    SegmindInvalidInputError,
    SegmindJobFailedError,
    SegmindJournalError,
    SegmindOutcomeUnknownError,
    SegmindRateLimiter,
    SegmindResponseError,
    get_credits_callback,
)
from langchain_segmind._protocol import journaled
from langchain_segmind.gateway import EngineError, Faults, ScriptedEngine, Settings, serve
from langchain_segmind.journals import SqliteJournal
from tests.servers import COLOURS, completion, faults, http, wait_for

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_segmind.gateway import RunningGateway

KEY = "SG_c0ffee5ec2e7ca4a"
Queue = Literal[False] | None
WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give the path of a journal that is not there yet."""
    return str(tmp_path / "run.sqlite")


def slow(seconds: float) -> ScriptedEngine:
    """Let each answer take its time."""

    async def answer(_body: dict[str, Any]) -> str:
        await asyncio.sleep(seconds)
        return "You said: hi"

    return ScriptedEngine(answer)


def model(gateway: RunningGateway, path: str, **settings: Any) -> ChatSegmindLlama:
    """Give a model of its own, as another process would have."""
    given = {"api_key": gateway.api_key, "base_url": gateway.url, "poll_interval": 0.01}
    return ChatSegmindLlama(**{**given, "journal": path, **settings})


def call(llm: Any, way: str, prompt: Any = "hi", key: str | None = "row-17") -> AIMessage:
    """Call in one of LangChain's ways."""
    options = {} if key is None else {"idempotency_key": key}

    async def collect() -> AIMessage:
        whole = None
        async for chunk in llm.astream(prompt, **options):
            whole = chunk if whole is None else whole + chunk
        return whole  # type: ignore[return-value]

    match way:
        case "invoke":
            return llm.invoke(prompt, **options)  # type: ignore[no-any-return]
        case "ainvoke":
            return asyncio.run(llm.ainvoke(prompt, **options))  # type: ignore[no-any-return]
        case "stream":
            first, *rest = llm.stream(prompt, **options)
            return sum(rest, first)  # type: ignore[no-any-return]
        case "astream":
            return asyncio.run(collect())
        case "batch":
            return llm.batch([prompt], **options)[0]  # type: ignore[no-any-return]
        case _:
            return asyncio.run(llm.abatch([prompt], **options))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("queue", [None, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_paid_for_once(way: str, queue: Queue, gateway: RunningGateway, path: str) -> None:
    """The second model is given the first one's answer, for nothing."""
    first = call(model(gateway, path, queue=queue), way)
    again = call(model(gateway, path, queue=queue), way)
    assert again.content == first.content == "You said: hi"
    assert again.response_metadata["replayed"] is True
    assert again.response_metadata["credits"] == {"remaining": None, "cost": 0.0}
    assert again.usage_metadata == first.usage_metadata
    assert len(gateway.account.charges) == gateway.account.post_count == 1


def test_calls_go_through_the_queue_unless_told_otherwise(
    gateway: RunningGateway, path: str
) -> None:
    call(model(gateway, path), "invoke", key="a")
    call(model(gateway, path, queue=False), "invoke", key="b")
    call(model(gateway, path), "invoke", key=None)
    assert [charge.path for charge in gateway.account.charges] == ["v2", "v1", "v2"]


def test_calls_without_an_identity_are_not_kept(gateway: RunningGateway, path: str) -> None:
    llm = model(gateway, path)
    call(llm, "invoke", key=None)
    call(llm, "ainvoke", key=None)
    assert len(gateway.account.charges) == 2
    assert list(SqliteJournal(path).entries()) == []


@pytest.mark.parametrize(
    "change",
    [{"prompt": "ho"}, {"model": "llama-v3p1-8b-instruct"}, {"temperature": 0.5}, {"stop": ["x"]}],
    ids=lambda change: next(iter(change)),
)
def test_a_key_stands_for_one_call(
    change: dict[str, Any], gateway: RunningGateway, path: str
) -> None:
    llm = model(gateway, path)
    call(llm, "invoke")
    prompt = change.pop("prompt", "hi")
    with pytest.raises(SegmindIdempotencyError, match="row-17"):
        llm.invoke(prompt, idempotency_key="row-17", **change)
    assert gateway.account.post_count == 1


def test_a_key_stands_for_one_host(gateway: RunningGateway, path: str) -> None:
    call(model(gateway, path), "invoke")
    other = gateway.url.replace("127.0.0.1", "localhost")
    with pytest.raises(SegmindIdempotencyError):
        call(model(gateway, path, base_url=other), "invoke")
    assert gateway.account.post_count == 1


def test_a_key_stands_for_one_account(gateway: RunningGateway, path: str) -> None:
    call(model(gateway, path), "invoke")
    with pytest.raises(SegmindIdempotencyError):
        call(model(gateway, path, api_key="SG_ffffffffffffffff"), "invoke")


def test_a_key_needs_a_journal(gateway: RunningGateway) -> None:
    llm = ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url)
    with pytest.raises(SegmindInvalidInputError, match="journal"):
        llm.invoke("hi", idempotency_key="row-17")
    assert gateway.account.post_count == 0


@pytest.mark.parametrize("key", ["", "x" * 256, True, 1.5])
def test_what_is_no_key_is_refused(key: Any, gateway: RunningGateway, path: str) -> None:
    with pytest.raises(SegmindInvalidInputError, match="idempotency_key"):
        model(gateway, path).invoke("hi", idempotency_key=key)


CALL = '{"type": "function", "name": "Joke", "parameters": {"setup": "A cat walks in."}}'


class Joke(BaseModel):
    """A joke."""

    setup: str


def test_a_scope_of_the_config_reaches_every_call_inside_a_chain(
    gateway: RunningGateway, path: str
) -> None:
    """Two rows with one text are two calls, and one row with two prompts also."""
    rows = [{"id": "a", "text": "x"}, {"id": "b", "text": "x"}]
    configs: Any = [{"metadata": {"idempotency_key": row["id"]}} for row in rows]
    for _ in range(2):
        llm = model(gateway, path)
        first = ChatPromptTemplate.from_template("about {text}") | llm
        chain = first | (lambda message: f"again: {message.content}") | llm
        answers = chain.batch(rows, configs)
    assert [answer.content for answer in answers] == ["You said: again: You said: about x"] * 2
    assert len(gateway.account.charges) == 4


@pytest.mark.parametrize("where", ["config", "model"])
@pytest.mark.parametrize("way", WAYS)
def test_a_scope_holds_whichever_way_a_call_is_made(
    way: str, where: str, gateway: RunningGateway, path: str
) -> None:
    """langchain-core tells `_stream` nothing of a call's metadata."""
    metadata = {"idempotency_key": "row-17"}
    for _ in range(2):
        if where == "config":
            answer = call(model(gateway, path).with_config(metadata=metadata), way, key=None)
        else:
            answer = call(model(gateway, path, metadata=metadata), way, key=None)
    assert answer.response_metadata["replayed"]
    assert gateway.account.post_count == 1


@pytest.mark.parametrize("queue", [None, False])
@pytest.mark.parametrize("way", WAYS)
def test_tool_calls_are_replayed_too(
    way: str, queue: Queue, gateway: RunningGateway, path: str
) -> None:
    gateway.engine = ScriptedEngine(lambda _: CALL)
    tools = model(gateway, path, queue=queue).bind_tools([Joke], tool_choice="Joke")
    calls = [call(tools, way).tool_calls[0]["args"] for _ in range(2)]
    assert calls == [{"setup": "A cat walks in."}] * 2
    assert gateway.account.post_count == 1


@pytest.mark.parametrize("queue", [None, False])
@pytest.mark.parametrize("colour", COLOURS)
def test_structured_output_is_replayed_too(
    colour: str, queue: Queue, gateway: RunningGateway, path: str
) -> None:
    gateway.engine = ScriptedEngine(lambda _: '{"setup": "A cat walks in."}')
    llm = model(gateway, path, queue=queue)
    chain = llm.with_structured_output(Joke, idempotency_key="joke")
    for _ in range(2):
        found = chain.invoke("hi") if colour == "sync" else asyncio.run(chain.ainvoke("hi"))
        assert found == Joke(setup="A cat walks in.")
    assert gateway.account.post_count == 1


def test_a_replay_takes_no_slot_and_asks_no_balance(gateway: RunningGateway, path: str) -> None:
    """A plan of one request a minute, and a balance that is too low, do not matter to it."""
    first = call(model(gateway, path), "invoke")
    llm = model(
        gateway, path, rate_limiter=SegmindRateLimiter(requests_per_minute=1), min_credits=1e6
    )
    llm.get_credits()
    for _ in range(3):
        assert call(llm, "invoke").content == first.content


def test_a_replay_is_counted_as_nothing_spent(gateway: RunningGateway, path: str) -> None:
    llm = model(gateway, path)
    call(llm, "invoke")
    with get_credits_callback() as spent:
        call(llm, "invoke")
    assert (spent.cost, spent.calls, spent.cached) == (0.0, 0, 1)


@pytest.mark.parametrize("colour", COLOURS)
def test_equal_calls_at_once_are_one(colour: str, gateway: RunningGateway, path: str) -> None:
    if colour == "sync":
        with ThreadPoolExecutor(16) as pool:
            llms = [model(gateway, path) for _ in range(16)]
            answers = list(pool.map(lambda llm: call(llm, "invoke"), llms))
    else:

        async def together() -> list[AIMessage]:
            llm = model(gateway, path)
            return await asyncio.gather(
                *(llm.ainvoke("hi", idempotency_key="row-17") for _ in range(16))
            )

        answers = asyncio.run(together())
    assert {answer.content for answer in answers} == {"You said: hi"}
    assert gateway.account.post_count == 1


def submitted(path: str) -> list[tuple[str, str | None]]:
    return [(entry.state, entry.request_id) for entry in SqliteJournal(path).entries()]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_job_that_was_not_waited_for_is_fetched(colour: str, path: str) -> None:
    with serve(engine=slow(1.5)) as gateway:
        with pytest.raises(SegmindError, match="queue_timeout"):
            call(model(gateway, path, queue_timeout=0.7), "invoke")
        [(state, request_id)] = submitted(path)
        assert state == "submitted"
        way = "invoke" if colour == "sync" else "ainvoke"
        again = call(model(gateway, path), way)
        assert again.response_metadata["request_id"] == request_id
        assert again.response_metadata["credits"]["cost"] == gateway.account.charges[0].cost
        assert gateway.account.post_count == 1


@pytest.mark.parametrize("queue", [None, False])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_lost_answer_is_named_and_sent_again_on_demand_only(
    colour: str, queue: Queue, path: str
) -> None:
    way = "invoke" if colour == "sync" else "ainvoke"
    with serve(Settings(post_faults=Faults(drop_after_rate=1.0))) as gateway:
        for _ in range(2):
            with pytest.raises(SegmindError) as caught:
                call(model(gateway, path, queue=queue), way)
            assert caught.value.outcome_unknown
        assert type(caught.value) is SegmindOutcomeUnknownError
        assert gateway.account.post_count == 1


def test_a_paid_answer_of_no_use_says_so_each_time(path: str) -> None:
    """It is no error that cost nothing, neither when it comes nor when the journal gives it."""
    with faults(http({"choices": []})) as server:
        llm = ChatSegmindLlama(api_key=KEY, base_url=server.url, journal=path, queue=False)
        for _ in range(2):
            with pytest.raises(SegmindResponseError) as caught:
                call(llm, "invoke")
            assert caught.value.outcome_unknown
        assert not caught.value.is_retryable
        assert len(server.requests) == 1


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("fetched", [False, True])
def test_a_paid_job_whose_output_is_of_no_use_is_kept_for_a_parser_that_reads_it(
    fetched: bool, colour: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was fetched by a later call; it is asked for once, and paid for once."""

    def answer(received: Any, _wire: Any) -> bytes:
        if received.line.startswith("POST"):
            return http({"request_id": "r-1", "status": "QUEUED"})
        if not is_done:
            return http({"status": "PROCESSING"})
        metrics = {"cost": 0.25}
        return http({"status": "COMPLETED", "output": {"text": "Hello!"}, "metrics": metrics})

    way, is_done = "invoke" if colour == "sync" else "ainvoke", not fetched
    with faults(answer) as server:
        llm = ChatSegmindLlama(api_key=KEY, base_url=server.url, journal=path, poll_interval=0.01)
        if fetched:
            with pytest.raises(SegmindError, match="queue_timeout"):
                call(llm.model_copy(update={"queue_timeout": 0.7}), way)
            is_done = True
        for _ in range(2):
            with pytest.raises(SegmindResponseError, match="output is no answer") as caught:
                call(llm, way)
            assert (caught.value.request_id, caught.value.outcome_unknown) == ("r-1", True)
        [entry] = SqliteJournal(path).entries(answers=True)
        assert (entry.state, entry.answer, entry.cost) == ("answered", b'{"text": "Hello!"}', 0.25)
        assert entry.error is not None
        monkeypatch.setattr(
            journaled, "read_output", lambda output: (completion(output["text"]), b"")
        )
        assert call(llm, way).content == "Hello!"
        assert [request.line.split()[0] for request in server.requests].count("POST") == 1


def test_what_was_lost_is_sent_again_when_told_to(path: str) -> None:
    lost = http(b"", 504)
    with faults(lost, http(completion("Hello!"))) as server:
        llm = ChatSegmindLlama(api_key=KEY, base_url=server.url, journal=path, queue=False)
        with pytest.raises(SegmindError):
            call(llm, "invoke")
        again = llm.model_copy(update={"retry_unknown_outcome": True})
        assert call(again, "invoke").content == "Hello!"
        assert call(llm, "invoke").response_metadata["replayed"]
        assert len(server.requests) == 2


def test_an_expired_job_is_named_with_its_id(path: str) -> None:
    """Segmind forgets a job after an hour; whether it was paid for cannot be found out then."""
    with serve(Settings(job_ttl=1.5), engine=slow(1.0)) as gateway:
        with pytest.raises(SegmindError):
            call(model(gateway, path, queue_timeout=0.7), "invoke")
        [(_, request_id)] = submitted(path)
        threading.Event().wait(1.5)
        for _ in range(2):
            with pytest.raises(SegmindOutcomeUnknownError, match=str(request_id)) as caught:
                call(model(gateway, path), "invoke")
        assert caught.value.request_id == request_id
        assert gateway.account.post_count == 1


@pytest.mark.parametrize("queue", [None, False])
def test_an_error_that_cost_nothing_does_not_stay(queue: Queue, path: str) -> None:
    with faults(http({"error": "Server had some issue"}, 503)) as server:
        llm = ChatSegmindLlama(api_key=KEY, base_url=server.url, journal=path, queue=queue)
        with pytest.raises(SegmindError):
            call(llm.model_copy(update={"max_retries": 1}), "invoke")
        assert len(server.requests) == 2
    assert submitted(path) == []


@pytest.mark.parametrize("queue", [None, False])
def test_an_attempt_that_cost_nothing_does_not_end_a_doubt(queue: Queue, path: str) -> None:
    """Neither in the call whose first attempt was lost, nor in a later one that is refused."""
    refused = http({"error": "Server had some issue"}, 503)
    with faults(lambda _, wire: wire.close(), refused) as server:
        llm = ChatSegmindLlama(api_key=KEY, base_url=server.url, journal=path, queue=queue)
        insisting = llm.model_copy(update={"retry_unknown_outcome": True, "max_retries": 1})
        for _ in range(2):
            with pytest.raises(SegmindError):
                call(insisting, "invoke")
        with pytest.raises(SegmindOutcomeUnknownError):
            call(llm, "invoke")


def test_a_failed_job_does_not_stay(path: str) -> None:
    with serve(Settings(failing_jobs_rate=1.0)) as gateway:
        llm = model(gateway, path)
        for _ in range(2):
            with pytest.raises(SegmindJobFailedError):
                call(llm, "invoke")
        assert gateway.account.post_count == 2
    assert submitted(path) == []


def test_a_job_that_failed_unheard_is_sent_like_a_new_one(path: str) -> None:
    async def failing_once(_body: Any) -> Any:
        failures.append(1)
        if len(failures) == 1:
            await asyncio.sleep(1.5)
            raise EngineError(500, "out of memory")
        return "Hello!"

    failures: list[int] = []
    with serve(engine=ScriptedEngine(failing_once)) as gateway:
        llm = model(gateway, path)
        journal = SqliteJournal(path)
        with pytest.raises(SegmindError):
            call(model(gateway, path, queue_timeout=0.7), "invoke")
        assert [entry.state for entry in journal.entries()] == ["submitted"]
        assert call(llm, "invoke").content == "Hello!"
        assert len(gateway.account.charges) == 1


def test_a_journal_that_cannot_be_written_before_the_call_stops_it(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    llm = model(gateway, str(tmp_path / "nowhere" / "run.sqlite"))
    with pytest.raises(SegmindJournalError):
        call(llm, "invoke")
    assert gateway.account.post_count == 0


@pytest.mark.parametrize("queue", [None, False])
def test_a_journal_that_breaks_after_the_call_does_not_lose_the_answer(
    queue: Queue, path: str, caplog: pytest.LogCaptureFixture, gateway: RunningGateway
) -> None:
    class Broken(SqliteJournal):
        def update(self, *_args: Any, **_options: Any) -> Any:
            raise SegmindJournalError("The disk is full.")

    answer = call(model(gateway, path, journal=Broken(path), queue=queue), "invoke")
    assert answer.content == "You said: hi"
    assert answer.response_metadata["request_id"] in caplog.text
    assert "row-17" in caplog.text


def test_what_langchain_loses_is_not_lost_with_a_journal(
    gateway: RunningGateway, path: str
) -> None:
    """A callback that raises, a cache that raises, a batch of which one call fails."""

    class Raises(BaseCallbackHandler):
        raise_error = True

        def on_llm_end(self, *_args: Any, **_kwargs: Any) -> None:
            raise RuntimeError("the callback broke")

    class Full(InMemoryCache):
        def update(self, *_args: Any) -> None:
            raise RuntimeError("the cache broke")

    llm = model(gateway, path)
    with pytest.raises(RuntimeError, match="callback"):
        llm.invoke("hi", {"callbacks": [Raises()]}, idempotency_key="a")
    with pytest.raises(RuntimeError, match="cache"):
        model(gateway, path, cache=Full()).invoke("hi", idempotency_key="b")
    keys: Any = [{"metadata": {"idempotency_key": key}} for key in ("c", "d")]
    with pytest.raises(SegmindError):
        llm.batch(["hi", [{"role": "user", "content": [{"type": "video"}]}]], keys)
    paid = len(gateway.account.charges)
    for key in "ab":
        assert call(llm, "invoke", key=key).response_metadata["replayed"]
    assert llm.invoke("hi", keys[0]).response_metadata["replayed"]
    assert len(gateway.account.charges) == paid == 3


def test_a_cancelled_call_leaves_no_one_waiting(path: str) -> None:
    """Its submit may have been taken: the next call is told so, at once."""

    async def give_up(gateway: RunningGateway) -> None:
        llm = model(gateway, path, queue=False)
        task = asyncio.create_task(llm.ainvoke("hi", idempotency_key="row-17"))
        await asyncio.to_thread(wait_for, lambda: bool(gateway.account.post_count))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(SegmindOutcomeUnknownError):
            await llm.ainvoke("hi", idempotency_key="row-17")

    with serve(engine=slow(2.0)) as gateway:
        asyncio.run(give_up(gateway))


def test_at_most_four_submits_are_under_way(path: str) -> None:
    """Whatever the concurrency, and over both colours: a kill loses sight of no more."""
    under_way, most, lock = 0, 0, threading.Lock()

    def submit(received: Any, _wire: Any) -> bytes:
        nonlocal under_way, most
        if received.line.startswith("POST"):
            with lock:
                under_way += 1
                most = max(most, under_way)
            threading.Event().wait(0.03)
            with lock:
                under_way -= 1
            number = received.json["messages"][0]["content"]
            return http({"request_id": f"r{number}", "status": "QUEUED"})
        output = json.dumps(completion("Hello!"))
        return http({"status": "COMPLETED", "output": output, "metrics": {}})

    with faults(submit) as server:
        llm = ChatSegmindLlama(api_key=KEY, base_url=server.url, journal=path, poll_interval=0.01)

        async def many() -> None:
            await asyncio.gather(*(llm.ainvoke(str(n), idempotency_key=str(n)) for n in range(12)))

        with ThreadPoolExecutor(8) as pool:
            blocking = pool.map(lambda n: llm.invoke(str(n), idempotency_key=str(n)), range(12, 24))
            asyncio.run(many())
            list(blocking)
    assert most == 4


def test_a_model_with_a_journal_is_copied_pickled_and_forked(
    gateway: RunningGateway, path: str
) -> None:
    llm = model(gateway, path)
    call(llm, "invoke")
    twins = [llm.model_copy(), llm.model_copy(deep=True), pickle.loads(pickle.dumps(llm))]
    assert all(call(twin, "invoke").response_metadata["replayed"] for twin in twins)
    if (child := os.fork()) == 0:
        is_right = call(llm, "invoke").response_metadata["replayed"]
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_journal_holds_no_prompt_and_no_key(gateway: RunningGateway, path: str) -> None:
    llm = model(gateway, path)
    call(llm, "invoke", prompt="a very secret prompt")
    llm.journal.close()
    stored = Path(path).read_bytes().replace(b"You said: a very secret prompt", b"")
    assert gateway.api_key.encode() not in stored
    assert b"secret" not in stored
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_the_entries_tell_what_was_paid_for_what(gateway: RunningGateway, path: str) -> None:
    call(model(gateway, path), "invoke")
    [charge] = gateway.account.charges
    [entry] = SqliteJournal(path).entries()
    assert (entry.key, entry.state, entry.error) == ("row-17", "answered", None)
    assert (entry.request_id, entry.cost) == (charge.request_id, charge.cost)
    assert entry.created_at <= entry.updated_at <= time.time() + 1


def test_a_cancelled_call_is_cancelled_though_its_journal_breaks(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal's error must not take the place of the cancellation."""

    class Broken(SqliteJournal):
        def update(self, *_args: Any, **_options: Any) -> Any:
            raise SegmindJournalError("The disk is full.")

    async def give_up(gateway: RunningGateway) -> None:
        llm = model(gateway, path, journal=Broken(path))
        task = asyncio.create_task(llm.ainvoke("hi", idempotency_key="row-17"))
        await asyncio.to_thread(wait_for, lambda: bool(gateway.account.post_count))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serve(Settings(post_faults=Faults(latency=5.0))) as gateway:
        asyncio.run(give_up(gateway))
    assert "The disk is full." in caplog.text


def test_a_job_that_is_lost_to_a_broken_journal_is_an_error(path: str) -> None:
    """It cannot be written down that it is unknown, and asking for ever would not change that."""

    class Broken(SqliteJournal):
        def update(self, *_args: Any, **_options: Any) -> Any:
            raise SegmindJournalError("The disk is full.")

    with serve(Settings(job_ttl=1.5), engine=slow(1.0)) as gateway:
        with pytest.raises(SegmindError):
            call(model(gateway, path, queue_timeout=0.7), "invoke")
        [(state, _)] = submitted(path)
        assert state == "submitted"
        threading.Event().wait(1.5)
        with pytest.raises(SegmindJournalError, match="disk is full"):
            call(model(gateway, path, journal=Broken(path)), "invoke")
        assert gateway.account.post_count == 1
