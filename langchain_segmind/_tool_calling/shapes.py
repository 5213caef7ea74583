"""What a value that a model wrote asks for: calls, or nothing.

Models shape a call in many ways: wrapped, renamed, with its arguments as a string, or with the
schema around them. `requests_in` accepts those that leave no doubt, and answers None for a value
that is no call, so that an answer which merely is JSON stays an answer.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import InvalidToolCall
from langchain_core.messages.tool import ToolCall, invalid_tool_call, tool_call

from langchain_segmind._tool_calling.coercion import fit_arguments
from langchain_segmind._tool_calling.literals import (
    Broken,
    Frame,
    PythonCall,
    Value,
    holds_call,
    read_literal,
)
from langchain_segmind._tool_calling.schema import TYPES, as_mapping
from langchain_segmind._tool_calling.toolset import ToolSet


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call that a model asked for: with its arguments, or with the reason it cannot be run."""

    name: str
    arguments: dict[str, Any]
    raw: str = ""
    """The arguments as the model wrote them, where they cannot be used."""
    error: str | None = None
    is_doubtful: bool = False
    """Whether it counts only in a reply that is nothing but calls."""


def sort_calls(
    requests: Iterable[tuple[ToolRequest, str | None]],
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Tell the calls that can run from those that cannot, each with its identifier."""
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for request, call_id in requests:
        name, raw, error = request.name, request.raw, request.error
        if error is None:
            calls.append(tool_call(name=name, args=request.arguments, id=call_id))
        else:
            invalid.append(invalid_tool_call(name=name, args=raw, id=call_id, error=error))
    return calls, invalid


NAME_KEYS = ("name", "function_name", "tool_name", "tool", "function")
ARGUMENT_KEYS = ("parameters", "arguments", "args", "params", "input", "kwargs")
_CONTAINERS = ("tool_calls", "tool_call", "function_calls", "function_call", "calls", "functions")
_CALL_TYPES = ("function", "function_call", "tool_call", "tool_use", "tool", "custom")
_LABELS = frozenset({"type", "id", "call_id", "tool_call_id", "index"})


def requests_in(value: Value, tools: ToolSet) -> list[ToolRequest]:
    """The calls of bound tools that a value asks for, where it is nothing but calls."""
    match value:
        case PythonCall():
            request = _from_python(value, tools)
        case dict():
            contained = _container(value)
            if contained is not None:
                found = [requests_in(inner, tools) for inner in contained]
                return [each for requests in found for each in requests] if all(found) else []
            request = _from_object(value, tools)
        case list():
            return _pairs(value, tools)
        case _:
            return []
    return [] if request is None else [request]


def _pairs(values: list[Value], tools: ToolSet) -> list[ToolRequest]:
    """The calls of `["name", {…}, "name", {…}]`."""
    found: list[ToolRequest] = []
    for name, written in zip(values[::2], values[1::2], strict=False):
        tool = tools.find_name(name) if isinstance(name, str) else None
        arguments = _as_object(written) if isinstance(written, str) else written
        if tool is None or not isinstance(arguments, dict):
            return []
        if not arguments.keys() <= tools.properties(tool).keys():
            return []
        found.append(with_arguments(tool, arguments, tools))
    return found if len(values) == 2 * len(found) else []


def doubtful_requests(value: Value, tools: ToolSet) -> list[ToolRequest]:
    """The calls that a value asks for if a reply is nothing but calls: answers may be alike."""
    if isinstance(value, list):
        return _keyed(value, tools)
    request = _unknown_request(value)
    return [] if request is None else [request]


def _keyed(values: list[Value], tools: ToolSet) -> list[ToolRequest]:
    """The calls of `[{"name": {…}}, {"name": {…}}]`."""
    found: list[ToolRequest] = []
    for value in values:
        if not isinstance(value, dict) or len(value) != 1:
            return []
        ((name, arguments),) = value.items()
        tool = tools.find_name(name)
        if tool is None or not isinstance(arguments, dict) or not _fits(arguments, tool, tools):
            return []
        found.append(replace(with_arguments(tool, arguments, tools), is_doubtful=True))
    return found


def _unknown_request(value: Value) -> ToolRequest | None:
    """The call that a value of the trained form asks for, though no tool has its name."""
    if not isinstance(value, dict) or _is_definition(value):
        return None
    rest = dict(value)
    name, kind = rest.pop("name", None), rest.pop("type", "function")
    if kind != "function" or not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        return None
    match rest:
        case {"parameters": dict(arguments)} | {"arguments": dict(arguments)} if len(rest) == 1:
            if holds_call(arguments):
                return None
            return ToolRequest(name, arguments, is_doubtful=True)
        case _:
            return None


# A capitalised word is the name of a person or of a thing.
_FUNCTION_NAME = re.compile(
    r"(?![A-Z](?:[a-z]*|[A-Z]*)\Z)[A-Za-z_]\w{0,63}(?:\.[A-Za-z_]\w{0,63}){0,4}", re.ASCII
)


def looks_like_a_call(value: Value) -> bool:
    """Whether a value has the shape of a call, whoever's tool it names."""
    if isinstance(value, PythonCall):
        return True
    if not isinstance(value, dict):
        return False
    value = _unwrap(value)
    return isinstance(_name(value), str) and any(key in value for key in ARGUMENT_KEYS)


def _container(value: dict[str, Value]) -> list[Value] | None:
    for key in _CONTAINERS:
        inner = value.get(key)
        if isinstance(inner, list) and len(value) <= 1 + len(_LABELS & value.keys()):
            return inner
        if isinstance(inner, dict) and len(value) == 1:
            return [inner]
    return None


def _from_object(value: dict[str, Value], tools: ToolSet) -> ToolRequest | None:
    value = _unwrap(value)
    name = _name(value)
    tool = None if name is None else tools.find_name(name)
    if tool is None or _is_definition(value):
        return None
    for key in ARGUMENT_KEYS:
        if key in value:
            return with_arguments(tool, value[key], tools)
    return _without_arguments(tool, value, tools) if tool == name else None


def _unwrap(value: dict[str, Value]) -> dict[str, Value]:
    """The inside of `{"type": "function", "function": {...}}`, with what stands beside it."""
    inner = value.get("function")
    if not isinstance(inner, dict):
        return value
    return {**{key: item for key, item in value.items() if key != "function"}, **inner}


def _name(value: Mapping[str, Value]) -> str | None:
    for key in NAME_KEYS:
        name = value.get(key)
        if isinstance(name, str):
            return name.strip()
    return None


def _without_arguments(name: str, value: dict[str, Value], tools: ToolSet) -> ToolRequest | None:
    """A call with no word of arguments, or with the arguments beside the name."""
    rest = {key: item for key, item in value.items() if key not in _LABELS}
    rest = {key: item for key, item in rest.items() if key not in NAME_KEYS or item != name}
    if not rest:
        is_call = value.get("type") in _CALL_TYPES or not tools.required(name)
    else:
        known = tools.properties(name).keys()
        is_call = tools.required(name) <= rest.keys() <= known
    return with_arguments(name, rest, tools) if is_call else None


def with_arguments(name: str, arguments: Value, tools: ToolSet) -> ToolRequest:
    """A call of a bound tool with whatever stands in the place of its arguments."""
    read = _as_object(arguments)
    if read is None:
        return _invalid(name, arguments, "The arguments are not a JSON object.")
    read = _unnest(name, read, tools)
    if holds_call(read):
        return _invalid(name, arguments, "The arguments hold another call.")
    plain = _without_schema(read, tools.schema(name))
    if plain is None:
        return _invalid(name, arguments, "The arguments repeat the schema instead of values.")
    return ToolRequest(name, fit_arguments(plain, tools.schema(name)))


def _as_object(arguments: Value) -> dict[str, Value] | None:
    if arguments in (None, [], ""):
        return {}
    try:
        read = read_literal(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _unnest(name: str, arguments: dict[str, Value], tools: ToolSet) -> dict[str, Value]:
    """The arguments of a call that stands where only its arguments should: `f>{"name": "f", …}`."""
    properties = tools.properties(name)
    inner_keys = [key for key in ARGUMENT_KEYS if key in arguments and key not in properties]
    if not properties or "name" in properties or len(inner_keys) != 1 or _name(arguments) != name:
        return arguments
    inner = _as_object(arguments[inner_keys[0]])
    return arguments if inner is None else inner


def forced_request(value: Value, tools: ToolSet) -> ToolRequest | None:
    """The forced call whose bare arguments a value holds, if they fit no other that is allowed."""
    if not isinstance(value, dict):
        return None
    fitting = [name for name in tools.forced if _fits(value, name, tools)]
    if len(fitting) == 1:
        return with_arguments(fitting[0], value, tools)
    # A name that no tool has, if there is one, is what the schema is called in words.
    match [(key, item) for key, item in value.items() if key not in {*_FRAME, "name"}]:
        case [(key, dict() as inner)] if key in tools.forced:
            return with_arguments(key, inner, tools)
        case [("properties" | "parameters" | "arguments", dict() as inner)]:
            return forced_request(inner, tools)
        case _:
            return None


def _fits(arguments: dict[str, Value], name: str, tools: ToolSet) -> bool:
    known = tools.properties(name).keys()
    is_open = bool(tools.schema(name).get("additionalProperties"))
    return tools.required(name) <= arguments.keys() and (is_open or arguments.keys() <= known)


# A call in Python.


def _from_python(call: PythonCall, tools: ToolSet) -> ToolRequest | None:
    name = tools.find_name(call.name)
    if name is None:
        return None
    properties = list(tools.properties(name))
    match call.positional:
        case []:
            return with_arguments(name, call.keywords, tools)
        case [dict() as arguments] if not call.keywords:
            return with_arguments(name, arguments, tools)
        case [only] if len(properties) == 1 and not call.keywords:
            return with_arguments(name, {properties[0]: only}, tools)
        case positional:
            return _invalid(name, [*positional, call.keywords], "The arguments have no names.")


# A schema where values should be.


def _is_definition(value: Mapping[str, Value]) -> bool:
    """Whether this is a tool's definition, read back from the prompt: a text about the tool."""
    parameters = value.get("parameters")
    if not isinstance(parameters, dict):
        return False
    properties = parameters.get("properties")
    if parameters.get("type") != "object" or not isinstance(properties, dict):
        return False
    return all(
        isinstance(item, dict) and "value" not in item and item.keys() & _ALL_SCHEMA_KEYS
        for item in properties.values()
    )


def _without_schema(arguments: dict[str, Value], schema: Mapping[str, Any]) -> Any:
    """The arguments freed from a schema's form around them; None where no value can be told."""
    properties = schema.get("properties") or {}
    inner = arguments.get("properties")
    is_frame = bool(properties) and "properties" not in properties
    if is_frame and isinstance(inner, dict) and arguments.keys() <= {"properties", *_FRAME}:
        arguments = inner
    plain: dict[str, Value] = {}
    for key, item in arguments.items():
        wanted = as_mapping(properties.get(key)).get("type")
        if not _is_schema(item) or wanted == "object" or wanted not in _SCHEMA_TYPES:
            plain[key] = item
        elif isinstance(item, dict) and "value" in item:
            plain[key] = item["value"]
        else:
            return None
    return plain


_FRAME = frozenset({"type", "required", "additionalProperties"})
_SCHEMA_KEYS = frozenset({"type", "description", "title", "default", "enum", "format", "items"})
_SCHEMA_TYPES = (*TYPES, "float", "str", "int")


def _is_schema(item: Value) -> bool:
    """Whether a value is a schema, perhaps with the true value under `value` inside."""
    if not isinstance(item, dict) or item.get("type") not in _SCHEMA_TYPES:
        return False
    return item.keys() <= _SCHEMA_KEYS | {"value"}


_ALL_SCHEMA_KEYS = _SCHEMA_KEYS | {"$ref", "anyOf", "allOf", "oneOf", "const"}


def _invalid(name: str, arguments: Value, error: str) -> ToolRequest:
    raw = arguments
    if not isinstance(raw, str):
        raw = json.dumps(arguments, default=lambda call: f"{call.name}(...)")
    return ToolRequest(name, {}, raw, error)


# A call whose reading stopped.


def broken_call_in(broken: Broken, tools: ToolSet, *, cut: bool) -> tuple[str, int] | None:
    """The bound tool that a broken value was about to call, and where its arguments begin."""
    frames = broken.frames
    while frames and _holds_calls(frames[0]):
        frames = frames[1:]
    if not frames:
        return None
    if frames[0].opener != "{":
        called = tools.find_name(frames[0].opener)
        return (called, frames[0].start) if called else None
    return _broken_object(frames, tools, broken.end if cut else None)


def list_of_calls(broken: Broken) -> Frame | None:
    """The open list whose elements were to be calls."""
    for frame in broken.frames:
        if not _holds_calls(frame):
            return None
        if frame.opener == "[":
            return frame
    return None


def lacks_arguments(frame: Frame) -> bool:
    """Whether an open object has named a function but not come to its arguments."""
    named = frame.opener == "{" and _name(frame.named) is not None
    return named and not any(key in frame.named for key in ARGUMENT_KEYS)


def _holds_calls(frame: Frame) -> bool:
    return frame.opener == "[" or (frame.opener == "{" and frame.key in _CONTAINERS)


def _broken_object(frames: list[Frame], tools: ToolSet, end: int | None) -> tuple[str, int] | None:
    known = dict(frames[0].named)
    inner = frames[0]
    if inner.key == "function" and len(frames) > 1 and frames[1].opener == "{":
        inner = frames[1]
        known |= inner.named
    name = _name(known)
    tool = None if name is None else tools.find_name(name)
    if tool is None:
        return None
    if inner.key in ARGUMENT_KEYS or any(key in known for key in ARGUMENT_KEYS):
        return tool, inner.value_start
    return (tool, end) if end is not None and tool == name else None
