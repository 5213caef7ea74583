"""What a test puts around HTTP sees every call, blocking and awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx
import httpx2
import pytest
import vcr  # type: ignore[import-untyped]
from vcr.errors import CannotOverwriteExistingCassetteException  # type: ignore[import-untyped]

from langchain_segmind import ChatSegmindLlama
from tests.servers import (
    COLOURS,
    KEY,
    ask,
    completion,
    delta,
    echo,
    events,
    faults,
    http,
    model,
    streamed,
)

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://api.segmind.com/v1/llama-v3p1-70b-instruct"


@pytest.mark.parametrize("colour", COLOURS)
def test_vcrpy_replays_what_it_recorded(colour: str, tmp_path: Path) -> None:
    """A call that it did not see would be paid again at each replay."""
    tape = vcr.VCR(filter_headers=["x-api-key"], match_on=["method", "uri", "body"])
    with faults(echo) as server:
        for _ in range(2):
            with tape.use_cassette(tmp_path / "tape.yaml"):
                assert ask(model(server), colour, "recorded").content == "recorded"
        assert len(server.requests) == 1
    assert KEY not in (tmp_path / "tape.yaml").read_text()


@pytest.mark.parametrize("colour", COLOURS)
def test_vcrpy_replays_a_stream(colour: str, tmp_path: Path) -> None:
    answer = http(events(delta("Hel"), delta("lo!", "stop")), content_type="text/event-stream")
    with faults(answer) as server:
        for _ in range(2):
            with vcr.use_cassette(tmp_path / "tape.yaml"):
                chunks = streamed(model(server, streaming=True), colour)
            assert "".join(chunk.content for chunk in chunks) == "Hello!"
        assert len(server.requests) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_vcrpy_lets_nothing_new_through_a_closed_cassette(colour: str, tmp_path: Path) -> None:
    with faults(echo) as server:
        with (
            vcr.use_cassette(tmp_path / "tape.yaml", record_mode="none"),
            pytest.raises(CannotOverwriteExistingCassetteException),
        ):
            ask(model(server), colour)
        assert server.requests == []


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_mock_transport_answers_both_kinds_of_call(library: Any) -> None:
    transport = library.MockTransport(lambda _: library.Response(200, json=completion("mocked")))
    with library.Client(transport=transport) as client:
        assert ChatSegmindLlama(api_key=KEY, http_client=client).invoke("hi").content == "mocked"

    async def call() -> object:
        async with library.AsyncClient(transport=transport) as client:
            return (
                await ChatSegmindLlama(api_key=KEY, http_async_client=client).ainvoke("hi")
            ).content

    assert asyncio.run(call()) == "mocked"


def test_respx_answers_for_httpx_clients_and_for_the_pool() -> None:
    respx = pytest.importorskip("respx")
    with respx.mock() as router, httpx.Client() as client:
        route = router.post(URL).respond(json=completion("routed"))
        assert ChatSegmindLlama(api_key=KEY, http_client=client).invoke("hi").content == "routed"
        assert route.call_count == 1
    respx.mocks.HTTPCoreMocker.add_targets("httpcore2.ConnectionPool")
    try:
        with respx.mock(using="httpcore") as router:
            route = router.post(URL).respond(json=completion("routed"))
            with ChatSegmindLlama(api_key=KEY) as llm:
                assert llm.invoke("hi").content == "routed"
            assert route.calls.last.request.headers["x-api-key"] == KEY
    finally:
        respx.mocks.HTTPCoreMocker.remove_targets("httpcore2.ConnectionPool")


def test_what_wraps_the_pool_sees_each_blocking_call(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    handle = httpcore2.ConnectionPool.handle_request

    def traced(pool: httpcore2.ConnectionPool, request: httpcore2.Request) -> httpcore2.Response:
        seen.append(request.url.target)
        return handle(pool, request)

    monkeypatch.setattr(httpcore2.ConnectionPool, "handle_request", traced)
    with faults() as server:
        ask(model(server), "sync")
    assert seen == [b"/v1/llama-v3p1-70b-instruct"]
