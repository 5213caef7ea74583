"""What is sent again, counted request by request: each one may cost money."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindConnectionError,
    SegmindError,
    SegmindRateLimitError,
    SegmindResponseError,
    SegmindTimeoutError,
    is_retryable,
)
from langchain_segmind._protocol import retry
from tests.servers import (
    COLOURS,
    KEY,
    TRANSPORTS,
    Received,
    Wire,
    ask,
    faults,
    head,
    http,
    model,
    refused_url,
    wait_for,
)

GOOD = http()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for milliseconds where a user waits for seconds."""
    monkeypatch.setattr(retry, "BASE_DELAY", 0.002)


def close_at_once(_received: Received, wire: Wire) -> None:
    wire.close()


def reset_at_once(_received: Received, wire: Wire) -> None:
    wire.reset()


def hang(_received: Received, wire: Wire) -> None:
    wire.hang()


def half_a_body(_received: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-length": "999"}) + b'{"choices"')
    wire.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [429, 500, 502, 503])
@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_what_cost_nothing_is_sent_again_so_often(
    max_retries: int, status: int, transport: str
) -> None:
    with faults(http({"error": "later"}, status)) as server:
        with pytest.raises(SegmindError) as caught:
            ask(model(server, max_retries=max_retries), transport)
        assert len(server.requests) == max_retries + 1
    assert caught.value.status_code == status


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_later_attempt_may_succeed_and_is_the_same_request(transport: str) -> None:
    with faults(http({}, 500), http({}, 429), GOOD) as server:
        assert ask(model(server), transport).content == "Hello!"
    first, second, third = server.requests
    assert first.body == second.body == third.body
    assert first.line == third.line


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 406, 410, 418, 422])
def test_a_refusal_is_final(status: int, transport: str) -> None:
    with faults(http({"error": "no"}, status)) as server:
        with pytest.raises(SegmindError):
            ask(model(server, max_retries=5, retry_unknown_outcome=True), transport)
        assert len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_refusal_whose_words_are_lost_is_still_a_refusal(transport: str) -> None:
    def refuse(_received: Received, wire: Wire) -> None:
        wire.send(head(401, {"content-length": "999"}) + b"half")
        wire.close()

    with faults(refuse) as server:
        with pytest.raises(SegmindAuthenticationError):
            ask(model(server, retry_unknown_outcome=True), transport)
        assert len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_503_whose_words_are_lost_is_still_a_503(transport: str) -> None:
    def break_off(_received: Received, wire: Wire) -> None:
        wire.send(head(503, {"content-length": "999"}) + b"half")
        wire.close()

    with faults(break_off, GOOD) as server:
        assert ask(model(server), transport).content == "Hello!"
        assert len(server.requests) == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_refused_connection_is_tried_again_and_nothing_was_sent(transport: str) -> None:
    with (
        faults() as server,
        pytest.raises(SegmindConnectionError, match="Nothing was sent") as caught,
    ):
        ask(model(server, base_url=refused_url()), transport)
    assert not caught.value.outcome_unknown
    assert caught.value.is_retryable
    assert caught.value.status_code is None


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [close_at_once, reset_at_once])
def test_a_lost_answer_is_not_asked_for_again(fault: Any, transport: str) -> None:
    with faults(fault, GOOD) as server:
        with pytest.raises(SegmindConnectionError, match="may have been billed") as caught:
            ask(model(server), transport)
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown
    assert not caught.value.is_retryable


GATEWAY_TIMEOUT = b"<html><h1>504 Gateway Time-out</h1><hr>nginx</html>"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [502, 504, 520, 522, 524])
def test_what_a_proxy_gave_up_on_is_not_asked_for_again(status: int, transport: str) -> None:
    """The model behind it may go on, and be billed."""
    page = http(GATEWAY_TIMEOUT, status, content_type="text/html")
    with faults(page, page, GOOD) as server:
        with pytest.raises(SegmindAPIError, match="been billed") as caught:
            ask(model(server), transport)
        assert len(server.requests) == 1
        assert ask(model(server, retry_unknown_outcome=True), transport).content == "Hello!"
        assert len(server.requests) == 3
    assert caught.value.outcome_unknown
    assert not caught.value.is_retryable


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "fault", [http(b"", 504), close_at_once, reset_at_once], ids=["504", "closed", "reset"]
)
def test_who_has_asked_for_retries_is_not_told_to_ask_for_them(fault: Any, transport: str) -> None:
    with faults(fault) as server:
        with pytest.raises(SegmindError, match="been billed, and is not sent again") as caught:
            ask(model(server, max_retries=1, retry_unknown_outcome=True), transport)
        assert len(server.requests) == 2
    assert "retry_unknown_outcome" not in str(caught.value)
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_half_an_answer_is_not_asked_for_again(transport: str) -> None:
    with faults(half_a_body, GOOD) as server:
        with pytest.raises(SegmindResponseError):
            ask(model(server), transport)
        assert len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_time_out_is_not_asked_for_again(transport: str) -> None:
    with faults(hang, GOOD) as server:
        with pytest.raises(SegmindTimeoutError, match="may have been billed") as caught:
            ask(model(server, timeout=0.5), transport)
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown
    assert not caught.value.is_retryable


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [close_at_once, reset_at_once, half_a_body])
def test_the_user_may_ask_for_what_was_lost_to_be_sent_again(fault: Any, transport: str) -> None:
    with faults(fault, fault, GOOD) as server:
        assert ask(model(server, retry_unknown_outcome=True), transport).content == "Hello!"
        assert len(server.requests) == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("status", [500, 503])
def test_a_free_503_after_a_lost_answer_does_not_say_that_nothing_was_billed(
    status: int, queue: bool, transport: str
) -> None:
    """The model, or a job, behind the first of the three may have run."""
    with faults(close_at_once, http({"error": "busy"}, status)) as server:
        llm = model(server, retry_unknown_outcome=True, queue=queue)
        with pytest.raises(SegmindAPIError, match=r"attempt .* may have been billed") as caught:
            ask(llm, transport)
        assert len(server.requests) == 3
    assert (caught.value.outcome_unknown, caught.value.is_retryable) == (True, False)
    assert "not billed" not in str(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_read_time_out_is_sent_again_where_the_user_wants_it(transport: str) -> None:
    with faults(hang, GOOD) as server:
        llm = model(server, timeout=(3, 0.2, 3, 3), retry_unknown_outcome=True)
        assert ask(llm, transport).content == "Hello!"
        assert len(server.requests) == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_that_was_closed_while_idle_costs_nothing(transport: str) -> None:
    """A server may close what it keeps alive at any time; the next call must notice."""

    def answer_and_leave(_received: Received, wire: Wire) -> None:
        wire.send(GOOD)
        wire.close()

    with faults(answer_and_leave) as server:
        for _ in range(3):
            assert ask(model(server, max_retries=0), transport).content == "Hello!"


def test_a_connection_closed_while_idle_is_noticed_by_the_same_client() -> None:
    def answer_and_leave(_received: Received, wire: Wire) -> None:
        wire.send(GOOD)
        wire.close()

    with faults(answer_and_leave) as server, model(server, max_retries=0) as llm:
        for _ in range(20):
            assert llm.invoke("hi").content == "Hello!"
            wait_for(lambda: not server.open_connections)
    assert len(server.requests) == 20


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reset_that_is_far_away_is_told_instead_of_waited_for(transport: str) -> None:
    with faults(http({"error": "slow down"}, 429, {"retry-after": "3600"})) as server:
        with pytest.raises(SegmindRateLimitError, match="resets in 3600 s") as caught:
            ask(model(server, timeout=9000), transport)
        assert len(server.requests) == 1
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reset_that_has_come_is_not_waited_for(transport: str) -> None:
    with faults(
        http({}, 429, {"x-rate-limit-reset-at-utc": "2020-01-01T00:00:00Z"}), GOOD
    ) as server:
        assert ask(model(server), transport).content == "Hello!"
        assert len(server.requests) == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_wait_that_outlasts_the_deadline_is_not_begun(transport: str) -> None:
    with faults(http({}, 503, {"retry-after": "60"})) as server:
        with pytest.raises(SegmindAPIError) as caught:
            ask(model(server, timeout=3), transport)
        assert len(server.requests) == 1
    assert caught.value.retry_after == 60


@pytest.mark.parametrize("colour", COLOURS)
def test_a_hook_that_raises_for_status_changes_nothing(colour: str) -> None:
    """`raise_for_status` in an event hook is common; its exception carries the request."""

    def check(response: httpx.Response) -> None:
        response.raise_for_status()

    async def acheck(response: httpx.Response) -> None:
        response.raise_for_status()

    with faults(http({}, 401)) as server:
        llm = model(
            server,
            http_client=httpx.Client(event_hooks={"response": [check]}, verify=False),
            http_async_client=httpx.AsyncClient(event_hooks={"response": [acheck]}, verify=False),
        )
        with llm.http_client, pytest.raises(SegmindAuthenticationError) as caught:
            ask(llm, colour)
        assert len(server.requests) == 1
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("colour", COLOURS)
def test_an_outage_is_not_made_worse_by_retries(colour: str) -> None:
    """150 calls would be 450 requests; when it is over, a call has all its retries again."""
    down = http({"error": "Server had some issue"}, 503)
    answers = [*[down] * 200, *[GOOD] * 50, down, down, GOOD]
    with faults(*answers) as server:
        llm = model(server)
        outcomes = batch(llm, colour, ["hi"] * 150)
        assert all(isinstance(outcome, SegmindAPIError) for outcome in outcomes)
        assert len(server.requests) == 200 <= 1.5 * 150
        assert [answer.text for answer in batch(llm, colour, ["hi"] * 50)] == ["Hello!"] * 50
        assert ask(llm, colour).text == "Hello!"
        assert len(server.requests) == len(answers)


def batch(llm: ChatSegmindLlama, colour: str, prompts: list[Any]) -> list[Any]:
    if colour == "sync":
        with llm:
            return llm.batch(prompts, return_exceptions=True)
    return asyncio.run(llm.abatch(prompts, return_exceptions=True))


def again_by_itself(llm: ChatSegmindLlama) -> Any:
    return llm.with_retry(wait_exponential_jitter=False)


def again_with_tools(llm: ChatSegmindLlama) -> Any:
    return llm.bind_tools([lookup]).with_retry(wait_exponential_jitter=False)


def again_in_a_node(llm: ChatSegmindLlama) -> Any:
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001, retry_on=is_retryable)
    builder: Any = StateGraph(MessagesState)
    builder.add_node("ask", lambda _: {"messages": [llm.invoke("hi")]}, retry_policy=policy)
    builder.add_edge(START, "ask")
    graph = builder.compile()
    return RunnableLambda(lambda _: graph.invoke({"messages": []})["messages"][-1])


def lookup(word: str) -> str:
    """Look a word up."""
    return word


@pytest.mark.parametrize("again", [again_by_itself, again_with_tools, again_in_a_node])
def test_who_retries_around_the_model_pays_once(again: Any) -> None:
    """A busy server is asked again, a lost answer is not, and neither is a wrong key."""
    busy, refused = http(b'{"error": "busy"}', 503), http(b'{"error": "Invalid API key"}', 401)
    with faults(busy, busy, GOOD, close_at_once, GOOD, refused) as server:
        llm = model(server, max_retries=0)
        assert again(llm).invoke("hi").content == "Hello!"
        assert len(server.requests) == 3
        with pytest.raises(SegmindConnectionError):
            again(llm).invoke("hi")
        assert len(server.requests) == 4
        assert again(llm).invoke("hi").content == "Hello!"
        with pytest.raises(SegmindAuthenticationError):
            again(llm).invoke("hi")
        assert len(server.requests) == 6


def test_who_names_the_errors_may_pay_twice() -> None:
    with faults(close_at_once, GOOD) as server:
        again = model(server).with_retry(
            retry_if_exception_type=(SegmindError,), wait_exponential_jitter=False
        )
        assert again.invoke("hi").content == "Hello!"
        assert len(server.requests) == 2
