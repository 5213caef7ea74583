"""The smallest value that a JSON schema allows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.engines.base import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[Any], Any]

DEEPEST = 50


def minimal_instance(schema: dict[str, Any]) -> Any:
    """Make a small value that fits a schema."""
    return _make(schema, 0, schema)


def _make(root: dict[str, Any], depth: int, schema: Any) -> Any:
    if depth > DEEPEST:
        raise EngineError(400, "The JSON schema requires itself without an end")
    make = partial(_make, root, depth + 1)
    match schema:
        case {"$ref": str(reference)}:
            return make(_resolve(root, reference))
        case {"const": value} | {"enum": [value, *_]}:
            return value
        case {"anyOf": [option, *_]} | {"oneOf": [option, *_]}:
            return make(option)
        case {"allOf": [first, *others]}:
            parts = [make(first), *map(make, others)]
            merged = [pair for part in parts if isinstance(part, dict) for pair in part.items()]
            return dict(merged) or parts[0]
        case dict():
            return _of_type(schema, make)
    return None


def _of_type(schema: dict[str, Any], make: Make) -> Any:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind not in _TYPES:
        raise EngineError(400, f"The JSON schema has an unknown type: {kind}")
    return _TYPES[kind](schema, make)


def _object(schema: dict[str, Any], make: Make) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: make(properties.get(name, {})) for name in schema.get("required", [])}


def _array(schema: dict[str, Any], make: Make) -> list[Any]:
    return [make(schema.get("items", {})) for _ in range(schema.get("minItems", 0))]


def _integer(schema: dict[str, Any], _: Make) -> int:
    if "exclusiveMinimum" in schema:
        return int(schema["exclusiveMinimum"]) + 1
    return int(-(-schema.get("minimum", 0) // 1))


_TYPES: dict[str, Callable[[dict[str, Any], Make], Any]] = {
    "object": _object,
    "array": _array,
    "string": lambda schema, _: "a" * schema.get("minLength", 1),
    "integer": _integer,
    "number": lambda schema, make: float(_integer(schema, make)),
    "boolean": lambda *_: False,
    "null": lambda *_: None,
}


def _resolve(root: Any, reference: str) -> Any:
    found = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(step) if isinstance(found, dict) else None
    if found is None:
        raise EngineError(400, f"The JSON schema refers to {reference}, which it lacks")
    return found
