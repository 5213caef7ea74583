"""Refuse the schemas that cannot be used when they are bound, before anything is paid for them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote


def check_schema(schema: Mapping[str, Any], owner: str) -> None:
    """Check what a JSON schema says of types, patterns and references, and the kinds of the rest.

    Args:
        schema: A tool's, or that of an answer.
        owner: Whose it is, in words.

    Raises:
        ValueError: A type is unknown, a pattern is none, a keyword holds what no value can be
            checked by, or a `$ref` leads to nothing or out of the schema: the network is never
            asked.
    """
    try:
        _check_all(schema)
    except ValueError as error:
        raise ValueError(f"The schema of {owner} cannot be used: {error}.") from None


def _check_all(schema: Mapping[str, Any]) -> None:
    waiting: list[Any] = [schema]
    for node in waiting:
        if isinstance(node, Mapping):
            _check_kinds(node)
            _check_types(node.get("type", []))
            for pattern in (node.get("pattern", ""), *as_mapping(node.get("patternProperties"))):
                _check_pattern(pattern)
            for keyword in ("$ref", "$dynamicRef"):
                _check_reference(node.get(keyword, "#"), schema)
            waiting += _subschemas(node)
        elif not isinstance(node, bool):
            raise ValueError(  # noqa: TRY004 - a schema is data, and has no types of Python's.
                f"{_shown(node)} stands where a schema should"
            )


def _check_kinds(node: Mapping[str, Any]) -> None:
    for words, kind, keywords in _KINDS:
        for keyword in keywords:
            if keyword in node and not isinstance(node[keyword], kind):
                raise ValueError(f"{keyword} is {_shown(node[keyword])} and should be {words}")


def _check_types(types: object) -> None:
    for name in types if isinstance(types, list) else [types]:
        if name not in TYPES:
            raise ValueError(f"the type {_shown(name)} is none of {', '.join(TYPES)}")


def _check_pattern(pattern: object) -> None:
    try:
        re.compile(pattern if isinstance(pattern, str) else "(")
    except re.error as error:
        # What only Python does not know may be a good pattern of ECMA 262, as JSON Schema has them.
        if error.msg.startswith(_BAD_ANYWHERE):
            raise ValueError(f"the pattern {_shown(pattern)} is none: {error}") from None


def _check_reference(reference: object, schema: Mapping[str, Any]) -> None:
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise ValueError(
            f"the $ref {_shown(reference)} leads out of the schema, and nothing is fetched: put "
            "what it means under $defs"
        )
    is_schema = isinstance(resolve(reference, schema), Mapping | bool)
    if not is_schema:
        raise ValueError(f"the $ref {_shown(reference)} leads to nothing in the schema")


def resolve(reference: str, schema: Mapping[str, Any]) -> Any:
    """Give what a `$ref` points at within a schema, None if nothing."""
    pointer = unquote(reference).split("/")
    node: Any = schema if pointer[0] == "#" else None
    for step in pointer[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = dict(enumerate(node)).get(int(name) if name.isdecimal() else -1)
        else:
            node = as_mapping(node).get(name)
    return node


def _subschemas(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in _NAMED:
        yield from as_mapping(schema.get(keyword)).values()
    for keyword in _PLAIN:
        inner = schema.get(keyword, [])
        yield from inner if isinstance(inner, list) else [inner]


def as_mapping(value: object) -> Mapping[str, Any]:
    """Give a value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _shown(value: object) -> str:
    return repr(value)[:80]


TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_PLAIN = (
    *("anyOf", "allOf", "oneOf", "prefixItems", "items", "contains", "propertyNames"),
    *("additionalProperties", "not", "if", "then", "else"),
)
_KINDS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("an object", Mapping, _NAMED),
    ("a list", list | tuple, ("anyOf", "allOf", "oneOf", "prefixItems", "enum", "required")),
    (
        "a number",
        int | float,
        (
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
            *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        ),
    ),
)
_BAD_ANYWHERE = ("unterminated", "missing", "unbalanced", "nothing to repeat", "bad escape (end")
