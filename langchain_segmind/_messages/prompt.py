"""What this API carries in words: tools and answer schemas, written into the messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_segmind._messages.outgoing import Part, WireMessage, text_of_wire, text_part
from langchain_segmind._tool_calling.prompt import render_tools
from langchain_segmind._tool_calling.schema import (
    as_mapping,
    check_schema,
    is_reference,
    resolve,
    without_borrowed_docs,
)
from langchain_segmind._tool_calling.toolset import (
    Choice,
    Conversation,
    ToolSet,
    escape_special_tokens,
    parse_tool_choice,
    response_format,
)
from langchain_segmind.exceptions import SegmindInvalidInputError

if TYPE_CHECKING:
    from langchain_segmind._messages.structured_output import StructuredOutputParser


class BoundTools(list[dict[str, Any]]):
    """Tools as OpenAI-format dicts: a plain list to LangChain, and compiled once."""

    @classmethod
    def of(cls, tools: Iterable[Any]) -> Self:
        """Convert everything that LangChain takes for a tool; what is none is a ValueError."""
        import_module("langchain_segmind._tool_calling.parser")  # See `_transport.imports`.
        return cls(map(_as_function, tools))

    @cached_property
    def compiled(self) -> ToolSet:
        """The tools, ready to be rendered and parsed."""
        return ToolSet.compile(self)


def _as_function(tool: Any) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    if is_reference(tool):
        told = {"description": tool.get("description", "")}
        tool = {"name": tool["title"], **told, "parameters": tool}
    if isinstance(schema := getattr(tool, "args_schema", None), dict):  # As MCP's tools have it.
        check_schema(schema, f"the tool {tool.name!r}")
    try:
        if not isinstance(tool, dict) or tool.get("type") in _OWN_TYPES:
            converted = without_borrowed_docs(convert_to_openai_tool(tool), tool)
    except (KeyError, ValueError):
        if not isinstance(tool, dict):
            raise  # LangChain says what is wrong with a function or a class.
    match converted:
        case {"function": {"name": str(name)}} if name:
            return converted
        case {"type": "function", "name": str(name), **rest} if name:  # OpenAI's Responses API.
            return {"type": "function", "function": {"name": name, **rest}}
    kind = tool.get("type", ", ".join(map(str, tool))) if isinstance(tool, dict) else tool
    raise ValueError(
        f"The tool of type {str(kind)[:80]!r} is no function with a name. Segmind runs no built-in "
        "tools: bind functions, pydantic classes, LangChain tools or OpenAI-format dicts."
    )


_OWN_TYPES = (None, "function", "object", "custom")
"""Of tools that the user runs: a schema is an object, and Anthropic calls such tools custom."""


@dataclass(slots=True)
class Prompt:
    """The messages and fields of a body, and the tools whose calls its answer may hold."""

    messages: Sequence[WireMessage]
    fields: dict[str, Any]
    tools: ToolSet | None = None
    answers_wrapped: bool = False
    """Whether decoding was constrained to a call or an answer, so that answers come as JSON."""
    answer: StructuredOutputParser | None = None
    """Reads the object that was asked for, where nothing behind the model does."""


def render_prompt(wire: Sequence[WireMessage], given: Mapping[str, Any]) -> Prompt:
    """Write tools or an answer schema into the messages, and take them out of the fields.

    Args:
        wire: The conversation.
        given: The parameters of the call, with `tools`, `tool_choice`, `strict`,
            `parallel_tool_calls` and `response_format` where they were given.

    Raises:
        SegmindInvalidInputError: `tool_choice` names no tool, a schema cannot be used, or tools
            meet a `response_format` that cannot be told from a call.
    """
    fields = dict(given)
    form = _format_from(fields.pop("response_format", None))
    reader = _answer_reader(form)
    tools, choice = _tools_from(fields.pop("tools", None), fields.pop("tool_choice", None))
    strict = bool(fields.pop("strict", None))
    parallel = fields.pop("parallel_tool_calls", None)
    if tools is None:
        if form is not None:
            fields["response_format"] = form
        return Prompt(_with_schema_in_words(wire, form, "Reply"), fields, answer=reader)
    answer = None if form is None else _answer_schema(form, choice)
    constraint = response_format(tools, choice, strict=strict, answer=answer)
    if constraint is not None:
        fields["response_format"] = constraint
    wrapped = strict and not choice.is_forced and answer is None
    turns = [text_of_wire(message) for message in wire if message["role"] == "user"]
    forced = choice.allowed if choice.is_forced else ()
    tools = replace(tools, conversation=Conversation(turns), forced=forced)
    wire = _with_schema_in_words(wire, form, "Call a function, or if none helps reply")
    wire = _with_tools(wire, render_tools(tools, choice, parallel=parallel))
    return Prompt(wire, fields, tools, wrapped, reader)


def _format_from(form: object) -> Any:
    """The `response_format` of the wire; a pydantic class or TypedDict stands for its schema."""
    if isinstance(form, type):
        from langchain_segmind._messages.structured_output import schema_format

        form = schema_format(form)
    try:
        match form:
            case {"json_schema": {"schema": Mapping() as schema}}:
                check_schema(schema, "response_format")
    except ValueError as error:
        raise SegmindInvalidInputError(f"{error} Nothing was sent.") from None
    return form


def _answer_reader(form: object) -> StructuredOutputParser | None:
    """What reads the answer of a form that a caller gave; those of chains are read behind them."""
    match form:
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": dict(schema)}}:
            from langchain_segmind._messages.structured_output import (
                FormOfChain,
                StructuredOutputParser,
            )

            if name and not isinstance(form, FormOfChain):
                named = {**schema, "title": name}
                return StructuredOutputParser(form=named, method="json_schema")
    return None


def _answer_schema(form: object, choice: Choice) -> dict[str, Any]:
    """The form of an answer that is no call, where the two can be told apart."""
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            whole = as_mapping(resolve(schema.get("$ref", "#"), schema))  # Of a recursive class.
            named = whole.get("properties")
            is_apart = isinstance(named, Mapping) and not {"name", "parameters"} <= named.keys()
            if is_apart and not choice.is_forced:
                return schema
    raise SegmindInvalidInputError(
        "This response_format and tools exclude each other on this API, whose tool calls are text: "
        "leave tool_choice to the model and give a JSON schema that no call fits, bind a tool of "
        "the answer's form, or with create_agent use ToolStrategy. Nothing was sent."
    )


def _tools_from(tools: Sequence[Any] | None, tool_choice: object) -> tuple[ToolSet | None, Choice]:
    if not tools:
        return None, Choice(())
    try:
        if not isinstance(tools, BoundTools):
            tools = BoundTools.of(tools)
        choice = parse_tool_choice(tool_choice, tools.compiled.names)
    except ValueError as error:
        raise SegmindInvalidInputError(f"{error} Nothing was sent.") from None
    return (tools.compiled if choice.allowed else None), choice


def _with_tools(wire: Sequence[WireMessage], text: str) -> list[WireMessage]:
    """Put tools where the model was trained to find them: ahead of the first user's words."""
    turns = list(wire)
    roles = [turn["role"] for turn in turns]
    if "user" in roles:
        at = roles.index("user")
        turns[at] = {"role": "user", "content": _join(text, turns[at]["content"])}
    else:
        turns.insert(roles.count("system"), {"role": "user", "content": text})
    return turns


def _with_schema_in_words(
    wire: Sequence[WireMessage], form: object, reply: str
) -> Sequence[WireMessage]:
    """Say in the last user message what `response_format` says, for back ends that ignore it."""
    match form:
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            described = escape_special_tokens(json.dumps(schema, ensure_ascii=False))
            fit = f" It must fit this JSON schema:\n{described}"
        case {"type": "json_object"}:
            fit = ""
        case _:
            return wire
    text = f"\n\n{reply} with one JSON object and nothing else: no prose, no code fence.{fit}"
    turns = list(wire)
    for at in reversed(range(len(turns))):
        if turns[at]["role"] == "user":
            turns[at] = {"role": "user", "content": _join(turns[at]["content"], text)}
            return turns
    return [*turns, {"role": "user", "content": text.strip()}]


def _join(first: str | list[Part], second: str | list[Part]) -> str | list[Part]:
    if isinstance(first, str) and isinstance(second, str):
        return first + second
    lists = [[text_part(each)] if isinstance(each, str) else each for each in (first, second)]
    return [*lists[0], *lists[1]]
