"""Refuse the schemas that cannot be used when they are bound, before anything is paid for them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote


def check_schema(schema: Mapping[str, Any], owner: str) -> None:
    """Check what a JSON schema says of types, patterns and references, and the kinds of the rest.

    The ValueError says whose it is, and what cannot be used: also a `$ref` that leads out of the
    schema, since the network is never asked.
    """
    waiting: list[Any] = [schema]
    for node in waiting:
        if fault := next(_faults(node, schema), None):
            raise ValueError(f"The schema of {owner} cannot be used: {fault}.")
        if isinstance(node, Mapping):
            waiting += _subschemas(node)


def _faults(node: object, schema: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with one schema of those that make up the whole."""
    if isinstance(node, Mapping):
        yield from _faults_of_values(node)
        for keyword in ("$ref", "$dynamicRef"):
            yield from _faults_of_reference(node.get(keyword, "#"), schema)
    elif not isinstance(node, bool):
        yield f"{_excerpt(node)} stands where a schema should"


def _faults_of_values(node: Mapping[str, Any]) -> Iterator[str]:
    for words, kind, keywords in _KINDS:
        for keyword in keywords:
            if keyword in node and not isinstance(node[keyword], kind):
                yield f"{keyword} is {_excerpt(node[keyword])} and should be {words}"
    types = node.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if name not in TYPES:
            yield f"the type {_excerpt(name)} is none of {', '.join(TYPES)}"
    for pattern in (node.get("pattern", ""), *as_mapping(node.get("patternProperties"))):
        if why := _fault_of_pattern(pattern):
            yield f"the pattern {_excerpt(pattern)} is none: {why}"


def _faults_of_reference(reference: object, schema: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(reference, str) or not reference.startswith("#"):
        yield (
            f"the $ref {_excerpt(reference)} leads out of the schema, and nothing is fetched: put "
            "what it means under $defs"
        )
    elif not isinstance(resolve(reference, schema), Mapping | bool):
        yield f"the $ref {_excerpt(reference)} leads to nothing in the schema"


def _fault_of_pattern(pattern: object) -> str | None:
    try:
        re.compile(pattern if isinstance(pattern, str) else "(")
    except re.error as error:
        # What only Python does not know may be a good pattern of ECMA 262, as JSON Schema has them.
        return str(error) if error.msg.startswith(_BAD_ANYWHERE) else None
    return None


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


def _excerpt(value: object) -> str:
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
