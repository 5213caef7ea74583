"""What no back end could use is refused in words; what is only unusual is let through."""

from typing import Any

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from langchain_segmind._tool_calling.schema import check_schema


def holding(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": {"anyOf": [{"items": schema}]}}}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "#/$defs/Gone"}, "leads to nothing"),
        ({"$ref": "#/properties/x/anyOf/1"}, "leads to nothing"),
        ({"$ref": "#gone"}, "leads to nothing"),
        ({"$ref": "https://example.com/schema.json"}, "nothing is fetched"),
        ({"$ref": "other.json#/$defs/A"}, "nothing is fetched"),
        ({"$ref": 7}, "nothing is fetched"),
        ({"type": "text"}, "'text' is none of string, number"),
        ({"type": ["string", "nil"]}, "'nil' is none of"),
        ({"type": {"a": 1}}, "is none of"),
        ({"pattern": "[a"}, "unterminated"),
        ({"pattern": "(a"}, "missing"),
        ({"pattern": "a)"}, "unbalanced"),
        ({"patternProperties": {"*": {}}}, "nothing to repeat"),
        ({"pattern": 5}, "pattern 5 is none"),
        ({"properties": ["a"]}, "properties is ['a'] and should be an object"),
        ({"anyOf": {"type": "string"}}, "should be a list"),
        ({"required": True}, "required is True and should be a list"),
        ({"minimum": "1"}, "minimum is '1' and should be a number"),
        ({"$dynamicRef": "https://example.com/schema.json"}, "nothing is fetched"),
        ("string", "'string' stands where"),
    ],
)
def test_what_cannot_be_used_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(ValueError, match="The schema of it cannot be used: ") as refusal:
        check_schema(holding(schema), "it")
    assert why in str(refusal.value)


class Tree(BaseModel):
    label: str
    children: "list[Tree]" = []


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"$ref": "#"},
        {"$ref": "#/properties/x"},
        {"$ref": "#/properties/x/anyOf/0"},
        {"properties": {"$ref": {"type": "string"}, "type": {"enum": [1]}, "pattern": {}}},
        {"default": {"type": "nothing", "$ref": "nowhere"}, "examples": [{"pattern": "("}]},
        {"minimum": 0.5, "exclusiveMaximum": True, "required": [], "enum": [None]},
        {"pattern": r"^\p{L}[\w-.]+(?<year>\d{4})$"},
        {"type": ["string", "null"], "format": "whatever", "x-more": 1},
        {"$defs": {"a/b~c d": {"$ref": "#/properties/x"}}},
    ],
)
def test_what_is_only_unusual_is_not(schema: Any) -> None:
    check_schema(holding(schema), "it")


def test_names_in_references_are_unescaped() -> None:
    check_schema({"$defs": {"a/b~c d": {}}, "$ref": "#/$defs/a~1b~0c%20d"}, "it")


def test_what_pydantic_and_langchain_write_is_fine() -> None:
    check_schema(Tree.model_json_schema(), "it")
    check_schema(convert_to_openai_tool(Tree)["function"]["parameters"], "it")
