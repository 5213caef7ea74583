"""Clients of the user's own: those of httpx and of httpx2 work alike."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from pydantic import ValidationError

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindAPIError,
    SegmindConnectionError,
    SegmindTimeoutError,
)
from tests.servers import (
    KEY,
    Received,
    Wire,
    delta,
    echo,
    events,
    faults,
    head,
    http,
    model,
    refused_url,
)

if TYPE_CHECKING:
    from tests.servers import FaultServer

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
KINDS = pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
SSE = "text/event-stream"


def ask(server: FaultServer, library: Any, kind: str, hooks: Any = None, **settings: Any) -> str:
    """Call, or stream, through a client of that library and kind."""
    hooks = {"response": [hooks]} if hooks else None

    def text(chunks: list[Any]) -> str:
        return "".join(chunk.content for chunk in chunks)

    async def collect() -> str:
        async with library.AsyncClient(event_hooks=hooks) as client:
            llm: ChatSegmindLlama = model(server, http_async_client=client, **settings)
            if llm.streaming:
                return text([chunk async for chunk in llm.astream("hi")])
            return str((await llm.ainvoke("hi")).content)

    if kind == "AsyncClient":
        return asyncio.run(collect())
    with library.Client(event_hooks=hooks) as client:
        llm: ChatSegmindLlama = model(server, http_client=client, **settings)
        return text(list(llm.stream("hi"))) if llm.streaming else str(llm.invoke("hi").content)


@LIBRARIES
@KINDS
def test_a_call_and_a_stream_are_answered(library: Any, kind: str) -> None:
    answer = http(events(delta("Hel"), delta("lo!", "stop")), content_type=SSE)
    with faults(echo, answer) as server:
        assert ask(server, library, kind) == "hi"
        assert ask(server, library, kind, streaming=True) == "Hello!"
        assert server.requests[0].values("user-agent") == ["langchain-segmind"]


@LIBRARIES
@KINDS
@pytest.mark.parametrize("of", [httpx, httpx2], ids=["Timeout of httpx", "Timeout of httpx2"])
def test_a_time_out_of_either_library_holds(of: Any, library: Any, kind: str) -> None:
    with faults(lambda _, wire: wire.hang()) as server:
        with pytest.raises(SegmindTimeoutError) as caught:
            ask(server, library, kind, timeout=of.Timeout(0.3, connect=5))
        assert caught.value.outcome_unknown


@LIBRARIES
@KINDS
def test_what_was_never_sent_is_told_as_that(library: Any, kind: str) -> None:
    with (
        faults() as server,
        pytest.raises(SegmindConnectionError, match="Nothing was sent") as caught,
    ):
        ask(server, library, kind, base_url=refused_url(), max_retries=0)
    assert not caught.value.outcome_unknown


def cut_short(_: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-length": "99"}) + b"{")
    wire.reset()


@LIBRARIES
@KINDS
def test_an_answer_that_breaks_may_have_been_billed(library: Any, kind: str) -> None:
    with faults(cut_short) as server:
        with pytest.raises(SegmindAPIError, match="cannot be used") as caught:
            ask(server, library, kind)
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown
    assert caught.value.status_code == 200


@LIBRARIES
@KINDS
def test_a_hook_that_raises_for_status_is_one_of_our_errors(library: Any, kind: str) -> None:
    async def acheck(response: Any) -> None:
        response.raise_for_status()

    check = acheck if kind == "AsyncClient" else lambda response: response.raise_for_status()
    with faults(http({"error": "no"}, 500)) as server, pytest.raises(SegmindAPIError) as caught:
        ask(server, library, kind, check, max_retries=0)
    assert caught.value.status_code == 500


ALIASED = """
import asyncio, sys
import httpx2
httpx2.alias_httpx()
import httpx
from langchain_segmind import ChatSegmindLlama, SegmindError
assert httpx is httpx2

def ask(url, **settings):
    llm = ChatSegmindLlama(api_key="SG_0123456789abcdef", base_url=url, max_retries=0, **settings)
    for call in (llm.invoke, lambda text: asyncio.run(llm.ainvoke(text))):
        try:
            print(call("hi").content)
        except SegmindError as error:
            print(type(error).__name__)

for url in sys.argv[1:]:
    ask(url)
    ask(url, http_client=httpx.Client(), timeout=httpx.Timeout(5))
"""


def test_an_application_may_have_aliased_httpx() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with faults(echo) as server:
        command = [sys.executable, "-c", ALIASED, server.url, refused_url()]
        ended = subprocess.run(
            command, env=env, text=True, capture_output=True, timeout=60, check=False
        )
    told = ["hi"] * 4 + ["SegmindConnectionError"] * 4
    assert (ended.stdout.split(), ended.stderr) == (told, "")


@LIBRARIES
@KINDS
def test_a_client_in_the_wrong_field_is_refused_before_a_call(library: Any, kind: str) -> None:
    """Also where a copy brings it, which pydantic does not check."""
    wrong, right = ("http_async_client", "http_client")[:: 1 if kind == "Client" else -1]
    words = f"an? {kind} goes into {right}"
    client = getattr(library, kind)()
    with pytest.raises(ValidationError, match=words):
        ChatSegmindLlama(api_key=KEY, **{wrong: client})
    llm = ChatSegmindLlama(api_key=KEY).model_copy(update={wrong: client})
    with pytest.raises(ValueError, match=words):
        llm.invoke("hi")
    client.close() if kind == "Client" else asyncio.run(client.aclose())


@pytest.mark.parametrize("client", [httpx2.Client, "http://proxy", object()])
@pytest.mark.parametrize("name", ["http_client", "http_async_client"])
def test_what_is_no_client_is_refused(name: str, client: object) -> None:
    with pytest.raises(ValidationError, match="Client of httpx2 or httpx, not "):
        ChatSegmindLlama(api_key=KEY, **{name: client})  # type: ignore[arg-type]
