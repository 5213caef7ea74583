"""One model, used from loops, threads, processes and copies, without mixing up answers."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import multiprocessing
import os
import pickle
import random
import ssl
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import cloudpickle
import httpx
import httpx2
import pytest

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindAuthenticationError,
    SegmindConnectionError,
)
from langchain_segmind._transport import environment
from tests.servers import (
    COLOURS,
    KEY,
    FaultServer,
    Received,
    Wire,
    ask,
    certificate,
    chunked,
    completion,
    delta,
    echo,
    events,
    faults,
    head,
    http,
    model,
    refused_url,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 and later warn of any fork with threads about; here that is the point.
    "ignore:.*multi-threaded, use of fork:DeprecationWarning"
)


def slow_echo(received: Received, wire: Wire) -> bytes:
    time.sleep(random.random() / 100)
    return echo(received, wire)


def is_own(llm: ChatSegmindLlama, prompt: str) -> bool:
    return llm.invoke(prompt).content == prompt


async def all_own(llm: ChatSegmindLlama, name: str, count: int) -> bool:
    prompts = [f"{name}-{number}" for number in range(count)]
    answers = await asyncio.gather(*(llm.ainvoke(prompt) for prompt in prompts))
    return [answer.content for answer in answers] == prompts


# --- Event loops and threads ----------------------------------------------------------------------


def test_a_model_works_under_one_event_loop_after_the_other() -> None:
    with faults(echo) as server:
        llm = model(server, max_retries=0)
        assert all(asyncio.run(all_own(llm, f"loop {number}", 3)) for number in range(4))


def test_four_threads_each_run_a_loop_of_their_own() -> None:
    def work(name: str) -> bool:
        return all(asyncio.run(all_own(llm, f"{name}-{turn}", 10)) for turn in range(4))

    with faults(echo) as server, ThreadPoolExecutor(4) as pool:
        llm = model(server, max_retries=0)
        assert all(pool.map(work, "abcd"))


def test_two_hundred_threads_share_a_model() -> None:
    with (
        faults(slow_echo) as server,
        ThreadPoolExecutor(200) as pool,
        model(server, max_retries=0) as llm,
    ):
        assert all(pool.map(lambda number: is_own(llm, str(number)), range(400)))


async def test_five_hundred_calls_share_an_event_loop() -> None:
    with faults(slow_echo) as server:
        async with model(server, max_retries=0, timeout=30) as llm:
            assert await all_own(llm, "call", 500)


def test_blocking_and_awaited_calls_share_a_model() -> None:
    with faults(echo) as server, model(server) as llm:
        assert is_own(llm, "a")
        assert asyncio.run(all_own(llm, "b", 3))
        assert is_own(llm, "c")


def run_without_shutdown(work: Coroutine[Any, Any, Any]) -> None:
    """Close an event loop as old code does, without shutting down its generators."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_loop_that_was_just_closed_leaves_no_connection() -> None:
    """Asyncio warns, where somebody asked for it: a closed loop can close no transport."""
    with faults(echo) as server:
        llm = model(server)
        for _ in range(3):
            run_without_shutdown(llm.ainvoke("hi"))
        assert asyncio.run(all_own(llm, "again", 2))
        run_without_shutdown(llm.ainvoke("hi"))
        del llm
        gc.collect()
        gc.collect()  # What the first found unused held the connections.
        wait_for(lambda: not server.open_connections)


# --- Closing --------------------------------------------------------------------------------------


def test_close_closes_and_a_later_call_opens_anew() -> None:
    with faults(echo) as server:
        llm = model(server)
        for turn in range(3):
            assert is_own(llm, str(turn))
            llm.close()
            llm.close()
        assert server.connections == 3


async def test_aclose_closes_both_kinds_and_a_later_call_opens_anew() -> None:
    with faults(echo) as server:
        llm = model(server)
        for _ in range(2):
            assert await all_own(llm, "a", 2)
            assert await asyncio.to_thread(is_own, llm, "b")
            await llm.aclose()
            await llm.aclose()
        await all_gone(server)


def test_closing_what_was_never_opened_is_no_matter() -> None:
    with faults() as server:
        model(server).close()
        asyncio.run(model(server).aclose())


def test_a_model_that_is_dropped_closes_its_connections() -> None:
    with faults(echo) as server:
        llm = model(server)
        assert is_own(llm, "a")
        del llm
        gc.collect()
        wait_for(lambda: not server.open_connections)


async def test_a_model_dropped_on_its_loop_closes_its_connections() -> None:
    with faults(echo) as server:
        llm = model(server)
        assert await all_own(llm, "a", 3)
        del llm
        gc.collect()
        await all_gone(server)


async def test_a_model_collected_on_another_thread_closes_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error's traceback keeps its model in a cycle, which any thread may come to collect."""
    with faults(http({"error": "no"}, 401)) as server:
        for _ in range(10):
            with suppress(SegmindAuthenticationError):
                await model(server).ainvoke("hi")
        await asyncio.to_thread(gc.collect)
        await all_gone(server)
    assert not caplog.records


async def test_aclose_lets_an_answer_that_is_coming_come() -> None:
    """As `close` does; aiohttp alone would leave its reader waiting."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(_: Received, wire: Wire) -> None:
        answer = http(completion("all of it"))
        wire.send(answer[:-20])
        begun.set()
        go_on.wait(5)
        wire.send(answer[-20:])

    with faults(slowly) as server:
        llm = model(server)
        call = asyncio.create_task(llm.ainvoke("hi"))
        await asyncio.to_thread(begun.wait, 5)
        await llm.aclose()
        go_on.set()
        assert (await call).content == "all of it"
        await all_gone(server)


def test_closing_while_others_call_hurts_nobody_who_comes_after() -> None:
    with faults(slow_echo) as server, ThreadPoolExecutor(8) as pool, model(server) as llm:
        calls = [pool.submit(is_own, llm, str(number)) for number in range(60)]
        for _ in range(10):
            llm.close()
            time.sleep(0.003)
        assert all(call.result() for call in calls)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_that_is_left_frees_its_connection(colour: str) -> None:
    def endless(_received: Received, wire: Wire) -> None:
        wire.send(head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))
        wire.drip(chunked(events(delta("x"), done=False), end=False))

    async def leave(llm: ChatSegmindLlama, server: FaultServer) -> None:
        async for _ in llm.astream("hi"):
            break
        await all_gone(server)

    with faults(endless) as server:
        llm = model(server, streaming=True)
        if colour == "async":
            asyncio.run(leave(llm, server))
        else:
            for _ in llm.stream("hi"):
                break
            wait_for(lambda: not server.open_connections)


async def all_gone(server: FaultServer) -> None:
    """Let the running loop go on until the server has seen every connection end."""
    await asyncio.to_thread(wait_for, lambda: not server.open_connections)


# --- Forks ----------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], bool]) -> int:
    """Start a child that exits with 0 where the work was well done."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_processes_get_their_own_answers() -> None:
    """Connections are warm when the processes part, and all of them call at once."""

    def work(name: str) -> bool:
        with ThreadPoolExecutor(4) as pool:
            fine = list(pool.map(lambda turn: is_own(llm, f"{name}-{turn}"), range(40)))
        return all(fine) and asyncio.run(all_own(llm, name, 20))

    with faults(slow_echo) as server, model(server, max_retries=0) as llm:
        assert work("before")
        children = [in_a_fork(lambda name=name: work(name)) for name in "abc"]  # type: ignore[misc]
        assert work("parent")
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert work("after")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
async def test_a_fork_inside_a_running_loop_calls_on_a_loop_of_its_own() -> None:
    with faults(slow_echo) as server:
        async with model(server, max_retries=0) as llm:
            assert await all_own(llm, "before", 5)
            child = in_a_fork(lambda: is_own(llm, "child"))
            assert await all_own(llm, "parent", 20)
            status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status[1] == 0
            assert await all_own(llm, "after", 5)


FORKER = """
import asyncio, os, sys, warnings
from langchain_segmind import ChatSegmindLlama
# From Python 3.12 on: aiohttp was imported in a thread, which waits for more to do.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
llm = ChatSegmindLlama(api_key="SG_0", base_url=sys.argv[1])
llm.invoke("a")
loop = asyncio.new_event_loop()
loop.run_until_complete(llm.ainvoke("b"))
child = os.fork()
if child == 0:
    llm.invoke("c")
    asyncio.run(llm.ainvoke("d"))
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
llm.invoke("e")
loop.run_until_complete(llm.ainvoke("f"))
loop.run_until_complete(llm.aclose())
loop.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_exits_in_an_orderly_way_says_nothing() -> None:
    with faults(echo) as server:
        ended = run_python(FORKER, server.url)
    assert ended.stderr == ""
    assert ended.returncode == 0
    assert len(server.requests) == 6


def run_python(code: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=60, check=False)


# --- Copies and pickles ---------------------------------------------------------------------------


def call(llm: ChatSegmindLlama) -> str:
    return str(llm.invoke("from afar").content)


def test_a_model_crosses_to_a_fresh_process() -> None:
    with faults(echo) as server, model(server) as llm:
        assert is_own(llm, "warm")
        # An executor, since a Pool waits for ever for children that cannot start.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(call, llm).result() == "from afar"


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda llm: llm.model_copy(),
        lambda llm: llm.model_copy(deep=True),
        lambda llm: pickle.loads(pickle.dumps(llm)),
        lambda llm: cloudpickle.loads(cloudpickle.dumps(llm)),
    ],
    ids=["copy", "deepcopy", "model_copy", "deep model_copy", "pickle", "cloudpickle"],
)
def test_a_copy_of_a_used_model_works_beside_it(copied: Any, colour: str) -> None:
    with faults(echo) as server, model(server, temperature=0.5) as llm:
        assert is_own(llm, "warm")
        assert asyncio.run(all_own(llm, "warm", 2))
        twin = copied(llm)
        assert twin.model_dump() == llm.model_dump()
        assert ask(twin, colour, "twin").content == "twin"
        assert is_own(llm, "still warm")
        assert server.requests[-1].json["temperature"] == 0.5
        assert server.requests[-1].values("x-api-key") == [KEY]


def test_a_key_from_the_environment_stays_out_of_the_pickle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with faults(echo) as server:
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        with ChatSegmindLlama(base_url=server.url) as llm:
            assert is_own(llm, "warm")
            for dumps in (pickle.dumps, cloudpickle.dumps):
                pickled = dumps(llm)
                assert KEY.encode() not in pickled
                monkeypatch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
                with pickle.loads(pickled) as twin:
                    assert is_own(twin, "twin")
                assert server.requests[-1].values("x-api-key") == ["SG_0123456789abcdef"]
                monkeypatch.setenv("SEGMIND_API_KEY", KEY)
            monkeypatch.delenv("SEGMIND_API_KEY")
            with pytest.raises(SegmindAuthenticationError, match="There is no API key"):
                pickle.loads(pickled).invoke("hi")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_copy_with_another_key_uses_it(colour: str) -> None:
    with faults(echo) as server, model(server) as llm:
        assert is_own(llm, "warm")
        other = llm.model_copy(update={"api_key": "SG_0123456789abcdef"})
        assert "0123456789abcdef" not in repr(other)
        ask(other, colour)
        assert server.requests[-1].values("x-api-key") == ["SG_0123456789abcdef"]
        ask(llm, colour)
        assert server.requests[-1].values("x-api-key") == [KEY]


@pytest.mark.parametrize("colour", COLOURS)
def test_an_assignment_takes_effect_at_the_next_call(colour: str) -> None:
    with faults(echo) as old, faults(echo) as new, model(old) as llm:
        assert ask(llm, colour, "a").content == "a"
        llm.base_url = new.url + "/v1/"
        llm.api_key = "SG_0123456789abcdef"  # type: ignore[assignment]
        assert "0123456789abcdef" not in repr(llm)
        assert ask(llm, colour, "b").content == "b"
        assert len(old.requests) == 1
        assert new.requests[0].line == "POST /v1/llama-v3p1-70b-instruct HTTP/1.1"
        assert new.requests[0].values("x-api-key") == ["SG_0123456789abcdef"]


def test_an_injected_client_is_shared_by_a_copy_and_left_open() -> None:
    with faults(echo) as server, httpx.Client(verify=False) as client:
        llm = model(server, http_client=client)
        assert is_own(llm, "a")
        assert is_own(copy.deepcopy(llm), "b")
        llm.close()
        assert not client.is_closed
        with pytest.raises(TypeError, match="http_client"):
            pickle.dumps(llm)


# --- Many models ----------------------------------------------------------------------------------


def test_a_thousand_models_load_no_certificates() -> None:
    began = time.process_time()
    models = [ChatSegmindLlama(api_key=KEY) for _ in range(1000)]
    assert time.process_time() - began < 5
    assert len(models) == 1000


def test_certificates_are_loaded_once_and_not_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    create = httpx2.create_ssl_context

    def counted() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return create()

    monkeypatch.setattr(httpx2, "create_ssl_context", counted)
    environment._trust.cache_clear()

    def fresh() -> ChatSegmindLlama:
        url = refused_url().replace("http:", "https:")
        return ChatSegmindLlama(api_key=KEY, base_url=url, max_retries=0)

    async def call_many() -> None:
        for _ in range(5):
            with pytest.raises(SegmindConnectionError):
                await fresh().ainvoke("hi")

    asyncio.run(call_many())
    for _ in range(5):
        with pytest.raises(SegmindConnectionError):
            fresh().invoke("hi")
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


# --- Proxies and TLS ------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_a_proxy_of_the_environment_is_used(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with faults() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        ask(model(proxy, base_url="http://segmind.invalid/v1"), colour)
    (sent,) = proxy.requests
    assert sent.line.startswith("POST http://segmind.invalid/v1/llama-v3p1-70b-instruct ")
    assert sent.values("host") == ["segmind.invalid"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("excepted", ["127.0.0.1", "*", "example.com, 127.0.0.1:{port}"])
def test_no_proxy_goes_around_it(
    excepted: str, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults() as proxy, faults() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", excepted.format(port=server.port))
        ask(model(server), colour)
    assert proxy.requests == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_the_password_of_a_proxy_is_sent_and_not_told(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults(http({"error": "no"}, 502)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pa%20ss@127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(Exception, match="502") as caught:
            ask(model(proxy, base_url="http://segmind.invalid", max_retries=0), colour)
    assert proxy.requests[0].values("proxy-authorization") == ["Basic bWU6cGEgc3M="]
    assert "pa%20ss" not in str(caught.value)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_proxy_that_refuses_a_tunnel_means_nothing_was_sent(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults(http(b"", 403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(Exception, match="Nothing was sent") as caught:
            ask(model(proxy, base_url="https://segmind.invalid", max_retries=0), colour)
    assert proxy.requests[0].line.startswith("CONNECT segmind.invalid:443 ")
    assert proxy.requests[0].values("x-api-key") == []
    assert not caught.value.outcome_unknown  # type: ignore[attr-defined]


TLS_CALLER = """
import asyncio, sys
from langchain_segmind import ChatSegmindLlama, SegmindConnectionError
llm = ChatSegmindLlama(api_key="SG_0", base_url=sys.argv[1], max_retries=0)
print(llm.invoke("a").content, asyncio.run(llm.ainvoke("b")).content)
"""


def test_a_private_authority_is_trusted_through_ssl_cert_file(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    with faults(echo, tls=context) as server:
        url = server.url.replace("http:", "https:")
        trusting = run_python(TLS_CALLER, url, SSL_CERT_FILE=str(tmp_path / "cert"))
        wary = run_python(TLS_CALLER, url)
    assert trusting.stdout == "a b\n", trusting.stderr
    assert "SegmindConnectionError" in wary.stderr
    assert "Nothing was sent" in wary.stderr
    assert len(server.requests) == 2


# --- Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_an_ipv6_address_is_reached_and_named(colour: str) -> None:
    try:
        running = faults(host="::1")
        server = running.__enter__()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        ask(model(server, max_retries=0), colour)
    finally:
        running.__exit__(None, None, None)
    assert server.requests[0].values("host") == [f"[::1]:{server.port}"]


def test_no_warning_is_given_when_a_process_ends_without_closing() -> None:
    code = """
import asyncio, sys
from langchain_segmind import ChatSegmindLlama
llm = ChatSegmindLlama(api_key="SG_0", base_url=sys.argv[1])
print(llm.invoke("a").content, asyncio.run(llm.ainvoke("b")).content)
"""
    with faults(echo) as server, warnings.catch_warnings():
        ended = run_python(code, server.url, PYTHONWARNINGS="default::ResourceWarning")
    assert ended.stdout == "a b\n"
    assert "langchain_segmind" not in ended.stderr
    assert "Unclosed" not in ended.stderr
    assert json.dumps(ended.stderr).count("unclosed <socket") == 0
