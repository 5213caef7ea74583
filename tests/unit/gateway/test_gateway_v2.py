"""The queue: submit, poll, fetch."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind.gateway import ScriptedEngine, Settings, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

PATH = "/v2/llama-v3p1-70b-instruct"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


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


def finish(client: httpx.Client, job: dict[str, Any]) -> httpx.Response:
    """Poll until the job is done."""
    while client.get(job["status_url"]).json()["status"] in {"QUEUED", "PROCESSING"}:
        time.sleep(0.001)
    return client.get(job["response_url"])


class TestSubmit:
    def test_names_the_job_and_its_urls(
        self, gateway: RunningGateway, client: httpx.Client
    ) -> None:
        response = client.post(PATH, json=BODY)
        job = response.json()

        result = f"{gateway.url}/v2/requests/{job['request_id']}"
        assert job == {
            "request_id": response.headers["x-request-id"],
            "status": "QUEUED",
            "poll_url": f"{result}/status",
            "status_url": f"{result}/status",
            "response_url": result,
        }


class TestJob:
    def test_completes(self, gateway: RunningGateway, client: httpx.Client) -> None:
        job = client.post(PATH, json=BODY).json()
        response = finish(client, job)
        result = response.json()

        assert response.status_code == 200
        assert (result["status"], result["error"]) == ("COMPLETED", None)
        completion = json.loads(result["output"])
        assert completion["choices"][0]["message"]["content"] == "You said: hi"
        assert result["metrics"]["cost"] == pytest.approx(4 * 0.9e-6)
        assert result["metrics"]["remaining_credits"] == gateway.account.remaining
        assert sorted(result["metrics"]) == [
            "cost",
            "inference_time",
            "queue_time",
            "remaining_credits",
            "retry_count",
            "total_time",
        ]
        assert gateway.account.billed_ids == [job["request_id"]]

    def test_its_status_has_no_output(self, client: httpx.Client) -> None:
        job = client.post(PATH, json=BODY).json()
        finish(client, job)
        status = client.get(job["poll_url"]).json()

        assert sorted(status) == ["metrics", "request_id", "status"]
        assert status["status"] == "COMPLETED"

    def test_waits_then_runs_then_ends(self) -> None:
        """One worker: the first job is PROCESSING while the second is QUEUED."""
        release = threading.Event()

        async def hold(_: dict[str, Any]) -> str:
            await asyncio.to_thread(release.wait)
            return "done"

        settings = Settings(workers=1)
        with serve(settings, ScriptedEngine(hold)) as gateway, client_of(gateway) as client:
            jobs = [client.post(PATH, json=BODY).json() for _ in range(2)]
            states = [client.get(job["status_url"]).json()["status"] for job in jobs]
            early = client.get(jobs[0]["response_url"])
            release.set()
            ends = [finish(client, job).json()["status"] for job in jobs]

        assert states == ["PROCESSING", "QUEUED"]
        assert (early.status_code, early.json()["output"]) == (200, None)
        assert ends == ["COMPLETED", "COMPLETED"]

    @pytest.mark.parametrize(
        ("raw", "error"),
        [
            (b"{", "The request body is not valid JSON"),
            (b"{}", "'messages' is required"),
            (b'{"prompt": "x", "temperature": 9}', "Invalid value for temperature: 9"),
        ],
    )
    def test_a_bad_body_is_found_when_it_runs(
        self, gateway: RunningGateway, client: httpx.Client, raw: bytes, error: str
    ) -> None:
        submitted = client.post(PATH, content=raw, headers={"content-type": "application/json"})
        result = finish(client, submitted.json())
        status = client.get(submitted.json()["status_url"])

        assert submitted.status_code == 200
        assert (result.status_code, status.status_code) == (422, 422)
        assert (status.json()["status"], status.json()["error"]) == ("FAILED", error)
        assert (result.json()["status"], result.json()["error"]) == ("FAILED", error)
        assert not {"cost", "remaining_credits"} & set(result.json()["metrics"])
        assert gateway.account.charge_count == 0

    def test_jobs_can_be_made_to_fail(self) -> None:
        with serve(Settings(failing_jobs_rate=1.0)) as gateway, client_of(gateway) as client:
            result = finish(client, client.post(PATH, json=BODY).json())

        assert (result.status_code, result.json()["error"]) == (422, "Inference failed")

    def test_is_not_held_to_the_limit_of_v1(self) -> None:
        async def slow(_: dict[str, Any]) -> str:
            await asyncio.sleep(0.03)
            return "done"

        settings = Settings(v1_limit=0.001)
        with serve(settings, ScriptedEngine(slow)) as gateway, client_of(gateway) as client:
            assert finish(client, client.post(PATH, json=BODY).json()).status_code == 200


class TestExpiry:
    def test_a_job_is_forgotten_after_an_hour(self) -> None:
        now = [1000.0]
        with serve(clock=lambda: now[0]) as gateway, client_of(gateway) as client:
            job = client.post(PATH, json=BODY).json()
            finish(client, job)
            now[0] += 3599
            before = client.get(job["response_url"]).status_code
            now[0] += 1
            after = [client.get(job[url]) for url in ("status_url", "response_url")]

        assert before == 200
        assert [response.status_code for response in after] == [404, 404]
        assert after[0].json() == {"error": f"Request {job['request_id']} not found"}
        assert len(gateway.jobs) == 0

    def test_an_unknown_job(self, client: httpx.Client) -> None:
        response = client.get("/v2/requests/nope")

        assert response.status_code == 404
        assert response.json() == {"error": "Request nope not found"}
