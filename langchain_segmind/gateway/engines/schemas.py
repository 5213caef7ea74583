"""The smallest value that a JSON schema allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.engines.base import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 50


def minimal_instance(schema: dict[str, Any]) -> Any:
    """Make a small value that fits a schema."""
    return _Maker(schema).make(schema, 0)


class _Maker:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._types: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": lambda schema, _: "a" * schema.get("minLength", 1),
            "integer": lambda schema, _: _smallest(schema),
            "number": lambda schema, _: float(_smallest(schema)),
            "boolean": lambda *_: False,
            "null": lambda *_: None,
        }

    def make(self, schema: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise EngineError(400, "The JSON schema requires itself without an end")
        match schema:
            case {"$ref": str(reference)}:
                return self.make(self._resolve(reference), depth + 1)
            case {"const": value} | {"enum": [value, *_]}:
                return value
            case {"anyOf": [option, *_]} | {"oneOf": [option, *_]}:
                return self.make(option, depth + 1)
            case {"allOf": [*parts]} if parts:
                return self._all_of(parts, depth + 1)
            case dict():
                return self._of_type(schema, depth + 1)
        return None

    def _all_of(self, schemas: list[Any], depth: int) -> Any:
        parts = [self.make(schema, depth) for schema in schemas]
        merged: dict[str, Any] = {}
        for part in parts:
            merged |= part if isinstance(part, dict) else {}
        return merged or parts[0]

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = kinds[0] if isinstance(kinds, list) else kinds
        if kind not in self._types:
            raise EngineError(400, f"The JSON schema has an unknown type: {kind}")
        return self._types[kind](schema, depth)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        return {name: self.make(properties.get(name, {}), depth) for name in required}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        items = schema.get("items", {})
        return [self.make(items, depth) for _ in range(schema.get("minItems", 0))]

    def _resolve(self, reference: str) -> Any:
        found: Any = self._root
        for step in filter(None, reference.removeprefix("#").split("/")):
            found = found.get(step) if isinstance(found, dict) else None
        if found is None:
            raise EngineError(400, f"The JSON schema refers to {reference}, which it lacks")
        return found


def _smallest(schema: dict[str, Any]) -> int:
    if "exclusiveMinimum" in schema:
        return int(schema["exclusiveMinimum"]) + 1
    return int(-(-schema.get("minimum", 0) // 1))
