"""What tests put around HTTP: vcrpy, respx, and the mock transport of httpx2."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import respx
import vcr

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_segmind.gateway import Account

URL = "https://api.segmind.com/v1/llama-v3p1-70b-instruct"
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Paris"}}]}


@pytest.mark.parametrize("awaited", [False, True])
def test_vcrpy_replays_both_kinds_of_call(
    segmind_ledger: Account, tmp_path: Path, awaited: bool
) -> None:
    """A call that it did not see would be paid again at each replay."""
    for _ in range(2):
        with vcr.use_cassette(str(tmp_path / "tape.yaml"), filter_headers=["x-api-key"]):
            llm = ChatSegmindLlama()
            answer = asyncio.run(llm.ainvoke("Hi")) if awaited else llm.invoke("Hi")
        assert answer.content == "You said: Hi"
    assert segmind_ledger.charge_count == 1


@respx.mock
def test_respx_answers_a_client_of_httpx() -> None:
    """And sees what it was asked."""
    route = respx.post(URL).respond(json=ANSWER)
    with httpx.Client() as client:
        assert ChatSegmindLlama(api_key="SG_test", http_client=client).invoke("?").text == "Paris"
    assert route.calls.last.request.headers["x-api-key"] == "SG_test"


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_mock_transport_answers_awaited_calls(library: Any) -> None:
    """Of either library."""
    transport = library.MockTransport(lambda _: library.Response(200, json=ANSWER))
    async with library.AsyncClient(transport=transport) as client:
        llm = ChatSegmindLlama(api_key="SG_test", http_async_client=client)
        assert (await llm.ainvoke("?")).text == "Paris"


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("timeout", [5.0, None])
def test_a_client_and_its_timeout_are_taken(
    segmind_ledger: Account, library: Any, timeout: float | None
) -> None:
    """Over a real socket, too."""
    with library.Client(timeout=library.Timeout(timeout)) as client:
        assert ChatSegmindLlama(http_client=client).invoke("Hi").text == "You said: Hi"
    assert segmind_ledger.charge_count == 1
