"""Fit the values of a call to its tool's schema, where nothing is lost by it."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from langchain_segmind._tool_calling.literals import read_literal
from langchain_segmind._tool_calling.toolset import JsonSchema

_DEPTH = 64
"""Deeper values are left as they are: schemas may be recursive, stacks may not."""


def fit_arguments(arguments: dict[str, Any], schema: JsonSchema) -> dict[str, Any]:
    """The arguments with each value in the type its schema asks for, where that is safe."""
    return dict(_Fitting(schema).object(arguments, schema, _DEPTH))


class _Fitting:
    """One walk through a value and its schema, whose `$ref`s point into `root`."""

    def __init__(self, root: JsonSchema) -> None:
        self._root = root

    def fit(self, value: Any, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema)
        if depth == 0 or not schema:
            return value
        branches = _branches(schema)
        if branches and not _accepts(schema, value):
            return self._fit_branch(value, branches, depth)
        value = _converted(value, schema)
        if isinstance(value, dict):
            return self.object(value, schema, depth)
        if isinstance(value, list):
            return self._array(value, schema, depth)
        return value

    def object(self, value: dict[str, Any], schema: JsonSchema, depth: int) -> dict[str, Any]:
        schema = self._resolved(schema)
        properties = _mapping(schema.get("properties"))
        other = schema.get("additionalProperties")
        return {
            key: self.fit(item, properties.get(key, other), depth - 1)
            for key, item in value.items()
        }

    def _array(self, value: list[Any], schema: JsonSchema, depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        rest = schema.get("items")
        return [
            self.fit(item, first[index] if index < len(first) else rest, depth - 1)
            for index, item in enumerate(value)
        ]

    def _fit_branch(self, value: Any, branches: list[Any], depth: int) -> Any:
        """The value as it is if a branch takes it; else as the first branch that can be fitted."""
        resolved = [self._resolved(branch) for branch in branches]
        for branch in resolved:
            if self._takes(branch, value):
                return self.fit(value, branch, depth - 1)
        for branch in resolved:
            fitted = self.fit(value, branch, depth - 1)
            if self._takes(branch, fitted):
                return fitted
        return value

    def _takes(self, schema: JsonSchema, value: Any) -> bool:
        if not _accepts(schema, value):
            return False
        if not isinstance(value, dict):
            return True
        known = _mapping(schema.get("properties"))
        required = schema.get("required") or []
        return all(key in value for key in required) and (
            not known
            or all(
                "const" not in _mapping(known.get(key)) or known[key]["const"] == item
                for key, item in value.items()
            )
        )

    def _resolved(self, schema: Any) -> JsonSchema:
        for _ in range(_DEPTH):
            if not isinstance(schema, Mapping):
                return {}
            inner = schema.get("allOf")
            if isinstance(inner, list) and len(inner) == 1 and "type" not in schema:
                schema = inner[0]
            elif isinstance(schema.get("$ref"), str):
                schema = self._target(schema["$ref"])
            else:
                return dict(schema)
        return {}

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return {}
        node: Any = self._root
        for step in reference[1:].split("/")[1:]:
            node = _mapping(node).get(step.replace("~1", "/").replace("~0", "~"))
        return node


def _branches(schema: JsonSchema) -> list[Any]:
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        return branches
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": name} for name in schema["type"]]
    return []


def _accepts(schema: JsonSchema, value: Any) -> bool:
    """Whether a value has the type, and is one of the values, that a plain schema asks for."""
    if _branches(schema):
        return False
    if "const" in schema and schema["const"] != value:
        return False
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return False
    check = _CHECKS.get(schema.get("type", ""))
    return check is None or check(value)


def _converted(value: Any, schema: JsonSchema) -> Any:
    if _accepts(schema, value):
        return value
    kind = schema.get("type")
    convert = _CONVERSIONS.get(kind) if isinstance(kind, str) else None
    return value if convert is None else convert(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,999})", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,99})(?:\.\d{1,99})?(?:[eE][+-]?\d{1,3})?", re.ASCII)


def _to_integer(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # int() and float() do not take all the space that strip() takes off.
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip()):
        return int(text)
    return value


def _to_number(value: Any) -> Any:
    whole = _to_integer(value) if isinstance(value, str) else value
    if not isinstance(whole, str) or not _NUMBER.fullmatch(text := whole.strip()):
        return whole
    number = float(text)
    return number if math.isfinite(number) else value


def _to_boolean(value: Any) -> Any:
    return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value


_BOOLEANS = {"true": True, "false": False}


def _to_null(value: Any) -> Any:
    is_null = isinstance(value, str) and value.strip().lower() in {"null", "none"}
    return None if is_null else value


def _to_string(value: Any) -> Any:
    """A whole number is its digits; any other value may have been written in several ways."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _to_array(value: Any) -> Any:
    return _as_literal(value, list)


def _to_object(value: Any) -> Any:
    return _as_literal(value, dict)


def _as_literal(value: Any, kind: type) -> Any:
    """The array or object that Llama wrote into a string, as JSON or (often) as Python."""
    read = read_literal(value) if isinstance(value, str) else None
    return read if isinstance(read, kind) else value


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "string": _to_string,
    "integer": _to_integer,
    "number": _to_number,
    "boolean": _to_boolean,
    "null": _to_null,
    "array": _to_array,
    "object": _to_object,
}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
