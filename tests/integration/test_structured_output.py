"""Structured output by every method, over a real socket, whatever form the reply has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import pytest
import typing_extensions
from langchain_core.exceptions import OutputParserException
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, Field

from langchain_segmind import ChatSegmindLlama, SegmindInvalidInputError
from tests.scripted import call

if TYPE_CHECKING:
    from langchain_segmind.gateway import RunningGateway, Script


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
    llm: ChatSegmindLlama, scripted: Script, method: Method
) -> None:
    scripted.will_say(replied(method, ADA))
    person = llm.with_structured_output(Person, method=method).invoke("Who is Ada?")
    assert person == Person(name="Ada", age=36, homes=[Address(city="London")])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reply", [call("Person", **ADA), json.dumps(ADA)])
def test_a_call_of_the_form_and_its_bare_arguments_are_the_same(
    llm: ChatSegmindLlama, scripted: Script, method: Method, reply: str
) -> None:
    scripted.will_say(reply)
    person = llm.with_structured_output(Person, method=method).invoke("Who is Ada?")
    assert person == Person.model_validate(ADA)


@pytest.mark.parametrize(
    "wrapping", ["{}", "```json\n{}\n```", "Sure! Here it is:\n{}\nBye.", "{}\n\n{{}}"]
)
def test_fences_and_prose_around_the_object_do_no_harm(
    llm: ChatSegmindLlama, scripted: Script, wrapping: str
) -> None:
    scripted.will_say(wrapping.format(json.dumps(ADA)))
    assert llm.with_structured_output(Person).invoke("Who is Ada?").name == "Ada"


def test_the_schema_is_sent_and_said(llm: ChatSegmindLlama, scripted: Script) -> None:
    scripted.will_say(json.dumps(ADA))
    llm.with_structured_output(Person, strict=True).invoke([("system", "s"), ("human", "Who?")])
    body = scripted.bodies[0]
    form = body["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("Person", True)
    assert form["schema"] == Person.model_json_schema()
    assert body["messages"][0] == {"role": "system", "content": "s"}
    assert body["messages"][1]["content"].startswith("Who?\n\nReply with one JSON object")
    assert '"full name"' in body["messages"][1]["content"]


class Kind(Enum):
    REAL = "real"


class City(TypedDict):
    name: str


class Plain(TypedDict):
    cities: list[City]
    kind: Kind


class Extended(typing_extensions.TypedDict):
    cities: list[City]
    kind: Kind


@dataclass
class Made:
    name: str


OF_CITY = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
OF_CITIES = {
    "type": "object",
    "properties": {"cities": {"type": "array", "items": OF_CITY}, "kind": {"enum": ["real"]}},
    "required": ["cities", "kind"],
}


@pytest.mark.parametrize(
    ("form", "schema"), [(Plain, OF_CITIES), (Extended, OF_CITIES), (Made, OF_CITY)]
)
def test_of_a_class_without_a_docstring_pythons_own_words_are_not_paid_for(
    llm: ChatSegmindLlama, scripted: Script, form: Any, schema: dict[str, Any]
) -> None:
    """langchain-core takes a docstring from `dict` and Enum, and a dataclass writes its own."""
    scripted.will_say(*['{"cities": [], "kind": "real", "name": "Rome"}'] * 4)
    llm.bind_tools([form]).invoke("Go.")
    llm.with_structured_output(form, method="function_calling").invoke("Go.")
    llm.with_structured_output(form).invoke("Go.")
    llm.invoke("Go.", response_format=form)
    assert "description" not in json.dumps(scripted.bodies)
    sent = [body["response_format"]["json_schema"]["schema"] for body in scripted.bodies[2:]]
    assert sent == [{"title": form.__name__, **schema}] * 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "broken", ["I cannot.", '{"age": 3}', '{"name": "Ada", "homes": [{"city": "Lo']
)
def test_a_reply_that_does_not_fit_raises_with_its_text(
    llm: ChatSegmindLlama, scripted: Script, method: Method, broken: str
) -> None:
    scripted.will_say(broken)
    with pytest.raises(OutputParserException) as caught:
        llm.with_structured_output(Person, method=method).invoke("Who is Ada?")
    assert broken[:8] in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_gives_the_error_instead(
    llm: ChatSegmindLlama, scripted: Script, method: Method
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", [PersonDict, Person.model_json_schema()])
def test_of_a_dict_schema_the_object_is_given_as_it_is(
    llm: ChatSegmindLlama, scripted: Script, schema: Any, method: Method
) -> None:
    """Its values are fitted; what does not fit is the caller's to judge, as with other models."""
    scripted.will_say('{"name": "Ada", "age": "36"}', '{"age": 36}', "I cannot.")
    chain = llm.with_structured_output(schema, method=method)
    assert chain.invoke("Who?") == {"name": "Ada", "age": 36}
    assert chain.invoke("Who?") == {"age": 36}
    with pytest.raises(OutputParserException, match="no whole JSON object"):
        chain.invoke("Who?")


def test_of_a_dict_schema_the_object_that_fits_is_preferred_and_repaired_for(
    llm: ChatSegmindLlama, scripted: Script
) -> None:
    scripted.will_say('{"age": 36}', '{"age": 36} {"name": "Ada", "age": 36}')
    chain = llm.with_structured_output(PersonDict, max_repairs=1)
    assert chain.invoke("Who?") == {"name": "Ada", "age": 36}
    assert len(scripted.bodies) == 2


@pytest.mark.parametrize("form", [Person, PersonDict])
def test_a_class_may_stand_for_its_response_format(
    llm: ChatSegmindLlama, scripted: Script, form: Any
) -> None:
    scripted.will_say(json.dumps(ADA))
    llm.bind(response_format=form).invoke("Who?")
    sent = scripted.bodies[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["name"] == form.__name__
    assert sent["json_schema"]["schema"]["required"][0] == "name"


def test_a_response_format_among_the_models_own_fields_stays(
    gateway: RunningGateway, scripted: Script
) -> None:
    form = {"type": "json_object"}
    own: dict[str, Any] = {"model_kwargs": {"response_format": form}}
    scripted.will_say("{}")
    with ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url, **own) as llm:
        llm.invoke("Go.")
    assert scripted.bodies[0]["response_format"] == form


DANGLING = {"title": "W", "type": "object", "properties": {"x": {"$ref": "#/$defs/Gone"}}}


@pytest.mark.parametrize("method", METHODS)
def test_a_schema_that_cannot_be_used_is_refused_when_it_is_bound(
    llm: ChatSegmindLlama, gateway: RunningGateway, method: Method
) -> None:
    with pytest.raises(ValueError, match="leads to nothing"):
        llm.with_structured_output(DANGLING, method=method)
    with pytest.raises(ValueError, match=r"tool 'W' cannot be used.*leads to nothing"):
        llm.bind_tools([{"name": "W", "parameters": DANGLING}])
    with pytest.raises(ValueError, match=r"tool 'W' cannot be used.*leads to nothing"):
        llm.bind_tools([StructuredTool(name="W", args_schema=DANGLING, func=print)])
    form = {"type": "json_schema", "json_schema": {"name": "W", "schema": DANGLING}}
    with pytest.raises(SegmindInvalidInputError, match="Nothing was sent"):
        llm.bind(response_format=form).invoke("Go.")
    assert gateway.account.post_count == 0


TREE = {
    "title": "W",
    "$ref": "#/$defs/Tree",
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        }
    },
}


@pytest.mark.parametrize(
    "endless",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
        {"type": "object", "properties": {"x": {"allOf": [{"$ref": "#/properties/x"}]}}},
        {"$ref": "#/parts/A", "parts": {"A": {"description": "A.", "$ref": "#/parts/A"}}},
    ],
)
def test_a_schema_that_refers_to_nothing_but_itself_is_refused_when_it_is_bound(
    llm: ChatSegmindLlama, gateway: RunningGateway, endless: dict[str, Any]
) -> None:
    for bind in (llm.with_structured_output, lambda schema: llm.bind_tools([schema])):
        with pytest.raises(ValueError, match="leads back to itself"):
            bind({"title": "W", **endless})
    with pytest.raises(ValueError, match="leads back to itself"):
        llm.bind_tools([{"name": "W", "parameters": endless}])
    form = {"type": "json_schema", "json_schema": {"name": "W", "schema": endless}}
    with pytest.raises(SegmindInvalidInputError, match=r"leads back to itself.*Nothing was sent"):
        llm.bind(response_format=form).invoke("Go.")
    assert gateway.account.post_count == 0


def test_a_schema_that_refers_to_itself_further_in_is_used(
    llm: ChatSegmindLlama, scripted: Script
) -> None:
    scripted.will_say('{"kids": "[{\'kids\': []}]"}')
    assert llm.with_structured_output(TREE).invoke("Grow.") == {"kids": [{"kids": []}]}
    scripted.will_say(call("W", kids="[{'kids': []}]"))
    (called,) = llm.bind_tools([TREE]).invoke("Grow.").tool_calls
    assert called["args"] == {"kids": [{"kids": []}]}
    assert all('"kids"' in body["messages"][0]["content"] for body in scripted.bodies)


def test_lists_and_objects_may_come_as_python_in_a_string(
    llm: ChatSegmindLlama, scripted: Script
) -> None:
    scripted.will_say(json.dumps({"name": "Ada", "homes": "[{'city': 'London', 'country': None}]"}))
    person = llm.with_structured_output(Person).invoke("Who?")
    assert person.homes == [Address(city="London")]


def test_a_structured_chain_streams(llm: ChatSegmindLlama, scripted: Script) -> None:
    scripted.will_say(json.dumps(ADA))
    assert [p.name for p in llm.with_structured_output(Person).stream("Who?")] == ["Ada"]


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_repair_is_paid_for_only_where_asked_for_and_at_most_so_often(
    llm: ChatSegmindLlama, scripted: Script, colour: str
) -> None:
    scripted.will_say("no", "{}", json.dumps(ADA), "no", "no", "no")
    chain = llm.with_structured_output(Person, max_repairs=2)
    person = chain.invoke("Who?") if colour == "sync" else await chain.ainvoke("Who?")
    assert person == Person.model_validate(ADA)
    assert len(scripted.bodies) == 3
    told = scripted.bodies[2]["messages"][-1]["content"]
    assert "does not fit" in told
    assert "errors.pydantic.dev" not in told  # The model is not asked to read it, for money.
    with pytest.raises(OutputParserException):
        chain.invoke("Who?")
    assert len(scripted.bodies) == 6


def test_an_unknown_method_is_refused(llm: ChatSegmindLlama) -> None:
    with pytest.raises(ValueError, match="json_schema, function_calling or json_mode"):
        llm.with_structured_output(Person, method="xml")  # type: ignore[call-overload]
