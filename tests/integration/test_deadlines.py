"""However an answer drips, a call ends about when its time-out says.

The one thing that does not hold: with an `httpx.Client` of the user's, blocking calls bound each
read of a head (or of chunk extensions) by the time-out, and not all of them together.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import socket
import time
from functools import partial
from typing import Any

import pytest

from langchain_segmind import SegmindError, SegmindTimeoutError
from langchain_segmind._protocol import retry
from langchain_segmind._protocol.types import Request, TransportFailure
from langchain_segmind._transport.driver import arun, run
from tests.flows import send
from tests.servers import (
    CHUNKED,
    COLOURS,
    SSE,
    TRANSPORTS,
    FaultServer,
    Received,
    Wire,
    ask,
    chunked,
    delta,
    events,
    faults,
    head,
    http,
    model,
    streamed,
    wait_for,
)

TIMEOUT = 0.5
LATEST = 3.0
"""Seconds that a busy machine may take on top."""


@pytest.fixture(scope="module", autouse=True)
def _aiohttp() -> None:
    """Import it before the first call, which might else outlast its deadline."""
    importlib.import_module("aiohttp")


def drip_head(_received: Received, wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nx-long: ")
    wire.drip(b"x")


def drip_body(_received: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-length": "100000"}))
    wire.drip(b" ")


def drip_chunks(_received: Received, wire: Wire) -> None:
    wire.send(head(200, CHUNKED))
    wire.drip(chunked(b" ", end=False))


def drip_extension(_received: Received, wire: Wire) -> None:
    wire.send(head(200, CHUNKED) + b"5;")
    wire.drip(b"x")


def drip_events(_received: Received, wire: Wire) -> None:
    wire.send(head(200, SSE))
    wire.drip(chunked(events(delta("x"), done=False), end=False))


def drip_comments(_received: Received, wire: Wire) -> None:
    wire.send(head(200, SSE))
    wire.drip(chunked(b": ping\n\n", end=False))


def hang(_received: Received, wire: Wire) -> None:
    wire.hang()


def drip_early_hints(_received: Received, wire: Wire) -> None:
    wire.drip(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def drip_error(_received: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-type": "text/html"}))
    wire.drip(b"<p>")


DRIPS = [drip_head, drip_body, drip_chunks, drip_extension, drip_events, drip_comments, hang]
DRIPS += [drip_early_hints, drip_error]
PER_READ_ONLY = [drip_head, drip_extension, drip_early_hints]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("drip", DRIPS)
def test_a_dripping_answer_ends_at_the_deadline(drip: Any, transport: str) -> None:
    if transport == "httpx" and drip in PER_READ_ONLY:
        pytest.skip("an injected blocking client bounds each read, not all of them together")
    began = time.monotonic()
    with faults(drip) as server:
        with pytest.raises(SegmindTimeoutError) as caught:
            ask(model(server, timeout=TIMEOUT), transport)
        assert time.monotonic() - began < LATEST
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("drip", DRIPS)
def test_a_dripping_stream_ends_at_the_deadline(drip: Any, colour: str) -> None:
    began = time.monotonic()
    with faults(drip) as server:
        with pytest.raises(SegmindTimeoutError) as caught:
            streamed(model(server, timeout=TIMEOUT, streaming=True), colour)
        assert time.monotonic() - began < LATEST
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_all_attempts_and_waits_share_one_deadline(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.05)

    def slow_error(_received: Received, _wire: Wire) -> bytes:
        time.sleep(0.05)
        return http({}, 500)

    began = time.monotonic()
    with faults(slow_error) as server:
        with pytest.raises(SegmindError):
            ask(model(server, timeout=TIMEOUT, max_retries=1000), transport)
        assert time.monotonic() - began < LATEST
        assert 1 < len(server.requests) < 20


@pytest.mark.parametrize("colour", COLOURS)
def test_nothing_is_sent_when_the_deadline_has_passed(colour: str) -> None:
    flow = send(Request("POST", "/v1/slug", b"{}", deadline=time.monotonic() - 1.0))
    with faults() as server, model(server) as llm:
        clients = llm._connected()
        outcome = run(flow, clients) if colour == "sync" else asyncio.run(arun(flow, clients))
        assert server.requests == []
    assert isinstance(outcome, TransportFailure)
    assert (outcome.kind, outcome.sent) == ("timeout", False)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_host_that_does_not_answer_is_told_as_nothing_sent(transport: str) -> None:
    """A full backlog drops what asks for a connection, as a firewall does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        # Connecting gives up long before the whole call does: of a tie nobody could tell.
        patience = (TIMEOUT, 20 * TIMEOUT)
        with faults() as server, pytest.raises(SegmindTimeoutError) as caught:
            ask(model(server, base_url=f"http://127.0.0.1:{port}", timeout=patience), transport)
        assert time.monotonic() - began < patience[1]
        for filler in fillers:
            filler.close()
    assert not caught.value.outcome_unknown
    assert "Nothing was sent" in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_prompt_nobody_reads_ends_at_the_deadline(transport: str) -> None:
    if transport == "httpx":
        pytest.skip("an injected blocking client bounds each write, not all of them together")
    began = time.monotonic()
    with faults(before_request=Wire.hang) as server:
        with pytest.raises(SegmindTimeoutError):
            ask(model(server, timeout=TIMEOUT), transport, "x" * 12_000_000)
        assert time.monotonic() - began < LATEST
        assert server.requests == []
    # aiohttp lets go of what it could not send only when the loop has; its warning belongs here.
    gc.collect()


def has_requests(server: FaultServer, count: int) -> bool:
    return len(server.requests) == count


async def test_a_cancelled_call_frees_its_connection_and_leaves_the_model_usable() -> None:
    with faults(hang, hang, http()) as server:
        async with model(server) as llm:
            for count in (1, 2):
                task = asyncio.create_task(llm.ainvoke("hi"))
                await asyncio.to_thread(wait_for, partial(has_requests, server, count))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (await llm.ainvoke("hi")).content == "Hello!"
            server.closing.set()
            await asyncio.to_thread(wait_for, lambda: len(server.open_connections) == 1)


async def test_a_users_own_time_out_around_a_call_works() -> None:
    with faults(hang, http()) as server:
        async with model(server) as llm:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(llm.ainvoke("hi"), 0.5)
            assert (await llm.ainvoke("hi")).content == "Hello!"
