"""Answers in a form that LangChain itself reads (`ProviderStrategy`), over a real socket."""

from __future__ import annotations

import functools
import json
import operator
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from pydantic import BaseModel

from tests.scripted import call
from tests.servers import events, faults, http, model

if TYPE_CHECKING:
    from langchain_segmind import ChatSegmindLlama
    from langchain_segmind.gateway import Script


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLS: list[BaseTool] = [add]


class Order(BaseModel):
    """An order."""

    sizes: list[str]
    range: dict[str, int] = {}


ORDER = {"sizes": ["S", "M"]}


@pytest.mark.parametrize(
    "reply",
    [
        f"```json\n{json.dumps(ORDER)}\n```",
        f"Here it is:\n\n{json.dumps(ORDER)}\n\nAnything else?",
        call("Order", **ORDER),
        call("functions.order", **ORDER),
        f"```json\n{call('Order', **ORDER)}\n```",
        "{\"sizes\": \"['S', 'M']\"}",
        call("Order", sizes="['S', 'M']"),
        "{'sizes': ['S', 'M']}",
    ],
)
@pytest.mark.parametrize("form", [Order, Order.model_json_schema()])
@pytest.mark.parametrize("tools", [[], TOOLS])
def test_a_provider_strategy_is_given_the_object_that_fits(
    llm: ChatSegmindLlama, scripted: Script, reply: str, form: Any, tools: list[BaseTool]
) -> None:
    """LangChain reads JSON and nothing else; the answer was paid for, and lost."""
    scripted.will_say(reply)
    agent = create_agent(llm, tools, response_format=ProviderStrategy(form))
    state = agent.invoke({"messages": [HumanMessage("Order.")]})
    found = state["structured_response"]
    assert (found if isinstance(found, dict) else found.model_dump(exclude_unset=True)) == ORDER
    assert len(scripted.bodies) == 1


class Branch(BaseModel):
    """A branch."""

    twigs: list[Branch] = []


@pytest.mark.parametrize("tools", [[], TOOLS])
def test_a_form_that_holds_itself_is_asked_for_beside_tools_and_read(
    llm: ChatSegmindLlama, scripted: Script, tools: list[BaseTool]
) -> None:
    """Of a recursive class, whose schema only refers to its definition."""
    scripted.will_say(call("Branch", twigs="[{'twigs': []}]"))
    agent = create_agent(llm, tools, response_format=ProviderStrategy(Branch))
    state = agent.invoke({"messages": [HumanMessage("Grow.")]})
    assert state["structured_response"] == Branch(twigs=[Branch()])
    schema = scripted.bodies[0]["response_format"]["json_schema"]["schema"]
    assert Draft202012Validator(schema).is_valid({"twigs": [{"twigs": []}]})
    assert not Draft202012Validator(schema).is_valid({"twigs": [3]})


@pytest.mark.parametrize("tools", [[], TOOLS])
@pytest.mark.parametrize("way", ["whole", "one chunk", "events"])
def test_an_answer_in_a_form_is_its_object_however_it_comes(
    tools: list[BaseTool], way: str
) -> None:
    form = ProviderStrategy(Order).to_model_kwargs()
    pieces = ["```json\n{'siz", "es': \"['S', 'M']\"}\n", "``", "`"]
    chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    choice = {"message": {"role": "assistant", "content": "".join(pieces)}}
    body = events(*chunks, last) if way == "events" else {"choices": [choice]}
    kind = "text/event-stream" if way == "events" else "application/json"
    with faults(http(body, content_type=kind)) as server, model(server) as llm:
        bound = llm.bind_tools(tools) if tools else llm
        if way == "whole":
            reply = bound.invoke("Go.", **form)
        else:
            reply = functools.reduce(operator.add, bound.stream("Go.", **form))
    assert reply.content == json.dumps(ORDER)


@pytest.mark.parametrize(
    "reply",
    [
        '{"sizes":  ["S"], "range": {"low": 1}}',
        '```json\n{"sizes": 3}\n```',
        call("Order", sizes=3),
        "None of this fits {sizes}.",
        '{"sizes": ["S"',
    ],
)
def test_an_answer_that_is_the_object_or_fits_no_form_stays_as_it_is(
    llm: ChatSegmindLlama, scripted: Script, reply: str
) -> None:
    scripted.will_say(reply)
    answer = llm.invoke("Go.", **ProviderStrategy(Order).to_model_kwargs())
    assert (answer.content, answer.tool_calls) == (reply, [])


@pytest.mark.parametrize("name", ["add", "plus", "Order"])
def test_a_call_beside_a_form_that_fits_everything_stays_a_call(
    llm: ChatSegmindLlama, scripted: Script, name: str
) -> None:
    """Of a bound tool, also where it has the form's name, or of one that there is not."""
    loose = {"title": "Order", "type": "object", "properties": {}}
    order = StructuredTool.from_function(print, name="Order", description="Order.")
    tools = [add, order] if name == "Order" else [add]
    scripted.will_say(call(name, a=1))
    bound = llm.bind_tools(tools, **ProviderStrategy(loose).to_model_kwargs())
    assert [called["name"] for called in bound.invoke("Go.").tool_calls] == [name]
