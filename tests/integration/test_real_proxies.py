"""Calls through nginx and squid: what real proxies do to money, connections and passwords."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindAPIError,
    SegmindConnectionError,
    SegmindError,
)
from langchain_segmind.gateway import (
    DEFAULT_API_KEY,
    EchoEngine,
    Faults,
    RunningGateway,
    Settings,
    serve,
)
from tests.leaks import everything_told_by
from tests.proxies import PASSWORD, USER, RunningProxy, make_authority, run_nginx, run_squid
from tests.servers import COLOURS, ask, refused_url, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = "slow"
IMPATIENT = "proxy_read_timeout 500ms"


class SlowEngine(EchoEngine):
    """An echo that takes longer for some than a proxy waits."""

    async def complete(self, body: dict[str, Any]) -> Any:
        if SLOW in body["messages"][0]["content"]:
            await asyncio.sleep(1.2)
        return await super().complete(body)


def model(url: str, **settings: Any) -> ChatSegmindLlama:
    return ChatSegmindLlama(api_key=DEFAULT_API_KEY, base_url=url, timeout=10, **settings)


def call_all(llm: ChatSegmindLlama, colour: str, prompts: list[Any]) -> list[Any]:
    config: Any = {"max_concurrency": 20}
    if colour == "sync":
        with llm:
            return llm.batch(prompts, config, return_exceptions=True)
    return asyncio.run(llm.abatch(prompts, config, return_exceptions=True))


def prompts_of(bodies: list[Any]) -> list[str]:
    return sorted(body["messages"][0]["content"] for body in bodies)


def assert_each_was_paid_once(gateway: RunningGateway, prompts: list[str]) -> None:
    """Wait for what a proxy no longer waits for, and compare posts and bill with the calls."""
    wait_for(lambda: gateway.account.charge_count >= len(prompts))
    assert prompts_of([post.json() for post in gateway.account.posts]) == sorted(prompts)
    assert prompts_of(gateway.account.billed_bodies) == sorted(prompts)


def assert_may_be_billed(error: Any) -> None:
    assert isinstance(error, SegmindAPIError)
    assert (error.status_code, error.outcome_unknown, error.is_retryable) == (504, True, False)
    assert "A proxy, not Segmind, answered 504" in str(error)
    assert "may have reached a model and been billed" in str(error)
    assert "not billed" not in str(error)


# --- nginx, in front of Segmind ------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_what_nginx_no_longer_waits_for_is_posted_once_and_billed(colour: str) -> None:
    slow = [f"{SLOW} {number}" for number in range(20)]
    quick = [f"quick {number}" for number in range(20)]
    with serve(engine=SlowEngine()) as gateway, run_nginx(gateway.url, IMPATIENT) as nginx:
        outcomes = call_all(model(nginx.url), colour, slow + quick)
        assert_each_was_paid_once(gateway, slow + quick)
        wait_for(lambda: len(nginx.requests()) == len(outcomes))
    for error in outcomes[:20]:
        assert_may_be_billed(error)
    assert [answer.text for answer in outcomes[20:]] == [f"You said: {each}" for each in quick]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_submit_that_nginx_no_longer_waits_for_is_posted_once(colour: str) -> None:
    prompts = [f"job {number}" for number in range(20)]
    late = Settings(post_faults=Faults(latency=1.2))
    with serve(late) as gateway, run_nginx(gateway.url, IMPATIENT) as nginx:
        llm = model(nginx.url, queue=True)
        outcomes = call_all(llm, colour, prompts)
        assert_each_was_paid_once(gateway, prompts)
    for error in outcomes:
        assert_may_be_billed(error)
        assert error.request_id is None


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("queue", [False, True])
def test_the_page_of_nginx_for_a_server_that_is_down_is_of_unknown_outcome(
    queue: bool, colour: str
) -> None:
    """It shows the same one where the server took the request and then died."""
    with run_nginx(refused_url()) as nginx:
        llm = model(nginx.url, queue=queue)
        with pytest.raises(SegmindAPIError, match="A proxy, not Segmind, answered 502: ") as caught:
            ask(llm, colour)
        wait_for(lambda: len(nginx.requests()) == 1)
    assert caught.value.outcome_unknown
    assert "<" not in str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trust an authority of our own; give a server's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates[0]))
    return certificates[1]


KEPT = 0.2
"""Seconds that nginx keeps an idle connection."""
PAUSES = [KEPT + step * 0.01 for step in (-4, -3, -2, -1, 0, 1, 2, 3, 4)]


async def test_bursts_of_awaited_calls_lose_none_to_connections_that_nginx_closes(
    trusted: Path, gateway: RunningGateway
) -> None:
    """Each burst begins about when nginx closes the connections of the one before."""
    answers: list[Any] = []
    with run_nginx(
        gateway.url, f"keepalive_timeout {KEPT * 1000:.0f}ms", certificate=trusted
    ) as nginx:
        async with model(nginx.url, max_retries=0) as llm:
            for pause in [*PAUSES, 0]:
                calls = (llm.ainvoke("hi") for _ in range(40))
                answers += await asyncio.gather(*calls, return_exceptions=True)
                await asyncio.sleep(pause)
    lost = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) == 400
    assert len(lost) <= 1, lost
    assert all(isinstance(error, SegmindError) and error.outcome_unknown for error in lost)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_private_authority_is_trusted_where_ssl_cert_file_names_it(
    colour: str, trusted: Path, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_nginx(gateway.url, certificate=trusted) as nginx:
        assert ask(model(nginx.url), colour).text == "You said: hi"
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(SegmindConnectionError, match="Nothing was sent"):
            ask(model(nginx.url, max_retries=0), colour)
    assert gateway.account.post_count == 1


# --- squid, in front of us -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def squid() -> Iterator[RunningProxy]:
    with run_squid() as proxy:
        yield proxy


def use(squid: RunningProxy, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{USER}:{password}@127.0.0.1:{squid.port}")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_call_goes_through_squid(
    colour: str, squid: RunningProxy, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(squid, PASSWORD, monkeypatch)
    assert ask(model(gateway.url), colour).text == "You said: hi"
    [post] = gateway.account.posts
    assert "squid" in post.headers["via"]
    assert "proxy-authorization" not in post.headers


@pytest.mark.parametrize("colour", COLOURS)
def test_a_call_goes_through_a_tunnel_of_squid(
    colour: str,
    squid: RunningProxy,
    trusted: Path,
    gateway: RunningGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(squid, PASSWORD, monkeypatch)
    with run_nginx(gateway.url, certificate=trusted) as nginx:
        llm = model(nginx.url)
        assert ask(llm, colour).text == "You said: hi"
        tunnel = f"CONNECT 127.0.0.1:{nginx.port}"
        wait_for(lambda: any(tunnel in request for request in squid.requests()))
    [post] = gateway.account.posts
    assert "proxy-authorization" not in post.headers


WRONG = "hush-hush-hush"


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_wrong_password_of_a_proxy_is_told_nowhere(
    scheme: str,
    colour: str,
    squid: RunningProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    use(squid, WRONG, monkeypatch)
    with pytest.raises(SegmindError, match="407") as caught:
        ask(model(f"{scheme}://segmind.invalid", max_retries=0), colour)
    assert not caught.value.outcome_unknown
    wait_for(lambda: "TCP_DENIED/407" in "".join(squid.requests()))
    told = everything_told_by(caught.value) + caplog.text
    assert WRONG not in told
    assert b64encode(f"{USER}:{WRONG}".encode()).decode() not in told
