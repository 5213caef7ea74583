"""What goes wrong on purpose."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind.gateway import Faults, Settings, serve
from langchain_segmind.gateway.faults import FaultSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

SLUG = "llama-v3p1-70b-instruct"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def faulty(
    posts: Faults | None = None, polls: Faults | None = None
) -> Iterator[tuple[RunningGateway, httpx.Client]]:
    settings = Settings(post_faults=posts or Faults(), poll_faults=polls or Faults())
    with (
        serve(settings) as gateway,
        httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.api_key}) as client,
    ):
        yield gateway, client


class TestDraws:
    def test_a_seed_repeats_them(self) -> None:
        faults = Faults(error_rate=0.3, drop_before_rate=0.2, malformed_rate=0.1)
        one, two = FaultSource(faults, 1), FaultSource(faults, 1)

        assert [one.draw() for _ in range(100)] == [two.draw() for _ in range(100)]

    def test_rates_are_kept(self) -> None:
        source = FaultSource(Faults(error_rate=0.3, half_body_rate=0.2), 1)
        drawn = [source.draw() for _ in range(2000)]

        assert drawn.count("error") == pytest.approx(600, abs=60)
        assert drawn.count("half_body") == pytest.approx(400, abs=60)
        assert drawn.count(None) == pytest.approx(1000, abs=80)

    @pytest.mark.parametrize("bad", [{"error_rate": 1.1}, {"error_rate": -1}, {"latency": -1}])
    def test_nonsense_is_refused(self, bad: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="between 0 and 1"):
            Faults(**bad)


@pytest.mark.parametrize("version", ["v1", "v2"])
class TestPosts:
    def test_an_error_is_answered_and_not_billed(self, version: str) -> None:
        with faulty(Faults(error_rate=1.0)) as (gateway, client):
            responses = [client.post(f"/{version}/{SLUG}", json=BODY) for _ in range(20)]

        assert {response.status_code for response in responses} == {500, 502, 503}
        assert [list(response.json()) for response in responses] == [["error"]] * 20
        assert (gateway.account.post_count, gateway.account.charge_count) == (20, 0)

    def test_a_proxy_gives_up_on_what_is_billed_all_the_same(self, version: str) -> None:
        """The reason why such an answer must not be sent again."""
        with faulty(Faults(proxy_timeout_rate=1.0)) as (gateway, client):
            responses = [client.post(f"/{version}/{SLUG}", json=BODY) for _ in range(40)]
            while gateway.account.charge_count < 40:
                client.get("/v1/get-user-credits")

        assert {response.status_code for response in responses} == {502, 504, 520, 522, 524}
        assert {response.headers["content-type"] for response in responses} == {
            "text/html; charset=utf-8"
        }
        assert "x-request-id" not in responses[0].headers

    def test_dropped_before_is_not_processed(self, version: str) -> None:
        with (
            faulty(Faults(drop_before_rate=1.0)) as (gateway, client),
            pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)),
        ):
            client.post(f"/{version}/{SLUG}", json=BODY)

        assert (gateway.account.post_count, gateway.account.charge_count) == (1, 0)
        assert len(gateway.jobs) == 0

    def test_dropped_after_is_processed(self, version: str) -> None:
        with faulty(Faults(drop_after_rate=1.0)) as (gateway, client):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                client.post(f"/{version}/{SLUG}", json=BODY)
            assert gateway.account.charge_count + len(gateway.jobs) >= 1

    def test_half_a_body_is_cut_off(self, version: str) -> None:
        with faulty(Faults(half_body_rate=1.0)) as (gateway, client):
            with client.stream("POST", f"/{version}/{SLUG}", json=BODY) as response:
                assert response.status_code == 200
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    response.read()
            assert gateway.account.charge_count + len(gateway.jobs) >= 1

    def test_a_malformed_body_is_no_completion(self, version: str) -> None:
        with faulty(Faults(malformed_rate=1.0)) as (_, client):
            bodies = {client.post(f"/{version}/{SLUG}", json=BODY).content for _ in range(20)}

        assert {b"", b"null"} < bodies
        assert len(bodies) == 4


class TestPolls:
    def test_faults_of_polls_spare_the_posts(self) -> None:
        with faulty(polls=Faults(error_rate=1.0)) as (_, client):
            job = client.post(f"/v2/{SLUG}", json=BODY)
            polls = [client.get(job.json()[url]) for url in ("status_url", "response_url")]

        assert job.status_code == 200
        assert all(poll.status_code >= 500 for poll in polls)

    def test_latency_holds_up_nobody_else(self) -> None:
        with faulty(polls=Faults(latency=0.02)) as (_, client):
            response = client.get("/v2/requests/nope")

        assert response.status_code == 404
        assert response.elapsed.total_seconds() >= 0.02


class TestQuiet:
    def test_a_dropped_connection_logs_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        faults = Faults(drop_before_rate=0.4, drop_after_rate=0.3, half_body_rate=0.3)
        with faulty(faults) as (_, client):
            for _ in range(10):
                with pytest.raises(httpx.TransportError):
                    client.post(f"/v1/{SLUG}", json=BODY)

        assert caplog.records == []
