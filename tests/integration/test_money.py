"""What is paid: POSTs counted over real sockets, on both paths and in both colours."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.runnables import RunnableLambda

from langchain_segmind import (
    ChatSegmindLlama,
    CreditBalance,
    SegmindAPIError,
    SegmindConnectionError,
    SegmindError,
    SegmindInsufficientCreditsError,
    SegmindLowCreditsWarning,
    SegmindRateLimiter,
    SegmindResponseError,
    SegmindTimeoutError,
    get_credits_callback,
)
from langchain_segmind._protocol import retry
from langchain_segmind.gateway import Faults, Settings, serve
from tests.servers import (
    COLOURS,
    ask,
    completion,
    faults,
    http,
    model,
    refused_url,
    streamed,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.runnables import RunnableConfig

    from langchain_segmind.gateway import RunningGateway
    from tests.servers import FaultServer, Received, Wire

PATHS = ("v1", "v2")
ID = "job-1"


def on_post(*answers: Any) -> Callable[[Received, Wire], bytes | None]:
    """Answer POSTs with these, one after the other, then well; and GETs well."""
    left = list(answers)

    def answer(received: Received, wire: Wire) -> bytes | None:
        if received.line.startswith("GET"):
            record = {"status": "COMPLETED", "output": completion(), "metrics": {"cost": 0.5}}
            return http(record)
        if left:
            broken = left.pop(0)
            answered: bytes | None = broken(received, wire) if callable(broken) else broken
            return answered
        return http({"request_id": ID}) if "/v2/" in received.line else http()

    return answer


def reset(_: Received, wire: Wire) -> None:
    wire.reset()


def close(_: Received, wire: Wire) -> None:
    wire.close()


def half(_: Received, wire: Wire) -> None:
    wire.send(http()[:-20])
    wire.close()


def hang(_: Received, wire: Wire) -> None:
    wire.hang()


def posts(server: FaultServer) -> int:
    return sum(received.line.startswith("POST") for received in server.requests)


def caller(server: FaultServer, path: str, **settings: Any) -> ChatSegmindLlama:
    return model(server, queue=path == "v2", poll_interval=0.01, **settings)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("path", PATHS)
class TestPosts:
    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_what_passes_is_sent_again(self, status: int, path: str, colour: str) -> None:
        """An answered 429 or 5xx cost nothing."""
        soon = {"retry-after": "0"}
        with faults(on_post(http({"error": "no"}, status, soon))) as server:
            answer = ask(caller(server, path), colour)
        assert (answer.content, posts(server)) == ("Hello!", 2)

    @pytest.mark.parametrize("status", [502, 504, 520, 522, 524])
    def test_what_a_proxy_gave_up_on_is_not(self, status: int, path: str, colour: str) -> None:
        """What is behind it may go on."""
        page = http(b"<html><h1>Gateway Time-out</h1></html>", status, content_type="text/html")
        with faults(on_post(page)) as server, pytest.raises(SegmindAPIError) as caught:
            ask(caller(server, path), colour)
        assert (posts(server), caught.value.outcome_unknown) == (1, True)
        assert "not billed" not in str(caught.value)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 422])
    def test_what_is_refused_is_not(self, status: int, path: str, colour: str) -> None:
        with faults(on_post(http({"error": "no"}, status))) as server, pytest.raises(SegmindError):
            ask(caller(server, path), colour)
        assert posts(server) == 1

    @pytest.mark.parametrize("fault", [reset, close, half])
    def test_a_lost_answer_is_not_asked_for_again(self, fault: Any, path: str, colour: str) -> None:
        """The request went out: it may have been billed."""
        with (
            faults(on_post(fault)) as server,
            pytest.raises((SegmindConnectionError, SegmindResponseError)) as caught,
        ):
            ask(caller(server, path), colour)
        assert posts(server) == 1
        assert caught.value.outcome_unknown
        assert not caught.value.is_retryable

    def test_nor_is_one_that_is_too_late(self, path: str, colour: str) -> None:
        with faults(on_post(hang)) as server, pytest.raises(SegmindTimeoutError) as caught:
            ask(caller(server, path, timeout=0.5), colour)
        assert (posts(server), caught.value.outcome_unknown) == (1, True)

    def test_a_useless_answer_is_not_asked_for_again(self, path: str, colour: str) -> None:
        with (
            faults(on_post(http(b"<html>hello</html>"))) as server,
            pytest.raises(SegmindResponseError) as caught,
        ):
            ask(caller(server, path), colour)
        assert (posts(server), caught.value.outcome_unknown) == (1, True)

    def test_where_nobody_listens_nothing_is_billed(self, path: str, colour: str) -> None:
        llm = ChatSegmindLlama(
            api_key="SG_x", base_url=refused_url(), queue=path == "v2", max_retries=0
        )
        with pytest.raises(SegmindConnectionError, match="Nothing was sent") as caught:
            ask(llm, colour)
        assert not caught.value.outcome_unknown

    def test_a_connection_reset_before_the_request_is_one_post_at_most(
        self, path: str, colour: str
    ) -> None:
        """Whether it arrived cannot be known then, so it is not sent again."""
        first = threading.Event()

        def slam(wire: Wire) -> None:
            if not first.is_set():
                first.set()
                wire.reset()

        with faults(on_post(), before_request=slam) as server, suppress(SegmindConnectionError):
            ask(caller(server, path), colour)
        assert posts(server) <= 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_cancelled_call_is_not_sent_again(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue's id is in the log by then."""
    with faults(hang_after_submit) as server:
        calling = asyncio.create_task(caller(server, path).ainvoke("hi"))
        await asyncio.to_thread(wait_for, partial(_is_called, server, path))
        with caplog.at_level(logging.WARNING, "langchain_segmind"):
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
        assert posts(server) == 1
    assert (f"llm.resume('{ID}')" in caplog.text) == (path == "v2")


def hang_after_submit(received: Received, wire: Wire) -> bytes | None:
    if received.line.startswith("POST /v2/"):
        return http({"request_id": ID})
    wire.hang()
    return None


def _is_called(server: FaultServer, path: str) -> bool:
    """Tell whether the answer is waited for: the queue's is, once it is asked after."""
    method = "GET" if path == "v2" else "POST"
    return any(received.line.startswith(method) for received in server.requests)


@pytest.mark.parametrize("colour", COLOURS)
class TestDeadline:
    def test_the_queue_gives_up_and_leaves_the_id(self, colour: str) -> None:
        """Also where no poll is ever answered: a hanging one ends with the deadline."""
        ids: list[str] = []
        with faults(hang_after_submit) as server:
            llm = caller(server, "v2", queue_timeout=0.2, on_submit=ids.append)
            with pytest.raises(SegmindTimeoutError, match="resume") as caught:
                ask(llm, colour)
        assert posts(server) == 1
        assert [caught.value.request_id] == ids == [ID]

    def test_the_queue_timeout_means_nothing_on_v1(self, colour: str) -> None:
        with faults(on_post()) as server:
            assert ask(caller(server, "v1", queue_timeout=0.001), colour).content == "Hello!"
        assert posts(server) == 1

    def test_no_call_sends_anything_to_where_a_body_points(self, colour: str) -> None:
        """URLs in an answer are not followed: the key goes to base_url alone."""
        with faults() as elsewhere, faults(pointing_to(elsewhere.url)) as server:
            assert ask(caller(server, "v2"), colour).content == "Hello!"
        assert elsewhere.requests == []


def pointing_to(url: str) -> Callable[[Received, Wire], bytes]:
    def answer(received: Received, _: Wire) -> bytes:
        if received.line.startswith("POST"):
            return http({"request_id": ID, **dict.fromkeys(("poll_url", "response_url"), url)})
        return http({"status": "COMPLETED", "output": completion(), "poll_url": url})

    return answer


@pytest.mark.parametrize("colour", COLOURS)
class TestBalance:
    def test_what_the_account_holds(self, colour: str) -> None:
        with serve(Settings(credits=3.0, free_credits=0.5)) as gateway:
            llm = ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url)
            assert balance(llm, colour) == CreditBalance(3.0, 0.5)
            assert gateway.account.post_count == 0

    @pytest.mark.parametrize("path", PATHS)
    def test_below_min_credits_nothing_is_sent_until_topped_up(
        self, path: str, colour: str
    ) -> None:
        """Any copy of the model may have seen the balance; get_credits sees the new one."""
        with serve(Settings(credits=1e-5)) as gateway:
            account: dict[str, Any] = {
                "api_key": gateway.api_key,
                "base_url": gateway.url,
                "poll_interval": 0.01,
            }
            ask(ChatSegmindLlama(queue=path == "v2", **account), colour)
            llm = ChatSegmindLlama(min_credits=1e-5, queue=path == "v2", **account)
            with pytest.raises(SegmindInsufficientCreditsError, match="Nothing was sent"):
                ask(llm, colour)
            assert gateway.account.post_count == 1
            gateway.account.top_up(1.0)
            assert balance(llm, colour).total > 0.9
            assert ask(llm, colour).content == "You said: hi"

    @pytest.mark.parametrize("path", PATHS)
    def test_falling_below_low_credits_warns_once(self, path: str, colour: str) -> None:
        with serve(Settings(credits=1e-5)) as gateway:
            account: dict[str, Any] = {
                "api_key": gateway.api_key,
                "base_url": gateway.url,
                "poll_interval": 0.01,
            }
            llm = ChatSegmindLlama(low_credits=1e-5, queue=path == "v2", **account)
            with pytest.warns(SegmindLowCreditsWarning):
                ask(llm, colour)
            ask(llm, colour)


def balance(llm: ChatSegmindLlama, colour: str) -> CreditBalance:
    if colour == "sync":
        with llm:
            return llm.get_credits()
    return asyncio.run(llm.aget_credits())


class TestCallback:
    def test_counts_over_threads_tasks_and_chains(self) -> None:
        """As much as the account was charged, and not what came before or after."""
        with serve() as gateway:
            llm = ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url)
            llm.invoke("before")
            spent = gateway.account.remaining
            chain = llm | RunnableLambda(lambda message: llm.invoke(message.content))
            with get_credits_callback() as cb, ThreadPoolExecutor(1) as pool:
                llm.batch(["a", "b", "c"])
                chain.invoke("d")
                pool.submit(llm.invoke, "not ours").result()
                asyncio.run(_calls(llm))
                list(llm.stream("e"))
            llm.invoke("after")
            llm.close()
        charges = gateway.account.charges
        ours = [*charges[1:6], *charges[7:10]]
        assert cb.calls == 8
        assert cb.cost == pytest.approx(sum(charge.cost for charge in ours))
        assert cb.remaining == charges[-2].remaining < spent
        tokens = sum(charge.prompt_tokens + charge.completion_tokens for charge in ours)
        assert cb.tokens["total_tokens"] == tokens

    def test_what_the_bill_has_and_the_sum_has_not_is_unknown(self) -> None:
        """Every third answer is dropped after it was billed, and the sum says so."""
        with serve(Settings(post_faults=Faults(drop_after_rate=0.3))) as gateway:
            llm = ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url)
            with llm, get_credits_callback() as cb:
                llm.batch(["a"] * 30, return_exceptions=True)
        account = gateway.account
        assert cb.cost < sum(charge.cost for charge in account.charges)
        assert cb.unknown == account.charge_count - cb.calls > 0
        assert f"unknown={cb.unknown}" in repr(cb)

    @pytest.mark.parametrize("is_journaled", [False, True])
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("how", ["batch", "abatch", "stream", "astream"])
    def test_what_was_sent_again_is_unknown_though_it_was_answered(
        self,
        how: str,
        path: str,
        is_journaled: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With `retry_unknown_outcome` the bill has a charge for each attempt."""
        monkeypatch.setattr(retry, "BASE_DELAY", 0.002)
        with serve(Settings(post_faults=Faults(drop_after_rate=0.3))) as gateway:
            llm = ChatSegmindLlama(
                api_key=gateway.api_key,
                base_url=gateway.url,
                retry_unknown_outcome=True,
                queue=path == "v2",
                poll_interval=0.01,
                journal=tmp_path / "journal.sqlite" if is_journaled else None,
            )
            with llm, get_credits_callback() as cb:
                _call_twelve_times(llm, how, is_journaled=is_journaled)
            # What was lost of a queue runs, and is billed, by itself.
            wait_for(lambda: gateway.account.charge_count == gateway.account.post_count)
            assert gateway.account.post_count > 12
        assert cb.unknown == gateway.account.post_count - cb.calls > 0
        assert f"unknown={cb.unknown}" in repr(cb)

    def test_a_cached_answer_costs_nothing_and_says_so(self) -> None:
        with serve() as gateway:
            llm = ChatSegmindLlama(
                api_key=gateway.api_key, base_url=gateway.url, cache=InMemoryCache()
            )
            with llm, get_credits_callback() as cb:
                paid, cached = llm.invoke("hi"), llm.invoke("hi")
        assert gateway.account.post_count == 1
        assert cached.response_metadata["credits"] == {"remaining": None, "cost": 0.0}
        assert cb.cost == paid.response_metadata["credits"]["cost"]
        assert (cb.calls, cb.cached) == (1, 1)


def _call_twelve_times(llm: ChatSegmindLlama, how: str, *, is_journaled: bool) -> None:
    prompts: list[LanguageModelInput] = [f"Say {number}" for number in range(12)]
    keys = [{"idempotency_key": prompt} if is_journaled else {} for prompt in prompts]
    configs: list[RunnableConfig] = [{"metadata": key} for key in keys]
    match how:
        case "batch":
            llm.batch(prompts, configs, return_exceptions=True)
        case "abatch":
            asyncio.run(llm.abatch(prompts, configs, return_exceptions=True))
        case _:
            colour = "async" if how == "astream" else "sync"
            for prompt, config in zip(prompts, configs, strict=True):
                with suppress(SegmindError):
                    streamed(llm, colour, str(prompt), config=config)


async def _calls(llm: ChatSegmindLlama) -> None:
    await asyncio.gather(llm.ainvoke("f"), llm.ainvoke("g"))


@pytest.mark.parametrize("colour", COLOURS)
class TestLimiter:
    def test_a_plan_given_too_high_is_corrected_before_a_refusal(self, colour: str) -> None:
        """The answers say that two are all, and everyone waits for the reset unrefused."""
        with serve(Settings(rpm=2, rate_window=0.3)) as gateway, limited(gateway, 1000) as llm:
            for _ in range(5):
                ask(llm, colour)
            assert gateway.account.post_count == gateway.account.charge_count == 5

    def test_a_plan_given_too_low_is_corrected_too(self, colour: str) -> None:
        """Nobody waits a minute, neither who comes later nor who waits already."""
        with serve(Settings(rpm=500)) as gateway, limited(gateway, 1) as llm:
            for _ in range(5):
                ask(llm, colour)
            if colour == "sync":
                llm.batch(["hi"] * 5)
            else:
                asyncio.run(llm.abatch(["hi"] * 5))
            assert gateway.account.charge_count == 10


def limited(gateway: RunningGateway, requests_per_minute: int) -> ChatSegmindLlama:
    return ChatSegmindLlama(
        api_key=gateway.api_key,
        base_url=gateway.url,
        rate_limiter=SegmindRateLimiter(requests_per_minute=requests_per_minute),
        max_retries=1,
    )
