from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import httpcore
import httpx
import pytest
from pydantic import SecretStr

from langchain_segmind import SegmindError
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Request,
    Response,
    Sleep,
)
from langchain_segmind._transport.clients import Clients
from langchain_segmind._transport.content_encoding import UnreadableBodyError
from langchain_segmind._transport.driver import arun, run
from langchain_segmind._transport.environment import proxy_for
from langchain_segmind._transport.failures import failure_from
from langchain_segmind._transport.settings import Settings, as_timeout
from tests.flows import send

if TYPE_CHECKING:
    from langchain_segmind._protocol.types import Flow

KEY = "SG_c0ffee5ec2e7ca4a"


def settings(**headers: str) -> Settings:
    return Settings("http://segmind.invalid", SecretStr(KEY), headers, as_timeout(1))


class Limiter:
    """Counts what it is asked for, in either colour."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def acquire(self, *, blocking: bool = True) -> bool:
        self.asked.append("sync")
        return blocking

    async def aacquire(self, *, blocking: bool = True) -> bool:
        self.asked.append("async")
        return blocking


def flow(end: str) -> Flow[str]:
    """Wait, ask for a permit, end."""
    assert (yield Sleep(0.0)) is None
    assert (yield AcquireSlot()) is None
    return end


def failing() -> Flow[str]:
    yield Sleep(0.0)
    raise LookupError("as the flow says")


def test_a_flow_is_driven_to_its_result() -> None:
    limiter = Limiter()
    assert run(flow("done"), Clients(settings()), limiter) == "done"  # type: ignore[arg-type]
    assert limiter.asked == ["sync"]


async def test_a_flow_is_driven_to_its_result_on_a_loop() -> None:
    limiter = Limiter()
    assert await arun(flow("done"), Clients(settings()), limiter) == "done"  # type: ignore[arg-type]
    assert limiter.asked == ["async"]


async def test_what_a_flow_raises_comes_through_in_both_colours() -> None:
    with pytest.raises(LookupError, match="as the flow says"):
        run(failing(), Clients(settings()))
    with pytest.raises(LookupError, match="as the flow says"):
        await arun(failing(), Clients(settings()))


@pytest.mark.parametrize(
    ("error", "kind", "sent"),
    [
        (httpcore.ConnectError("x"), "unsent", False),
        (httpx.ConnectError("x"), "unsent", False),
        (httpx.ProxyError("x"), "unsent", False),
        (httpcore.ProxyError("x"), "unsent", False),
        (aiohttp.InvalidUrlClientError("x"), "unsent", False),
        (httpcore.ConnectTimeout("x"), "timeout", False),
        (httpx.PoolTimeout("x"), "timeout", False),
        (aiohttp.ConnectionTimeoutError("x"), "timeout", False),
        (httpcore.ReadTimeout("x"), "timeout", True),
        (httpx.WriteTimeout("x"), "timeout", True),
        (aiohttp.SocketTimeoutError("x"), "timeout", True),
        (TimeoutError(), "timeout", True),
        (httpcore.ReadError("x"), "lost", True),
        (httpcore.RemoteProtocolError("x"), "lost", True),
        (httpx.ReadError("x"), "lost", True),
        (aiohttp.ServerDisconnectedError("x"), "lost", True),
        (aiohttp.ClientPayloadError("x"), "lost", True),
        (ConnectionResetError("x"), "lost", True),
        (UnreadableBodyError("x"), "unreadable", True),
    ],
)
def test_what_the_network_did_is_told_from_what_was_sent(
    error: Exception, kind: str, *, sent: bool
) -> None:
    failure = failure_from(error, None)
    assert failure is not None
    assert (failure.kind, failure.sent) == (kind, sent)
    assert failure.detail


def test_what_is_no_matter_of_the_network_is_not_caught() -> None:
    assert failure_from(ZeroDivisionError("x"), None) is None


def test_headers_are_ours_but_for_those_that_may_be_replaced() -> None:
    headers = settings(**{"User-AGENT": "me", "X-Team": "cats"}).headers()
    assert {name.lower(): value for name, value in headers.items()} == {
        "user-agent": "me",
        "accept": "application/json, text/event-stream",
        "x-team": "cats",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "x-api-key": KEY,
    }


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://h", None),
        ({"http_proxy": "http://p:1"}, "http://h", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://h", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://h", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://h", None),
        ({"https_proxy": "http://p:1"}, "https://h", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "https://h", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "h"}, "http://h:9", None),
        ({"http_proxy": "http://p:1", "no_proxy": "h:9"}, "http://h:9", None),
        ({"http_proxy": "http://p:1", "no_proxy": "h:8"}, "http://h:9", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": ".example.com"}, "http://a.example.com", None),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "http://h", None),
    ],
)
def test_the_proxy_of_the_environment_is_chosen(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_an_injected_client_that_decodes_already_is_not_decoded_twice() -> None:
    """`httpx.MockTransport` gives a body that has been read and decoded."""
    given = httpx.Response(200, headers={"content-encoding": "identity"}, content=b"hi")
    with httpx.Client(transport=httpx.MockTransport(lambda _: given)) as client:
        clients = Clients(Settings("http://h", SecretStr(KEY), {}, as_timeout(1), client))
        reply = run(send(Request("POST", "/v1/x", b"{}")), clients)
    assert isinstance(reply, Response)
    assert reply.body == b"hi"


async def test_an_injected_async_client_is_used_as_it_is() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"hi")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        given = Settings("http://h/p", SecretStr(KEY), {}, as_timeout(1), None, client)
        reply = await arun(send(Request("POST", "/v1/x", b"{}")), Clients(given))
    assert isinstance(reply, Response)
    assert reply.body == b"hi"
    assert str(seen[0].url) == "http://h/p/v1/x"
    assert seen[0].headers["x-api-key"] == KEY


def test_the_key_is_masked_in_what_an_error_says() -> None:
    error = Clients(settings()).redact_error(SegmindError(f"no {KEY}", request_id=KEY))
    assert (error.message, error.request_id) == ("no **********", "**********")
