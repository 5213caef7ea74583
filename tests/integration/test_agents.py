"""Tools, agents and structured output, over a real socket, with replies in Llama's own format."""

from __future__ import annotations

import functools
import json
import operator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, Field

from langchain_segmind import ChatSegmindLlama, SegmindInvalidInputError
from langchain_segmind._tool_calling.toolset import ToolSet
from langchain_segmind.gateway import RunningGateway, ScriptedEngine, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def shout(text: str) -> str:
    """Say a text loudly."""
    return text.upper()


class Scripted:
    """A gateway whose replies are given one after the other."""

    def __init__(self, running: RunningGateway, replies: list[Any]) -> None:
        self._running = running
        self.replies = replies

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was sent, call by call."""
        return [post.json() for post in self._running.account.posts]

    def will_say(self, *replies: Any) -> None:
        """Queue replies."""
        self.replies.extend(replies)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """Run a gateway that says what it is told to."""
    replies: list[Any] = []
    with serve(engine=ScriptedEngine(lambda _: replies.pop(0))) as running:
        yield Scripted(running, replies)


@pytest.fixture
def llm(scripted: Scripted) -> Iterator[ChatSegmindLlama]:
    """Give a model that talks to it."""
    running = scripted._running
    with ChatSegmindLlama(api_key=running.api_key, base_url=running.url) as model:
        yield model


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama 3.1 was trained to."""
    return json.dumps({"name": name, "parameters": parameters}, ensure_ascii=False)


# --- bind_tools ---


class Multiply(BaseModel):
    """Multiply two numbers."""

    a: int
    b: int


class Divide(TypedDict):
    """Divide two numbers."""

    a: Annotated[int, ..., "the dividend"]
    b: Annotated[int, ..., "the divisor"]


def subtract(a: int, b: int) -> int:
    """Subtract two numbers."""
    return a - b


OPENAI_TOOL = {
    "type": "function",
    "function": {"name": "power-of.two", "description": "Raise two.", "parameters": {}},
}


@pytest.mark.parametrize(
    ("bound", "name"),
    [
        (add, "add"),
        (Multiply, "Multiply"),
        (Divide, "Divide"),
        (subtract, "subtract"),
        (OPENAI_TOOL, "power-of.two"),
    ],
)
def test_every_kind_of_tool_can_be_bound(
    llm: ChatSegmindLlama, scripted: Scripted, bound: Any, name: str
) -> None:
    scripted.will_say(call(name, a=6, b=3))
    reply = llm.bind_tools([bound]).invoke("Go.")
    assert isinstance(reply, AIMessage)
    assert [(c["name"], c["args"]) for c in reply.tool_calls] == [(name, {"a": 6, "b": 3})]
    assert reply.content == ""
    (message,) = scripted.bodies[0]["messages"]
    assert message["role"] == "user"
    assert f'"name": "{name}"' in message["content"]
    assert message["content"].endswith("Go.")


def test_the_system_prompt_stays_as_it_is(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say("Hello.")
    llm.bind_tools([add]).invoke([("system", "Be kind."), ("human", "a"), ("human", "b")])
    system, first, second = scripted.bodies[0]["messages"]
    assert system == {"role": "system", "content": "Be kind."}
    assert '"name": "add"' in first["content"]
    assert second == {"role": "user", "content": "b"}
    assert "tools" not in scripted.bodies[0]


@pytest.mark.parametrize(
    "choice",
    ["any", "required", True, "add", {"type": "function", "function": {"name": "add"}}],
)
def test_a_forced_choice_constrains_decoding(
    llm: ChatSegmindLlama, scripted: Scripted, choice: Any
) -> None:
    scripted.will_say(call("add", a=1, b=2))
    llm.bind_tools([add, shout], tool_choice=choice).invoke("Go.")
    form = scripted.bodies[0]["response_format"]
    schema = form["json_schema"]["schema"]
    calls = schema.get("anyOf", [schema])
    named = [allowed["properties"]["name"]["const"] for allowed in calls]
    assert form["type"] == "json_schema"
    assert named == (["add", "shout"] if choice in ("any", "required", True) else ["add"])


def test_no_tools_are_told_of_where_none_may_be_called(
    llm: ChatSegmindLlama, scripted: Scripted
) -> None:
    scripted.will_say(call("add", a=1, b=2))
    reply = llm.bind_tools([add], tool_choice="none").invoke("Go.")
    assert scripted.bodies[0]["messages"] == [{"role": "user", "content": "Go."}]
    assert reply.content == call("add", a=1, b=2)
    assert reply.tool_calls == []


def test_a_choice_that_names_no_tool_is_refused_when_binding(llm: ChatSegmindLlama) -> None:
    with pytest.raises(ValueError, match="'add'"):
        llm.bind_tools([add], tool_choice="ad")


def test_strict_lets_an_answer_through_as_text(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say('{"answer": "It is 3."}', call("add", a=1, b=2))
    bound = llm.bind_tools([add], strict=True)
    assert bound.invoke("Go.").content == "It is 3."
    assert [c["name"] for c in bound.invoke("Go.").tool_calls] == ["add"]
    assert scripted.bodies[0]["response_format"]["type"] == "json_schema"


def test_several_calls_of_one_turn_are_all_taken(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say(f"{call('add', a=1, b=2)}; {call('shout', text='x')}\n{call('nope')}")
    reply = llm.bind_tools([add, shout]).invoke("Go.")
    assert [c["name"] for c in reply.tool_calls] == ["add", "shout"]
    assert len({c["id"] for c in reply.tool_calls}) == 2
    assert "nope" in str(reply.content)


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_call_that_was_cut_short_never_runs(
    llm: ChatSegmindLlama, scripted: Scripted, way: str
) -> None:
    """Not even where chunks are summed, for which langchain-core closes open JSON."""
    cut = '{"name": "shout", "parameters": {"text": "transfer 1000'
    scripted.will_say(
        {"choices": [{"message": {"role": "assistant", "content": cut}, "finish_reason": "length"}]}
    )
    bound = llm.bind_tools([shout])
    if way == "stream":
        chunks = list(bound.stream("Go."))
        reply = functools.reduce(operator.add, chunks)
    else:
        reply = bound.invoke("Go.")
    assert reply.tool_calls == []
    assert len(reply.invalid_tool_calls) == 1


def test_native_calls_are_understood_should_they_come(
    llm: ChatSegmindLlama, scripted: Scripted
) -> None:
    native = {
        "id": "c1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [native]}
    scripted.will_say({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    (found,) = llm.bind_tools([add]).invoke("Go.").tool_calls
    assert found == {"name": "add", "args": {"a": 1, "b": 2}, "id": "c1", "type": "tool_call"}


def test_tools_and_response_format_exclude_each_other(
    llm: ChatSegmindLlama, scripted: Scripted
) -> None:
    bound = llm.bind_tools([add])
    with pytest.raises(SegmindInvalidInputError, match="exclude each other"):
        bound.invoke("Go.", response_format={"type": "json_object"})
    assert scripted.bodies == []


def test_what_depends_on_the_tools_alone_is_made_once(
    llm: ChatSegmindLlama, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    compile_ = ToolSet.compile

    def counted(tools: Any) -> ToolSet:
        made.append(1)
        return compile_(tools)

    monkeypatch.setattr(ToolSet, "compile", counted)
    bound = llm.bind_tools([add])
    for _ in range(3):
        scripted.will_say("ok")
        bound.invoke("Go.")
    assert len(made) == 1


# --- Agents ---


TOOLS: list[BaseTool] = [add, shout]


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_an_agent_calls_its_tools_and_answers(
    llm: ChatSegmindLlama, scripted: Scripted, colour: str
) -> None:
    """Two calls at once, one that fails, and an answer."""
    scripted.will_say(
        call("add", a=1, b=2) + "\n" + call("shout", text="hey"),
        "It is 3, HEY.",
    )
    agent = create_agent(llm, TOOLS, system_prompt="Use tools.")
    prompt: Any = {"messages": [HumanMessage("What is 1 + 2, and shout hey?")]}
    state = agent.invoke(prompt) if colour == "sync" else await agent.ainvoke(prompt)
    kinds = [message.type for message in state["messages"]]
    assert kinds == ["human", "ai", "tool", "tool", "ai"]
    assert [m.content for m in state["messages"][2:4]] == ["3", "HEY"]
    assert state["messages"][-1].content == "It is 3, HEY."
    sent = scripted.bodies[1]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user", "user"]
    assert sent[2]["content"] == call("add", a=1, b=2) + "\n" + call("shout", text="hey")


def test_an_agent_streams(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say(call("add", a=1, b=2), "Three.")
    agent = create_agent(llm, TOOLS)
    prompt: Any = {"messages": [HumanMessage("1 + 2?")]}
    pieces = [
        message
        for message, _ in agent.stream(prompt, stream_mode="messages")
        if isinstance(message, AIMessageChunk)
    ]
    assert "".join(str(piece.content) for piece in pieces) == "Three."
    assert [c["name"] for piece in pieces for c in piece.tool_call_chunks] == ["add"]


class Sum(BaseModel):
    """The sum."""

    value: int


@pytest.mark.parametrize("form", [Sum, ToolStrategy(Sum)])
def test_an_agent_gives_a_structured_response(
    llm: ChatSegmindLlama, scripted: Scripted, form: Any
) -> None:
    """create_agent must take tools for it: this API cannot carry both them and a schema."""
    scripted.will_say(call("add", a=1, b=2), call("Sum", value=3))
    agent = create_agent(llm, TOOLS, response_format=form)
    state = agent.invoke({"messages": [HumanMessage("1 + 2?")]})
    assert state["structured_response"] == Sum(value=3)


def test_a_tool_node_runs_the_calls(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say(call("add", a="1", b=2))
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [llm.bind_tools(TOOLS).invoke(s["messages"])]})
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    graph.add_edge("tools", END)
    state = graph.compile().invoke({"messages": [HumanMessage("1 + 2?")]})
    assert state["messages"][-1].content == "3"


def test_a_history_of_another_provider_is_understood(
    llm: ChatSegmindLlama, scripted: Scripted
) -> None:
    scripted.will_say("Three.")
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}
    history = [
        HumanMessage("1 + 2?"),
        AIMessage(
            [{"type": "text", "text": "Let me add."}, use],
            tool_calls=[
                {"name": "add", "args": {"a": 1, "b": 2}, "id": "toolu_1", "type": "tool_call"}
            ],
        ),
        ToolMessage([{"type": "text", "text": "3"}], tool_call_id="toolu_1"),
    ]
    llm.bind_tools([add]).invoke(history)
    _, said, result = scripted.bodies[0]["messages"]
    assert said["content"] == "Let me add.\n" + call("add", a=1, b=2)
    assert result["content"].endswith('{"output": "3"}')


# --- Structured output ---


class Address(BaseModel):
    """Where somebody lives."""

    city: str
    country: str | None = None


class Person(BaseModel):
    """A person."""

    name: str = Field(description="full name")
    age: int | None = None
    homes: list[Address] = []
    kind: Literal["real", "made up"] = "real"


ADA = {"name": "Ada", "age": 36, "homes": [{"city": "London"}]}


class PersonDict(TypedDict):
    """A person."""

    name: Annotated[str, ..., "full name"]
    age: Annotated[int, ..., "in years"]


Method = Literal["json_schema", "function_calling", "json_mode"]
METHODS: list[Method] = ["json_schema", "function_calling", "json_mode"]


def replied(method: str, value: dict[str, Any]) -> str:
    """Write a reply as each method gets it."""
    return call("Person", **value) if method == "function_calling" else json.dumps(value)


@pytest.mark.parametrize("method", METHODS)
def test_a_pydantic_class_comes_back_built(
    llm: ChatSegmindLlama, scripted: Scripted, method: Method
) -> None:
    scripted.will_say(replied(method, ADA))
    person = llm.with_structured_output(Person, method=method).invoke("Who is Ada?")
    assert person == Person(name="Ada", age=36, homes=[Address(city="London")])


@pytest.mark.parametrize(
    "wrapping", ["{}", "```json\n{}\n```", "Sure! Here it is:\n{}\nBye.", "{}\n\n{{}}"]
)
def test_fences_and_prose_around_the_object_do_no_harm(
    llm: ChatSegmindLlama, scripted: Scripted, wrapping: str
) -> None:
    scripted.will_say(wrapping.format(json.dumps(ADA)))
    assert llm.with_structured_output(Person).invoke("Who is Ada?").name == "Ada"


def test_the_schema_is_sent_and_said(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say(json.dumps(ADA))
    llm.with_structured_output(Person, strict=True).invoke([("system", "s"), ("human", "Who?")])
    body = scripted.bodies[0]
    form = body["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("Person", True)
    assert form["schema"] == Person.model_json_schema()
    assert body["messages"][0] == {"role": "system", "content": "s"}
    assert body["messages"][1]["content"].startswith("Who?\n\nReply with one JSON object")
    assert '"full name"' in body["messages"][1]["content"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "broken", ["I cannot.", '{"age": 3}', '{"name": "Ada", "homes": [{"city": "Lo']
)
def test_a_reply_that_does_not_fit_raises_with_its_text(
    llm: ChatSegmindLlama, scripted: Scripted, method: Method, broken: str
) -> None:
    scripted.will_say(broken)
    with pytest.raises(OutputParserException) as caught:
        llm.with_structured_output(Person, method=method).invoke("Who is Ada?")
    assert broken[:8] in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_gives_the_error_instead(
    llm: ChatSegmindLlama, scripted: Scripted, method: Method
) -> None:
    scripted.will_say("I cannot.", replied(method, ADA))
    chain = llm.with_structured_output(Person, method=method, include_raw=True)
    failed = chain.invoke("Who?")
    assert failed["parsed"] is None
    assert "I cannot." in str(failed["parsing_error"])
    fine = chain.invoke("Who?")
    assert fine["parsed"].name == "Ada"
    assert fine["parsing_error"] is None
    assert fine["raw"].response_metadata["credits"]["cost"] > 0


@pytest.mark.parametrize("schema", [PersonDict, Person.model_json_schema()])
def test_dicts_are_validated_too(llm: ChatSegmindLlama, scripted: Scripted, schema: Any) -> None:
    scripted.will_say('{"name": "Ada", "age": "36"}', '{"age": 36}')
    chain = llm.with_structured_output(schema)
    assert chain.invoke("Who?") == {"name": "Ada", "age": 36}
    with pytest.raises(OutputParserException, match="name"):
        chain.invoke("Who?")


def test_a_structured_chain_streams(llm: ChatSegmindLlama, scripted: Scripted) -> None:
    scripted.will_say(json.dumps(ADA))
    assert [p.name for p in llm.with_structured_output(Person).stream("Who?")] == ["Ada"]


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_repair_is_paid_for_only_where_asked_for_and_at_most_so_often(
    llm: ChatSegmindLlama, scripted: Scripted, colour: str
) -> None:
    scripted.will_say("no", "no", json.dumps(ADA), "no", "no", "no")
    chain = llm.with_structured_output(Person, max_repairs=2)
    person = chain.invoke("Who?") if colour == "sync" else await chain.ainvoke("Who?")
    assert person == Person.model_validate(ADA)
    assert len(scripted.bodies) == 3
    assert "does not fit" in scripted.bodies[2]["messages"][-1]["content"]
    with pytest.raises(OutputParserException):
        chain.invoke("Who?")
    assert len(scripted.bodies) == 6


def test_an_unknown_method_is_refused(llm: ChatSegmindLlama) -> None:
    with pytest.raises(ValueError, match="json_schema, function_calling or json_mode"):
        llm.with_structured_output(Person, method="xml")  # type: ignore[call-overload]
