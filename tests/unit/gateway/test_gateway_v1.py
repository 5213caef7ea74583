"""The blocking path: one POST, one answer."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind.gateway import EngineError, ScriptedEngine, Settings, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

PATH = "/v1/llama-v3p1-70b-instruct"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "now a joke on dogs"}]}


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with serve() as running:
        yield running


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with client_of(gateway) as opened:
        yield opened


def client_of(gateway: RunningGateway) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.api_key})


class TestAnswer:
    def test_has_the_shape_of_a_chat_completion(self, client: httpx.Client) -> None:
        answer = client.post(PATH, json=BODY).json()

        assert answer == {
            "id": answer["id"],
            "object": "chat.completion",
            "created": answer["created"],
            "model": "llama-v3p1-70b-instruct",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "You said: now a joke on dogs"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        }

    def test_accounts_in_its_headers(self, gateway: RunningGateway, client: httpx.Client) -> None:
        headers = client.post(PATH, json={**BODY, "seed": 7}).headers

        assert float(headers["x-cost"]) == pytest.approx(12 * 0.9e-6)
        assert float(headers["x-remaining-credits"]) == pytest.approx(10 - 12 * 0.9e-6)
        assert float(headers["x-generation-time"]) >= 0
        assert headers["x-seed-value"] == "7"
        assert gateway.account.billed_ids == [headers["x-request-id"]]

    def test_a_flat_prompt_is_a_message_of_the_user(self, client: httpx.Client) -> None:
        answer = client.post(PATH, json={"prompt": "hello"}).json()

        assert answer["choices"][0]["message"]["content"] == "You said: hello"

    def test_stream_is_ignored(self, client: httpx.Client) -> None:
        response = client.post(PATH, json={**BODY, "stream": True})

        assert response.headers["content-type"] == "application/json"
        assert response.json()["choices"][0]["finish_reason"] == "stop"

    def test_a_lone_surrogate_survives(self, client: httpx.Client) -> None:
        raw = b'{"messages": [{"role": "user", "content": "\\ud83d"}]}'
        response = client.post(PATH, content=raw, headers={"content-type": "application/json"})

        assert response.json()["choices"][0]["message"]["content"] == "You said: \ud83d"


class TestForwarding:
    def test_tools_do_not_reach_the_model_and_other_fields_do(
        self, gateway: RunningGateway, client: httpx.Client
    ) -> None:
        engine = ScriptedEngine(lambda _: "fine")
        gateway.engine = engine
        sent = {**BODY, "temperature": 0.5, "seed": 1, "top_k": 3, "stop": ["x"], "top_p": None}
        client.post(PATH, json={**sent, "tools": [{}], "tool_choice": "auto", "stream": True})

        expected = {key: value for key, value in sent.items() if value is not None}
        assert engine.bodies == [{**expected, "model": "llama-v3p1-70b-instruct"}]

    def test_the_ledger_has_the_body_as_it_came(
        self, gateway: RunningGateway, client: httpx.Client
    ) -> None:
        client.post(PATH, json={**BODY, "tools": []})

        assert [post.path for post in gateway.account.posts] == [PATH]
        assert gateway.account.posts[0].json() == {**BODY, "tools": []}
        assert "x-api-key" not in gateway.account.posts[0].headers

    def test_any_json_of_the_provider_is_passed_on(
        self, gateway: RunningGateway, client: httpx.Client
    ) -> None:
        gateway.engine = ScriptedEngine(lambda _: {"choices": []})

        assert client.post(PATH, json=BODY).json() == {"choices": []}


class TestLimit:
    def test_a_slow_call_fails_and_is_not_billed(self) -> None:
        async def sleep(_: dict[str, Any]) -> str:
            await asyncio.sleep(5)
            return "late"

        settings = Settings(v1_limit=0.02)
        with serve(settings, ScriptedEngine(sleep)) as gateway, client_of(gateway) as client:
            response = client.post(PATH, json=BODY)

        assert response.status_code == 500
        assert response.json() == {"error": "Internal Polling Error"}
        assert gateway.account.charge_count == 0

    def test_calls_run_side_by_side(self, gateway: RunningGateway) -> None:
        """Four calls wait for each other, which only works when all of them run."""
        barrier = asyncio.Barrier(4)

        async def meet(_: dict[str, Any]) -> str:
            await barrier.wait()
            return "met"

        gateway.engine = ScriptedEngine(meet)
        with client_of(gateway) as client, ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: client.post(PATH, json=BODY), range(4)))

        assert [answer.status_code for answer in answers] == [200] * 4

    def test_stopping_answers_the_call_under_way(self) -> None:
        started = threading.Event()

        async def hang(_: dict[str, Any]) -> str:
            started.set()
            await asyncio.sleep(60)
            return "never"

        with ThreadPoolExecutor(1) as threads:
            with serve(engine=ScriptedEngine(hang)) as gateway:
                answer = threads.submit(
                    httpx.post,
                    gateway.url + PATH,
                    json=BODY,
                    headers={"x-api-key": gateway.api_key},
                )
                started.wait()
            assert answer.result().status_code == 503
        assert gateway.account.charge_count == 0


class TestEngineTrouble:
    def test_an_engine_error_keeps_its_status(
        self, gateway: RunningGateway, client: httpx.Client
    ) -> None:
        def refuse(_: dict[str, Any]) -> str:
            raise EngineError(400, "This model's maximum context length is 8192 tokens.")

        gateway.engine = ScriptedEngine(refuse)
        response = client.post(PATH, json=BODY)

        assert response.status_code == 400
        assert response.json() == {"error": "This model's maximum context length is 8192 tokens."}

    def test_a_crash_is_a_server_error(
        self, gateway: RunningGateway, client: httpx.Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        gateway.engine = ScriptedEngine(lambda _: 1 / 0)
        response = client.post(PATH, json=BODY)

        assert response.status_code == 500
        assert response.json() == {"error": "Server had some issue with processing"}
        assert "ZeroDivisionError" in caplog.text
        assert gateway.account.charge_count == 0
