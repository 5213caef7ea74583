"""Values are fitted to a schema only where nothing is lost."""

from typing import Any

import pytest

from langchain_segmind._tool_calling.coercion import fit_arguments

NODE = {
    "type": "object",
    "properties": {"size": {"type": "integer"}, "next": {"$ref": "#/$defs/N"}},
}
OBJECTS = {"type": "object", "additionalProperties": {"type": "object"}}
NULLABLE = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def fitted(value: Any, schema: dict[str, Any], **root: Any) -> Any:
    return fit_arguments({"x": value}, {"type": "object", "properties": {"x": schema}, **root})["x"]


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("10", {"type": "integer"}, 10),
        (" -3 ", {"type": "integer"}, -3),
        ("3\x1f", {"type": "integer"}, 3),
        ("\x1c2.5\x1f", {"type": "number"}, 2.5),
        (10.0, {"type": "integer"}, 10),
        ("2.5", {"type": "number"}, 2.5),
        ("10", {"type": "number"}, 10),
        (".5", {"type": "number"}, 0.5),
        ("+7", {"type": "integer"}, 7),
        ("[-.5, +1e3]", {"type": "array"}, [-0.5, 1000.0]),
        ("{1: 'a', 2.5: 'b'}", {"type": "object"}, {"1": "a", "2.5": "b"}),
        ("True", {"type": "boolean"}, True),
        ("false", {"type": "boolean"}, False),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("['S', 'M', None, True]", {"type": "array"}, ["S", "M", None, True]),
        (" {'low': 1, 'high': 2.5}\n", {"type": "object"}, {"low": 1, "high": 2.5}),
        ("[['1'], \"['2', 3]\"]", {"type": "array", "items": {"type": "array"}}, [["1"], ["2", 3]]),
        ("{'a': \"{'b': 1}\"}", OBJECTS, {"a": {"b": 1}}),
        ("('a', 'b')", {"type": "array"}, ["a", "b"]),
        ("['a']", {"anyOf": [{"type": "array"}, {"type": "null"}]}, ["a"]),
        (["1"], {"type": "array", "items": {"type": "integer"}}, [1]),
        ("null", NULLABLE, None),
        ("7", NULLABLE, 7),
        ("7", {"type": ["integer", "null"]}, 7),
        ("7", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "7"),
        ({"k": "1"}, {"type": "object", "additionalProperties": {"type": "integer"}}, {"k": 1}),
        (94103, {"type": "string"}, "94103"),
    ],
)
def test_a_value_becomes_what_the_schema_asks_for(value: Any, schema: Any, expected: Any) -> None:
    result = fitted(value, schema)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1.5, {"type": "integer"}),
        ("1.5", {"type": "integer"}),
        ("007", {"type": "integer"}),
        ("1_000", {"type": "integer"}),
        ("٣", {"type": "integer"}),
        ("1e999", {"type": "number"}),
        ("nan", {"type": "number"}),
        ("yes", {"type": "boolean"}),
        (1, {"type": "boolean"}),
        ("red", {"type": "array"}),
        ("[NaN]", {"type": "array"}),
        ("['a'", {"type": "array"}),
        ("['a'] and more", {"type": "array"}),
        ("{'a': 1}", {"type": "array"}),
        ("{'a', 'b'}", {"type": "object"}),
        ("[open('x')]", {"type": "array"}),
        ("{'a': [f(b=1)]}", {"type": "object"}),
        ("f(a=1)", {"type": "object"}),
        ("[x for x in y]", {"type": "array"}),
        ("['a']", {"type": "string"}),
        ("['a']", {"anyOf": [{"type": "string"}, {"type": "array"}]}),
        ("[" * 100_000, {"type": "array"}),
        ("null", {"type": "string"}),
        (1.5, {"type": "string"}),
        (True, {"type": "string"}),
        ("10", {}),
        ("10", {"type": "any"}),
        ("10", {"$ref": "elsewhere.json"}),
    ],
)
def test_a_value_that_would_lose_something_stays(value: Any, schema: Any) -> None:
    assert fitted(value, schema) is value


def test_references_are_followed_as_deep_as_the_value_goes() -> None:
    value = {"size": "1", "next": {"size": "2", "next": {"size": "3"}}}
    expected = {"size": 1, "next": {"size": 2, "next": {"size": 3}}}
    assert fitted(value, {"$ref": "#/$defs/N"}, **{"$defs": {"N": NODE}}) == expected


def test_a_reference_to_itself_ends() -> None:
    loop = {"$defs": {"N": {"$ref": "#/$defs/N"}}}
    assert fitted("1", {"$ref": "#/$defs/N"}, **loop) == "1"


def test_the_branch_that_fits_is_chosen_by_its_constant() -> None:
    cat = {"type": "object", "properties": {"kind": {"const": "cat"}, "age": {"type": "string"}}}
    dog = {"type": "object", "properties": {"kind": {"const": "dog"}, "age": {"type": "integer"}}}
    assert fitted({"kind": "dog", "age": "3"}, {"anyOf": [cat, dog]}) == {"kind": "dog", "age": 3}


SIZED = {"properties": {"size": {"type": "integer"}}}
EITHER = [{"required": ["size"]}, {"required": ["tags"]}]
TAGGED = {"properties": {**SIZED["properties"], "tags": {"type": "array"}}, "anyOf": EITHER}


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("{'size': '1'}", SIZED, {"size": 1}),
        ("['1']", {"items": {"type": "integer"}}, [1]),
        ("('a', '1')", {"prefixItems": [{}, {"type": "integer"}]}, ["a", 1]),
        ("{'size': '1'}", {"allOf": [{"$ref": "#/$defs/N"}, {"required": ["size"]}]}, {"size": 1}),
        ({"size": "1"}, {"$ref": "#/$defs/N", "properties": {"at": {}}}, {"size": 1}),
        ({"size": "1"}, {"type": "object", "allOf": [SIZED]}, {"size": 1}),
        ({"tags": "['x']", "size": "1"}, TAGGED, {"tags": ["x"], "size": 1}),
        ("{'tags': [], 'size': '1'}", {"type": "object", **TAGGED}, {"tags": [], "size": 1}),
        ("{'size': '1'}", {**SIZED, "enum": ["{'size': '1'}"]}, "{'size': '1'}"),
    ],
)
def test_what_a_schema_says_in_several_places_counts_together(
    value: Any, schema: Any, expected: Any
) -> None:
    """Servers of tools leave types out, and put into `allOf` or beside `anyOf` what is common."""
    assert fitted(value, schema, **{"$defs": {"N": NODE}}) == expected


def test_parts_that_hold_each_other_end() -> None:
    part = {"allOf": [{"$ref": "#/$defs/N"}] * 3}
    assert fitted("{'size': '1'}", part, **{"$defs": {"N": part}}) == "{'size': '1'}"
