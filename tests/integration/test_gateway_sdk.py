"""Segmind's own SDK is content with the local Segmind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

segmind = pytest.importorskip("segmind")

MODEL = "llama-v3p1-70b-instruct"
MESSAGES = [{"role": "user", "content": "now a joke on dogs"}]


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with serve() as running:
        yield running


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Any]:
    made = segmind.SegmindClient(api_key=gateway.api_key, base_url=f"{gateway.url}/v1")
    yield made
    made._client.close()


def test_chat_sync(client: Any) -> None:
    response = client.chat_sync(MODEL, messages=MESSAGES, temperature=0.5)

    assert response.text == "You said: now a joke on dogs"
    assert response.finish_reason == "stop"
    assert response.usage["total_tokens"] == 12


def test_chat_over_the_queue(gateway: RunningGateway, client: Any) -> None:
    response = client.chat(MODEL, messages=MESSAGES)

    assert response.text == "You said: now a joke on dogs"
    assert gateway.account.charge_count == 1


def test_a_failed_job(client: Any) -> None:
    job = client.submit_chat(MODEL, messages=[{"role": "tool", "content": "x"}])

    with pytest.raises(segmind.v2.InferenceFailed) as caught:
        job.wait(interval=0.01)
    assert caught.value.detail.startswith("messages[0].role")
    assert caught.value.status_body["status"] == "FAILED"
    assert "cost" not in job.job.result()["metrics"]


def test_a_wrong_key(gateway: RunningGateway) -> None:
    client = segmind.SegmindClient(api_key="SG_wrong", base_url=f"{gateway.url}/v1")

    with pytest.raises(segmind.SegmindError) as caught:
        client.chat_sync(MODEL, messages=MESSAGES)
    assert (caught.value.status, caught.value.detail) == (401, "Invalid API key")
    client._client.close()


def test_credits_through_its_http_client(client: Any) -> None:
    response = client._request("GET", "/get-user-credits")

    assert response.json() == {"credits": 10.0, "free-credits": 0.0}
