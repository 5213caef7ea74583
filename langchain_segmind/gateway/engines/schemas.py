"""The smallest value that a JSON schema allows."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.engines.base import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 50


def minimal_instance(schema: dict[str, Any]) -> Any:
    """Make a small value that fits a schema."""
    return _make(schema, 0, schema)


def _make(root: dict[str, Any], depth: int, schema: Any) -> Any:
    if depth > MAX_DEPTH:
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
        case {"type": [kind, *_]}:
            return make({**schema, "type": kind})
        case dict():
            return _make_of_type(schema, make)
    return None


def _make_of_type(schema: dict[str, Any], make: Callable[[Any], Any]) -> Any:
    match schema.get("type", "object" if "properties" in schema else "string"):
        case "object":
            properties = schema.get("properties", {})
            return {name: make(properties.get(name, {})) for name in schema.get("required", [])}
        case "array":
            return [make(schema.get("items", {})) for _ in range(schema.get("minItems", 0))]
        case "string":
            return "a" * schema.get("minLength", 1)
        case "integer" | "number" as kind:
            least = math.ceil(schema.get("minimum", 0))
            if "exclusiveMinimum" in schema:
                least = math.floor(schema["exclusiveMinimum"]) + 1
            return least if kind == "integer" else float(least)
        case "boolean":
            return False
        case "null":
            return None
        case kind:
            raise EngineError(400, f"The JSON schema has an unknown type: {kind}")


def _resolve(root: Any, reference: str) -> Any:
    found = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(step) if isinstance(found, dict) else None
    if found is None:
        raise EngineError(400, f"The JSON schema refers to {reference}, which it lacks")
    return found
