"""What a hostile gateway can make us do, tried over sockets: each attack has a bound and an error.

Its relatives: `test_broken_answers` (bodies), `test_deadlines` (slowness), `test_event_streams`,
`test_leaks` (the key), `test_statuses` (redirects of v1).
"""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindConnectionError,
    SegmindError,
    SegmindResponseError,
    SegmindTimeoutError,
)
from langchain_segmind._protocol import retry
from langchain_segmind._protocol.responses import MOST_CHOICES
from langchain_segmind._transport.content_encoding import MAX_BODY
from tests.servers import (
    CHUNKED,
    COLOURS,
    KEY,
    SSE,
    TRANSPORTS,
    FaultServer,
    Received,
    Wire,
    ask,
    chunked,
    completion,
    delta,
    events,
    faults,
    head,
    http,
    model,
    streamed,
    wait_for,
)

TIMEOUT = 0.3
IN_SOCKETS = 16 * 1024 * 1024
"""What the buffers of the two sockets hold, at most, of what was sent and not read."""


# --- Floods: as much as the line carries, and more ------------------------------------------------


def flood(start: bytes, unit: bytes) -> Any:
    def answer(_received: Received, wire: Wire) -> None:
        wire.send(start)
        wire.drip(unit * (65536 // len(unit)), pause=0)

    return answer


OK_LINE = b"HTTP/1.1 200 OK\r\n"
UNREADABLE = {
    "headers": flood(OK_LINE, b"x-a: b\r\n"),
    "one header": flood(OK_LINE + b"x-a: ", b"b"),
    "a status line": flood(b"HTTP/1.1 200 ", b"b"),
    "nulls": flood(b"", b"\0"),
    "a body": flood(head(200, {"content-length": "99999999999"}), b" "),
    "a body without a length": flood(head(200), b" "),
    "chunks": flood(head(200, CHUNKED), chunked(b" " * 4096, end=False)),
    "a chunk's size": flood(head(200, CHUNKED), b"f"),
    "comments of a stream": flood(head(200, SSE), chunked(b": ping\n" * 9000, end=False)),
}
ENDLESS = {
    "early hints": flood(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "a chunk extension": flood(head(200, CHUNKED) + b"5;", b"x"),
    "trailers": flood(head(200, CHUNKED) + b"0\r\n", b"x-a: b\r\n"),
}


@pytest.mark.parametrize("colour", COLOURS)
def test_a_chunk_that_breaks_later_than_the_head_ends_the_call(colour: str) -> None:
    """Who waits for the rest of a body hears of it at once, not at the time-out."""
    begun = threading.Event()

    def answer(_received: Received, wire: Wire) -> None:
        wire.send(head(200, SSE) + chunked(events(delta("Hel"), done=False), end=False))
        begun.wait(20)
        wire.send(b"no size\r\n")
        wire.hang()

    with faults(answer) as server, pytest.raises(SegmindResponseError):
        read_on(model(server, timeout=60), colour, begun)


def read_on(llm: ChatSegmindLlama, colour: str, begun: threading.Event) -> None:
    """Stream in either colour; say when there is a first chunk."""
    if colour == "sync":
        with llm:
            for _ in llm.stream("hi"):
                begun.set()
        return

    async def collect() -> None:
        async for _ in llm.astream("hi"):
            begun.set()

    asyncio.run(collect())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_flood_is_refused_before_it_fills_the_memory(name: str, transport: str) -> None:
    """The time-out is far away: what ends the call is the number of bytes."""
    with faults(UNREADABLE[name]) as server:
        with pytest.raises((SegmindResponseError, SegmindConnectionError)) as caught:
            ask(model(server, timeout=60), transport)
        assert len(server.requests) == 1
    assert server.sent < MAX_BODY + IN_SOCKETS
    assert caught.value.outcome_unknown
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ENDLESS)
def test_a_flood_that_fills_nothing_ends_at_the_deadline_at_the_latest(
    name: str, transport: str
) -> None:
    if transport == "httpx" and name == "early hints":
        pytest.skip("an injected blocking client bounds each read, not all of them together")
    with faults(ENDLESS[name]) as server:
        with pytest.raises((SegmindTimeoutError, SegmindResponseError, SegmindConnectionError)):
            ask(model(server, timeout=TIMEOUT), transport)
        assert len(server.requests) <= 1


@pytest.mark.parametrize("colour", COLOURS)
def test_more_choices_than_anybody_asks_for_are_no_answer(colour: str) -> None:
    """Each would become a message: a megabyte of them, some two hundred megabytes."""
    many = {"choices": completion()["choices"] * (MOST_CHOICES + 1)}
    with faults(http(many)) as server, pytest.raises(SegmindResponseError, match="129 choices"):
        ask(model(server), colour)


# --- Surplus: an answer nobody asked for must not be that of the next call ------------------------


def surplus(later: bytes, *, at_once: bool) -> Any:
    def answer(_received: Received, wire: Wire) -> bytes | None:
        if at_once:
            return http(completion("first")) + later
        wire.send(http(completion("first")))
        wire.send(later)
        return None

    return answer


SURPLUS = {
    "an answer": http(completion("smuggled")),
    "half an answer": http(completion("smuggled"))[:40],
    "an error": http({"error": "no"}, 401),
}


async def both(llm: ChatSegmindLlama, server: FaultServer, colour: str) -> list[object]:
    """Call twice on one event loop; before the second call, what was sent has arrived."""
    contents: list[object] = []
    for _ in range(2):
        call = asyncio.to_thread(llm.invoke, "hi") if colour == "sync" else llm.ainvoke("hi")
        contents.append((await call).content)
        await asyncio.to_thread(wait_for, lambda: not server.answering)
    return contents


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("name", SURPLUS)
async def test_surplus_is_not_the_answer_of_the_next_call(
    name: str,
    at_once: bool,
    colour: str,
) -> None:
    with faults(surplus(SURPLUS[name], at_once=at_once), http(completion("second"))) as server:
        async with model(server, max_retries=0) as llm:
            assert await both(llm, server, colour) == ["first", "second"]


# --- Elsewhere: neither the key nor a cookie leaves ----------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_url_that_a_job_names_is_followed(transport: str) -> None:
    with faults() as other, ExitStack() as stack:
        at = f"{other.url}/v2/requests/r-1"
        urls = {"poll_url": at, "status_url": at, "response_url": at}
        submitted = http({"request_id": "r-1", "status": "QUEUED", **urls})
        moved = http(b"", 307, {"location": at})
        done = http({"status": "COMPLETED", "output": "Hi!", **urls})
        server = stack.enter_context(faults(submitted, moved, done))
        llm = model(server, queue=True, poll_interval=0.01)
        assert ask(llm, transport).content == "Hi!"
        assert other.connections == 0
        assert {sent.values("x-api-key")[0] for sent in server.requests} == {KEY}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "request_id",
    [
        *("../../v1/get-user-credits", "..", "a/b", "//elsewhere.example/", "a?b", "a#b", "a%2e"),
        *("a\r\nx-b: c", "a\0", " ", "", "é", "x" * 100_000, ".hidden", None, 7, ["a"], {"a": 1}),
    ],
)
def test_an_id_that_climbs_is_not_asked_for(request_id: object, colour: str) -> None:
    with faults(http({"request_id": request_id, "status": "QUEUED"})) as server:
        with pytest.raises(SegmindResponseError, match="request_id") as caught:
            ask(model(server, queue=True), colour)
        assert len(server.requests) == 1
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("colour", COLOURS)
async def test_no_cookie_is_kept(colour: str) -> None:
    cookie = {"set-cookie": "track=me; Path=/; Domain=localhost"}
    with faults(http(headers=cookie)) as server:
        async with model(server) as llm:
            await both(llm, server, colour)
        assert len(server.requests) == 2
        assert server.requests[1].values("cookie") == []


# --- Numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", ["retry-after", "x-rate-limit-reset-at-utc"])
@pytest.mark.parametrize("value", ["-1e300", "nan", "inf", "9" * 4000, "1e300", "0x7", "-0", ""])
def test_no_wait_that_a_429_asks_for_makes_us_spin_or_sleep(
    value: str, name: str, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.01)
    with faults(http({"error": "slow down"}, 429, {name: value})) as server:
        with pytest.raises(SegmindError) as caught:
            ask(model(server, max_retries=1), colour)
        assert len(server.requests) <= 2
    wait = caught.value.retry_after
    assert wait is None or wait >= 0
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e308", "1" + "0" * 4000, '"x"', "[]"])
def test_a_balance_that_is_none_is_not_believed(value: str, colour: str) -> None:
    body = f'{{"credits": {value}, "free-credits": {value}}}'.encode()
    with faults(http(body)) as server, model(server) as llm:
        with pytest.raises(SegmindResponseError, match="no balance"):
            llm.get_credits() if colour == "sync" else asyncio.run(llm.aget_credits())
        assert len(server.requests) == 1


# --- The queue -----------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_a_job_that_flickers_ends_at_its_deadline(colour: str) -> None:
    """Completed when asked after, running when fetched: that must not keep us busy."""

    def answer(received: Received, _wire: Wire) -> bytes:
        if received.line.startswith("POST"):
            return http({"request_id": "r-1"})
        is_poll = "/status " in received.line
        return http({"status": "COMPLETED" if is_poll else "PROCESSING"})

    with faults(answer) as server:
        with pytest.raises(SegmindTimeoutError) as caught:
            ask(model(server, queue=True, queue_timeout=0.5, poll_interval=0.1), colour)
        assert len(server.requests) < 40
    assert caught.value.request_id == "r-1"


# --- The key -------------------------------------------------------------------------------------


def hang(_received: Received, wire: Wire) -> None:
    wire.hang()


@pytest.mark.parametrize("transport", ["async", "async httpx"])
async def test_a_cancelled_call_tells_no_key_in_its_frames(transport: str) -> None:
    """Error reporters send the locals of every frame; aiohttp's hold the headers."""
    async with httpx.AsyncClient() as client:
        with faults(hang) as server:
            given = {"http_async_client": client} if transport == "async httpx" else {}
            async with model(server, **given) as llm:
                call = asyncio.create_task(llm.ainvoke("hi"))
                await asyncio.to_thread(wait_for, lambda: bool(server.requests))
                call.cancel()
                with pytest.raises(asyncio.CancelledError) as caught:
                    await call
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in told.stack if frame.filename != __file__]
    assert frames
    assert KEY not in repr([frame.locals for frame in frames])


@pytest.mark.parametrize("status", [200, 401])
def test_a_trace_tells_no_key(status: int) -> None:
    """What LangSmith would be sent: inputs, parameters, metadata and the error."""
    traced = RunCollectorCallbackHandler()
    body = {"error": KEY} if status == 401 else completion(id=KEY)
    with faults(http(body, status, {"x-request-id": KEY})) as server, model(server) as llm:
        bound = llm.with_config(callbacks=[traced])
        if status == 200:
            bound.invoke("hi")
        else:
            with pytest.raises(SegmindError):
                bound.invoke("hi")
    [run] = traced.traced_runs
    assert KEY not in json.dumps(run.model_dump(), default=repr)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_tunnel_is_asked_for_without_the_key(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is told the host, and sees nothing of what goes there over TLS."""
    with faults(http(b"", 403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(SegmindConnectionError):
            ask(model(proxy, base_url="https://segmind.invalid", max_retries=0), colour)
    assert proxy.requests[0].line.startswith("CONNECT segmind.invalid:443")
    assert KEY not in repr(proxy.requests)


def test_a_key_that_would_go_in_the_clear_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="unencrypted") as caught:
        ChatSegmindLlama(api_key=KEY, base_url="http://api.segmind.com")
    assert len(caught) == 1
    assert KEY not in str(caught[0].message)


# --- Streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", ["comments of a stream", "chunks", "headers"])
def test_a_flood_of_a_stream_is_refused(name: str, colour: str) -> None:
    with faults(UNREADABLE[name]) as server:
        with pytest.raises((SegmindResponseError, SegmindConnectionError)) as caught:
            streamed(model(server, streaming=True, timeout=60), colour)
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown
