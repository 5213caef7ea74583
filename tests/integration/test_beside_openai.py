"""What the README says of `ChatOpenAI(base_url=...)`: what it does where Segmind is what answers.

It is built by users, with its defaults. An adapter that puts Segmind's paths and header in place is
the scripted server, which takes any path; its answers are Segmind's.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.exceptions import ModelError
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langchain_segmind import SegmindInsufficientCreditsError
from langchain_segmind.gateway import serve
from tests.servers import KEY, FaultServer, completion, faults, http, model

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel

    from tests.servers import Wire

openai = pytest.importorskip("openai")
ChatOpenAI = pytest.importorskip("langchain_openai").ChatOpenAI

COSTS = {"x-cost": "0.001", "x-remaining-credits": "9.5"}
CALL = '{"name": "get_weather", "parameters": {"location": "Paris"}}'


def other(url: str, **settings: Any) -> BaseChatModel:
    """Give the model that the README compares with."""
    made: BaseChatModel = ChatOpenAI(
        base_url=f"{url}/v1", api_key=KEY, model="llama-v3p1-70b-instruct", timeout=5, **settings
    )
    return made


def lose(_received: object, wire: Wire) -> None:
    """Take a request, and break off before the answer."""
    wire.reset()


def get_weather(location: str) -> str:
    """Get the weather at a location."""
    return f"It is sunny in {location}."


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "the gateway's"}], ids=["bearer", "key"])
def test_it_reaches_no_model(headers: dict[str, str]) -> None:
    """Also with Segmind's header: `/v1/chat/completions` is none of its paths."""
    with serve() as gateway:
        headers = dict.fromkeys(headers, gateway.api_key)
        with pytest.raises(openai.NotFoundError):
            other(gateway.url, default_headers=headers).invoke("Hello")
    assert gateway.account.charge_count == 0


def test_it_does_not_say_what_an_answer_cost() -> None:
    with faults(http(headers=COSTS)) as server:
        answer = other(server.url).invoke("Hello")
        ours = model(server).invoke("Hello")
    assert "0.001" not in repr(answer)
    assert ours.response_metadata["credits"] == {"remaining": 9.5, "cost": 0.001}


def test_it_sends_again_what_may_be_paid_already() -> None:
    with faults(lose) as server, pytest.raises(openai.APIConnectionError):
        other(server.url).invoke("Hello")
    assert len(server.requests) == 3
    with faults(lose) as server, pytest.raises(ModelError):
        model(server).invoke("Hello")
    assert len(server.requests) == 1


def test_it_asks_again_where_a_proxy_gave_up() -> None:
    """Behind which a slow answer goes on being made, and is billed."""
    page = http(b"<h1>504 Gateway Time-out</h1>", 504, content_type="text/html")
    with faults(page) as server, pytest.raises(openai.InternalServerError):
        other(server.url).invoke("Hello")
    assert len(server.requests) == 3


def test_it_does_not_tell_an_empty_account_from_other_errors() -> None:
    empty = http({"error": "Not enough credits. Balance: 0.1, needed: 0.2"}, 406)
    with faults(empty) as server:
        with pytest.raises(openai.APIStatusError) as caught:
            other(server.url).invoke("Hello")
        with pytest.raises(SegmindInsufficientCreditsError):
            model(server).invoke("Hello")
    assert not isinstance(caught.value, ModelError)


def test_its_tools_go_into_a_field_that_segmind_does_not_pass_on() -> None:
    """The model is told of none, and a call that it writes all the same stays text."""
    with faults(http(completion(CALL))) as server:
        answer = other(server.url).bind_tools([get_weather]).invoke("How is the weather in Paris?")
        body = server.requests[0].json
        ours = model(server).bind_tools([get_weather]).invoke("How is the weather in Paris?")
    assert "get_weather" not in str(body["messages"])
    assert (answer.tool_calls, answer.text) == ([], CALL)
    assert [call["args"] for call in ours.tool_calls] == [{"location": "Paris"}]


class State(TypedDict):
    """What the graph below keeps."""

    answers: Annotated[list[str], operator.add]


def resumed(llm: BaseChatModel, server: FaultServer) -> int:
    """Break a node once after its call, resume it, and count what was posted."""
    breaks = [RuntimeError("The process was killed.")]

    def node(_: State) -> dict[str, list[str]]:
        answer = llm.invoke("Hello").text
        if breaks:
            raise breaks.pop()
        return {"answers": [answer]}

    graph: Any = StateGraph(State)
    graph.add_node("node", node).add_edge(START, "node")
    compiled = graph.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    with pytest.raises(RuntimeError):
        compiled.invoke({"answers": []}, thread)
    assert compiled.invoke(None, thread)["answers"] == ["Hello!"]
    return len(server.requests)


def test_what_is_resumed_is_paid_for_again(tmp_path: Path) -> None:
    with faults() as server:
        assert resumed(other(server.url), server) == 2
    with faults() as server:
        llm = model(server, journal=tmp_path / "run.sqlite", queue=False)
        assert resumed(llm, server) == 1
