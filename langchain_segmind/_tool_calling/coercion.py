"""Fit the values of a call to its tool's schema, where nothing is lost by it."""

from collections.abc import Mapping
from itertools import islice
from types import NoneType, UnionType
from typing import Any

from langchain_segmind._tool_calling.literals import read_literal
from langchain_segmind._tool_calling.schema import as_mapping, resolve
from langchain_segmind._tool_calling.toolset import JsonSchema

_MAX_DEPTH = 64
"""Deeper values are left as they are: schemas may be recursive, stacks may not."""


def fit_arguments(arguments: dict[str, Any], schema: JsonSchema) -> dict[str, Any]:
    """The arguments with each value in the type its schema asks for, where that is safe."""
    return dict(_Fitter(schema).object(arguments, schema, _MAX_DEPTH))


class _Fitter:
    """One walk through a value and its schema, whose `$ref`s point into `root`."""

    def __init__(self, root: JsonSchema) -> None:
        self._root = root

    def fit(self, value: Any, schema: Any, depth: int) -> Any:
        schema = self._resolve(schema)
        if depth == 0 or not schema:
            return value
        branches = _branches(schema)
        if branches and not _accepts(schema, value):
            return self._fit_branch(value, branches, depth)
        value = _convert(value, schema)
        if isinstance(value, dict):
            return self.object(value, schema, depth)
        if isinstance(value, list):
            return self._array(value, schema, depth)
        return value

    def object(self, value: dict[str, Any], schema: JsonSchema, depth: int) -> dict[str, Any]:
        schema = self._resolve(schema)
        properties = as_mapping(schema.get("properties"))
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
        resolved = [self._resolve(branch) for branch in branches]
        taking = [branch for branch in resolved if self._takes(branch, value)]
        for branch in taking or resolved:
            fitted = self.fit(value, branch, depth - 1)
            if taking or self._takes(branch, fitted):
                return fitted
        return value

    def _takes(self, schema: JsonSchema, value: Any) -> bool:
        if not _accepts(schema, value) or not isinstance(value, dict):
            return _accepts(schema, value)
        known = as_mapping(schema.get("properties"))
        return set(schema.get("required") or ()) <= value.keys() and all(
            as_mapping(known.get(key)).get("const", item) == item for key, item in value.items()
        )

    def _resolve(self, schema: Any) -> JsonSchema:
        """The schema together with what it refers to and the parts of its `allOf`."""
        whole: dict[str, Any] = {}
        waiting = [schema]
        for part in map(as_mapping, islice(waiting, _MAX_DEPTH)):
            said = [as_mapping(each.get("properties")) for each in (part, whole)]
            whole = {
                **part,
                **whole,
                **({"properties": {**said[0], **said[1]}} if any(said) else {}),
            }
            waiting += part.get("allOf") or ()
            if isinstance(part.get("$ref"), str):
                waiting.append(resolve(part["$ref"], self._root))
        if whole and "type" not in whole and not whole.keys() & {"enum", "const"}:
            return {**whole, **_untold_type(whole)}
        return whole


def _untold_type(schema: JsonSchema) -> JsonSchema:
    """The type of a schema that only says what is in its objects, or arrays."""
    kinds = ("object", "properties"), ("array", "items"), ("array", "prefixItems")
    return next(({"type": kind} for kind, keyword in kinds if keyword in schema), {})


def _branches(schema: JsonSchema) -> list[Any]:
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        common = {key: schema[key] for key in _COMMON if key in schema}
        return [{"allOf": [branch, common]} for branch in branches] if common else branches
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": name} for name in schema["type"]]
    return []


def _accepts(schema: JsonSchema, value: Any) -> bool:
    """Whether a value has the type, and is one of the values, that a plain schema asks for."""
    if _branches(schema) or schema.get("const", value) != value:
        return False
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return False
    wanted = _CLASSES.get(schema.get("type", ""), object)
    return isinstance(value, wanted) and (not isinstance(value, bool) or wanted in (bool, object))


def _convert(value: Any, schema: JsonSchema) -> Any:
    """The value in the type that is asked for; Llama writes most values as strings."""
    if _accepts(schema, value):
        return value
    kind = schema.get("type")
    try:
        converted = read_literal(value) if isinstance(value, str) else value
    except ValueError:
        return value
    if kind == "integer" and isinstance(converted, float) and converted.is_integer():
        converted = int(converted)
    elif kind == "string" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # Any other value may have been written in several ways.
    return converted if _accepts(schema, converted) else value


_COMMON = ("type", "properties", "items", "additionalProperties")
"""What a schema may say beside `anyOf`, of all branches."""
_CLASSES: Mapping[str, type | UnionType] = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": NoneType,
    "array": list,
    "object": dict,
}
