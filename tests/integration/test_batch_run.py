"""`batch.run` and its blocking twin, as a program uses them."""

from __future__ import annotations

import logging
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import BaseModel

from langchain_segmind import ChatSegmindLlama, SegmindRateLimiter, batch
from langchain_segmind._batch.report import Tally, bill
from langchain_segmind._protocol import retry
from langchain_segmind.exceptions import SegmindAuthenticationError
from langchain_segmind.gateway import Faults, ScriptedEngine, Settings, serve
from langchain_segmind.journals import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from langchain_segmind.gateway import RunningGateway


@pytest.fixture
def llm(gateway: RunningGateway, tmp_path: Path) -> ChatSegmindLlama:
    """Give a model with a journal."""
    return ChatSegmindLlama(
        api_key=gateway.api_key,
        base_url=gateway.url,
        journal=tmp_path / "run.sqlite",
        poll_interval=0.05,
    )


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": n, "prompt": f"Say {n}"} for n in range(count)]


async def test_an_async_source_is_answered_as_it_comes(llm: ChatSegmindLlama) -> None:
    async def source() -> AsyncIterator[batch.BatchRequest]:
        for n in range(5):
            yield batch.BatchRequest(str(n), [HumanMessage(f"Say {n}")], {"max_tokens": 2})

    async with llm:
        texts = {result.custom_id: result.text async for result in batch.run(source(), llm)}
    assert texts == {str(n): "You said:" for n in range(5)}


def test_a_source_is_read_as_slots_come_free(llm: ChatSegmindLlama) -> None:
    """An endless one is no problem, and leaving it early leaves nothing in doubt."""
    read: list[int] = []

    def endless() -> Any:
        while True:
            read.append(len(read))
            yield {"id": read[-1], "prompt": "Say it"}

    results = batch.run_sync(endless(), llm, in_flight=4)
    assert [next(results).text for _ in range(10)] == ["You said: Say it"] * 10
    results.close()
    assert len(read) <= 512 + 10
    assert {entry.state for entry in llm.journal.entries()} <= {"answered", "submitted"}


def test_leaving_early_warns_of_nothing_that_was_not_sent(
    llm: ChatSegmindLlama, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls that wait for their turn are dropped, and the journal has those that were sent."""
    results = batch.run_sync(rows(300), llm)
    next(results)
    results.close()
    assert caplog.messages == []


def test_what_the_journal_has_is_given_again(
    llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    first = list(batch.run_sync(rows(20), llm))
    again = list(batch.run_sync(rows(20), llm))
    assert {result.text for result in first} == {result.text for result in again}
    assert sum(result.cost or 0 for result in first) == pytest.approx(
        sum(charge.cost for charge in gateway.account.charges)
    )
    assert all(result.replayed and result.cost == 0.0 for result in again)
    assert gateway.account.post_count == 20


async def test_a_slot_of_the_plan_is_taken_when_its_submit_goes(tmp_path: Path) -> None:
    """Slots that many take at once, for submits that go later, would be more in the next minute."""

    class Counter(BaseRateLimiter):
        taken = ahead = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            raise AssertionError

        async def aacquire(self, *, blocking: bool = True) -> bool:
            self.taken += 1
            self.ahead = max(self.ahead, self.taken - gateway.account.post_count)
            return True

    counter = Counter()
    with serve(Settings(post_faults=Faults(latency=0.05))) as gateway:
        settings: dict[str, Any] = {
            "api_key": gateway.api_key,
            "base_url": gateway.url,
            "rate_limiter": counter,
        }
        async with ChatSegmindLlama(journal=tmp_path / "run.sqlite", **settings) as llm:
            assert len([each async for each in batch.run(rows(60), llm)]) == 60
    assert counter.taken == 60
    assert counter.ahead <= 4


def test_submits_that_wait_for_their_turn_do_not_make_the_plan_smaller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All but four go later than they were begun, and were counted twice by then."""
    caplog.set_level(logging.INFO)
    with serve(Settings(rpm=100, post_faults=Faults(latency=0.05))) as gateway:
        llm = ChatSegmindLlama(
            api_key=gateway.api_key,
            base_url=gateway.url,
            journal=tmp_path / "run.sqlite",
            rate_limiter=SegmindRateLimiter(requests_per_minute=100),
        )
        assert len(list(batch.run_sync(rows(95), llm, in_flight=95))) == 95
    assert not [text for text in caplog.messages if text.startswith("The plan's limit")]


def test_the_budget_ends_the_iteration(llm: ChatSegmindLlama, gateway: RunningGateway) -> None:
    results: list[batch.BatchResult] = []
    with pytest.raises(batch.BudgetReachedError, match="credits are spent"):
        results.extend(batch.run_sync(rows(500), llm, budget=0.001))
    with pytest.raises(batch.BudgetReachedError):
        list(batch.run_sync(rows(500), llm, budget=0.001))
    assert 0 < 10.0 - gateway.account.remaining <= 0.001


def test_a_schema_gives_objects(llm: ChatSegmindLlama, gateway: RunningGateway) -> None:
    class Cat(BaseModel):
        name: str

    gateway.engine = ScriptedEngine(
        lambda body: '{"name": "Tom"}' if "0" in str(body["messages"]) else "No."
    )
    results = {result.custom_id: result for result in batch.run_sync(rows(2), llm, schema=Cat)}
    assert results["0"].parsed == Cat(name="Tom")
    assert isinstance(results["1"].error, batch.SchemaMismatchError)
    assert results["1"].text == "No."


async def test_what_no_call_can_do_without_is_raised(llm: ChatSegmindLlama) -> None:
    wrong = llm.model_copy(update={"api_key": "SG_ffffffffffffffff"})
    async with wrong, aclosing(batch.run(rows(3), wrong)) as results:
        with pytest.raises(SegmindAuthenticationError):
            await anext(results)
    assert list(SqliteJournal(llm.journal.path).entries()) == []


@pytest.mark.parametrize(
    ("settings", "options", "problem"),
    [({"journal": None}, {}, "needs a journal"), ({}, {"samples": 0}, "at least 1")],
)
def test_what_makes_no_sense_is_refused(
    settings: dict[str, Any], options: dict[str, Any], problem: str, llm: ChatSegmindLlama
) -> None:
    with pytest.raises(ValueError, match=problem):
        list(batch.run_sync(rows(1), llm.model_copy(update=settings), **options))


def test_a_record_that_is_no_request_ends_the_iteration(llm: ChatSegmindLlama) -> None:
    with pytest.raises(batch.BadRequestError, match="custom_id"):
        list(batch.run_sync([{"prompt": "x"}], llm))


def test_what_was_sent_again_is_counted_beside_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.002)
    with serve(Settings(post_faults=Faults(drop_after_rate=0.3))) as gateway:
        llm = ChatSegmindLlama(
            api_key=gateway.api_key,
            base_url=gateway.url,
            journal=tmp_path / "run.sqlite",
            queue=False,
            retry_unknown_outcome=True,
        )
        results = list(batch.run_sync(rows(20), llm))
        again = list(batch.run_sync(rows(20), llm))
        lost = sum(result.lost_attempts + result.is_unknown for result in results)
        answered = sum(result.raw is not None for result in results)
        assert lost == gateway.account.post_count - answered
    assert lost > 0
    assert sum(result.lost_attempts for result in again if result.replayed) == 0
    tally = Tally(20)
    for result in results:
        tally.count(result)
    assert re.search(rf"\b{tally.lost} answers? lost and asked for again", bill(tally, None, 1.0))
