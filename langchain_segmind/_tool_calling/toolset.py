"""The tools bound to a model: compiled once, asked often.

A `ToolSet` keeps everything that depends on the tools alone (their text for the prompt, the pattern
that finds their names in a reply), a `Choice` says which of them the model may or must call, and
`response_format` turns both into a schema that constrains decoding.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from langchain_core.messages import InvalidToolCall
from langchain_core.messages.tool import ToolCall

from langchain_segmind._tool_calling.schema import as_mapping, check_schema

JsonSchema: TypeAlias = dict[str, Any]

ANSWER_KEY = "answer"
"""Under strict decoding a reply that calls nothing comes as `{"answer": "..."}`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tools the model may call, and whether it must call one of them."""

    allowed: tuple[str, ...]
    """None of them where the model is not told of any tool."""
    is_forced: bool = False


class Conversation:
    """What users and tools have said, read only where a reply may quote it."""

    def __init__(self, turns: Sequence[str] = ()) -> None:
        """Keep the turns of the role `user`, whose texts may be encoded as JSON."""
        self._turns = turns

    def __contains__(self, words: str) -> bool:
        """Whether these words stand in it, however they are spaced and escaped."""
        return _without_space(words) in self._words

    @cached_property
    def _words(self) -> str:
        return "\n".join(map(_without_space, self._turns))


def _without_space(words: str) -> str:
    return re.sub(r"\\+[nrt]?|\s+", "", words)


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools bound to a model, compiled once."""

    names: tuple[str, ...]
    prompt: str
    """The tools as the model was trained to read them: JSON, indented by four."""

    spellings: tuple[str, ...] = field(repr=False)
    """What a name that stands before its arguments may look like."""

    starts: re.Pattern[str] = field(repr=False)
    """Finds every place of a reply at which a call may begin."""

    _schemas: Mapping[str, JsonSchema] = field(repr=False)
    conversation: Conversation = field(default_factory=Conversation, repr=False)
    forced: tuple[str, ...] = ()
    """The tools of which one has to be called, whatever the model thinks of it."""

    @classmethod
    def compile(cls, tools: Sequence[Mapping[str, Any]]) -> "ToolSet":
        """Compile OpenAI-format tools; descriptions and parameters may be missing."""
        functions = [dict(tool.get("function", tool)) for tool in tools]
        schemas = {function["name"]: _parameters(function) for function in functions}
        whole = [{"type": "function", "function": function} for function in functions]
        names = "|".join(map(re.escape, sorted(schemas, key=len, reverse=True))) or "(?!)"
        return cls(
            names=tuple(schemas),
            prompt=escape_special_tokens("\n\n".join(_JSON.encode(tool) for tool in whole)),
            spellings=(*schemas, *(f"functions.{name}" for name in schemas)),
            starts=re.compile(_STARTS.replace("NAMES", names), re.VERBOSE),
            _schemas=schemas,
        )

    def __contains__(self, name: object) -> bool:
        """Whether a tool has this name."""
        return name in self._schemas

    def schema(self, name: str) -> JsonSchema:
        """The JSON schema of a tool's parameters."""
        return self._schemas[name]

    def properties(self, name: str) -> Mapping[str, Any]:
        """A tool's parameters by name."""
        return as_mapping(self._schemas[name].get("properties"))

    def required(self, name: str) -> frozenset[str]:
        """The parameters a tool cannot do without."""
        required = self._schemas[name].get("required")
        return frozenset(required) if isinstance(required, list) else frozenset()

    def find_name(self, written: str) -> str | None:
        """The tool that a model means by `functions.name`, `name.call`, `Name` or `na_me`."""
        if written in self:
            return written
        name = _MARKED.sub("", written)
        for spelled in (str, str.casefold, _fold):
            alike = [known for known in self.names if spelled(known) == spelled(name)]
            if len(alike) == 1:
                return alike[0]
        return None


_MARKED = re.compile(r"\Afunctions\.|\.call\Z", re.IGNORECASE)


def _fold(name: str) -> str:
    """A name without what other APIs do not let a model write: case, dots and hyphens."""
    return name.casefold().replace(".", "_").replace("-", "_")


_QUOTED = r"""(?: "[^"\\\n]{0,200}+" | '[^'\\\n]{0,200}+' )"""
_KEY = rf"(?: {_QUOTED} | \w{{1,64}}+ )"
_STARTS = r"""
    (?P<tag> < \s{0,4} function \b \s{0,4} (?: =+ | name \s{0,4} = | [(/:>] ) \s{0,4} ["'`]?
        (?: functions\. )? (?P<tagged> NAMES ) (?! [\w\-] | \.\w ) )
  | (?P<value> \{ (?= \s{0,40} KEY \s{0,8} : \s{0,40} ["'{\[\w\-] )
             | \[ (?= \s{0,40} (?:
                   \{ \s{0,40} ["'\w] | [\w.\-]{1,128}+ \( | QUOTED \s{0,8} [,\]] ) ) )
  | (?P<bare> (?<! [\w.\-"'/(] ) (?: functions\. )? (?: NAMES ) (?: \.call )?
        (?= \s{0,8} [>=]? \s{0,8} \(? \s{0,8} \{ | \s{0,8} \( ) )
""".replace("KEY", _KEY).replace("QUOTED", _QUOTED)


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A reply, taken apart."""

    content: str
    """The text that remains."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    invalid_tool_calls: list[InvalidToolCall] = field(default_factory=list)


def parse_tool_choice(value: object, names: tuple[str, ...]) -> Choice:
    """Understand every spelling of `tool_choice`; one that names no tool is a ValueError."""
    match value:
        case {"type": "function", "function": {"name": str(name)}}:
            pass
        case {"type": "tool" | "function", "name": str(name)}:
            pass
        case None | False | "auto" | {"type": "auto"}:
            return Choice(names)
        case "none" | {"type": "none"}:
            return Choice(())
        case True | "any" | "required" | {"type": "any" | "required"}:
            return Choice(names, is_forced=True)
        case str(name):
            pass
        case _:
            name = ""
    if name not in names:
        choices = ", ".join(map(repr, ("auto", "none", "any", "required", *names)))
        raise ValueError(f"Unknown tool_choice {value!r}: choose one of {choices}.")
    return Choice((name,), is_forced=True)


def response_format(
    tools: ToolSet, choice: Choice, *, strict: bool, answer: JsonSchema | None = None
) -> JsonSchema | None:
    """The `response_format` that lets only allowed replies be decoded, if any are excluded.

    A forced choice is always a single call object: small models close it reliably, and a further
    call can follow in the next turn. `answer` is the form of a reply that calls nothing, instead
    of the wrapped text that `strict` asks for.
    """
    if answer is None and strict:
        answer = _exact_object({ANSWER_KEY: {"type": "string"}})
    if not choice.allowed or (answer is None and not choice.is_forced):
        return None
    definitions: JsonSchema = {}
    branches = []
    for index, name in enumerate(choice.allowed):
        parameters = _hoist(tools.schema(name), str(index), definitions)
        branches.append(_exact_object({"name": {"const": name}, "parameters": parameters}))
    if answer is not None and not choice.is_forced:
        branches.append(_hoist(answer, ANSWER_KEY, definitions))
    schema = branches[0] if len(branches) == 1 else {"anyOf": branches}
    if definitions:
        schema = {**schema, "$defs": definitions}
    title = "call" if choice.is_forced else "call_or_answer"
    return {
        "type": "json_schema",
        "json_schema": {"name": title, "strict": True, "schema": schema},
    }


def _hoist(schema: JsonSchema, index: str, definitions: JsonSchema) -> JsonSchema:
    """Move a schema's own definitions up, under names that begin with its index."""
    root = f'"$ref": "#/$defs/{index}'
    # In JSON the quotes of a text are escaped: only a reference looks like one.
    written = _REFERENCE.sub(lambda found: f"{root}-" if found[1] else root, json.dumps(schema))
    hoisted: JsonSchema = json.loads(written)
    for keyword in ("$defs", "definitions"):
        for key, definition in hoisted.pop(keyword, {}).items():
            definitions[f"{index}-{key}"] = definition
    if f'{root}"' in written or f"{root}/" in written:  # Something points at the whole of it.
        definitions[index] = hoisted
    return hoisted


_REFERENCE = re.compile(r'"\$ref": "#(/(?:\$defs|definitions)/)?')


def _exact_object(properties: JsonSchema) -> JsonSchema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _parameters(function: Mapping[str, Any]) -> JsonSchema:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    check_schema(schema, f"the tool {function['name']!r}")
    return dict(schema)


_JSON = json.JSONEncoder(indent=4, ensure_ascii=False)


def escape_special_tokens(encoded: str) -> str:
    r"""Encoded JSON without special tokens or odd line ends: `<|` becomes `\u003c|`.

    Decoding gives the same value back, yet nothing in it can end a turn.
    """
    for raw, escaped in _ESCAPES.items():
        encoded = encoded.replace(raw, escaped)
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)


_ESCAPES = {"<|": "\\u003c|", "\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
