"""Refuse the schemas that cannot be used when they are bound, before anything is paid for them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote


def check_schema(schema: Mapping[str, Any], owner: str) -> None:
    """Check what a JSON schema says of types, patterns and references, and the kinds of the rest.

    The ValueError says whose it is, and what cannot be used: also a `$ref` that leads to itself, or
    out of the schema, since the network is never asked.
    """
    waiting: list[Any] = [schema]
    seen = {id(schema)}
    for node in waiting:
        if fault := next(_faults(node, schema), None):
            raise ValueError(f"The schema of {owner} cannot be used: {fault}.")
        if isinstance(node, Mapping):
            inner = (*_subschemas(node), *_said_elsewhere(node, schema))
            waiting += [each for each in inner if id(each) not in seen]
            seen.update(map(id, inner))


def _faults(node: object, schema: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with one schema of those that make up the whole."""
    if isinstance(node, Mapping):
        yield from _faults_of_values(node)
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in node:
                yield from _faults_of_reference(node[keyword], schema)
        if _meets_itself(node, schema):
            yield f"the $ref of {_excerpt(node)} leads back to itself before it says anything"
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
    elif not isinstance(resolve(reference, schema), (Mapping, bool)):
        yield f"the $ref {_excerpt(reference)} leads to nothing in the schema"


def _meets_itself(node: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether what is said of a value is to be looked up where it stands, and so never found."""
    waiting = list(_said_elsewhere(node, schema))
    seen = set(map(id, waiting))
    for part in waiting:
        if part is node:
            return True
        new = [each for each in _said_elsewhere(part, schema) if id(each) not in seen]
        seen.update(map(id, new))
        waiting += new
    return False


def _said_elsewhere(node: object, schema: Mapping[str, Any]) -> Iterator[object]:
    """What else every value has to fit that fits a schema."""
    node = as_mapping(node)
    if isinstance(node.get("$ref"), str):
        yield resolve(node["$ref"], schema)
    if isinstance(parts := node.get("allOf"), (list, tuple)):
        yield from parts


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


def is_reference(schema: object) -> bool:
    """Whether a schema only refers to what it holds: LangChain would leave that out of a tool."""
    if not isinstance(schema, dict) or "title" not in schema or "properties" in schema:
        return False
    return not {"$ref", "allOf", "anyOf", "oneOf"}.isdisjoint(schema)


def without_borrowed_docs(schema: Any, form: object) -> Any:
    """Leave out what langchain-core takes for the docstring of a class that has none.

    That is `dict`'s of a TypedDict and an Enum's of pydantic, however far in, and of a dataclass
    its own signature. What is no class is left as it is.
    """
    if not isinstance(form, type) or not isinstance(schema, (dict, list)):
        return schema
    if isinstance(schema, list):
        return [without_borrowed_docs(each, form) for each in schema]
    own = re.escape(form.__name__)
    borrowed = rf"dict\(\) -> new empty dictionary.*|An enumeration\.|{own}\(.*\)"
    return {
        key: without_borrowed_docs(value, form)
        for key, value in schema.items()
        if key != "description" or not re.fullmatch(borrowed, str(value), re.DOTALL)
    }


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
    ("a list", (list, tuple), ("anyOf", "allOf", "oneOf", "prefixItems", "enum", "required")),
    (
        "a number",
        (int, float),
        (
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
            *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        ),
    ),
)
_BAD_ANYWHERE = ("unterminated", "missing", "unbalanced", "nothing to repeat", "bad escape (end")
