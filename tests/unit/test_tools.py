"""Tools are compiled once; choices are understood; formats allow exactly the right replies."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from langchain_segmind._tool_calling.toolset import (
    Choice,
    ToolSet,
    parse_tool_choice,
    response_format,
)

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}},
    "required": ["root"],
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "label": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["label"],
        }
    },
}
OTHER = {
    "type": "object",
    "properties": {"node": {"$ref": "#/$defs/Node"}, "again": {"$ref": "#"}},
    "$defs": {"Node": {"type": "integer"}},
}


def tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    function = {"name": name} if parameters is None else {"name": name, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = ToolSet.compile(
    [tool("weather", CITY), tool("clock"), tool("tree", TREE), tool("other", OTHER)]
)
FREE, ANY, NONE = Choice(TOOLS.names), Choice(TOOLS.names, is_forced=True), Choice(())
CLOCK, WEATHER = (Choice((name,), is_forced=True) for name in ("clock", "weather"))


def schema_of(choice: Choice, *, strict: bool = False) -> Draft202012Validator:
    wire = response_format(TOOLS, choice, strict=strict)
    assert wire is not None
    assert wire["json_schema"]["strict"] is True
    Draft202012Validator.check_schema(wire["json_schema"]["schema"])
    return Draft202012Validator(wire["json_schema"]["schema"])


class TestToolSet:
    def test_keeps_names_in_order(self) -> None:
        assert TOOLS.names == ("weather", "clock", "tree", "other")

    def test_a_tool_without_parameters_takes_none(self) -> None:
        assert TOOLS.schema("clock") == {"type": "object", "properties": {}}
        assert TOOLS.required("clock") == frozenset()

    def test_knows_what_a_tool_requires(self) -> None:
        assert TOOLS.required("weather") == {"city"}
        assert list(TOOLS.properties("weather")) == ["city"]

    @pytest.mark.parametrize(
        ("written", "meant"),
        [("Get_User", "get_user"), ("functions.get.user", "get.user"), ("get-user", None)],
    )
    def test_of_names_that_are_alike_the_nearest_is_meant(
        self, written: str, meant: str | None
    ) -> None:
        assert ToolSet.compile([tool("get_user"), tool("get.user")]).find_name(written) == meant


class TestChoice:
    @pytest.mark.parametrize(
        ("value", "choice"),
        [
            (None, FREE),
            (False, FREE),
            ("auto", FREE),
            ({"type": "auto"}, FREE),
            ("none", NONE),
            ({"type": "none"}, NONE),
            (True, ANY),
            ("any", ANY),
            ("required", ANY),
            ({"type": "any"}, ANY),
            ("clock", CLOCK),
            ({"type": "function", "function": {"name": "clock"}}, CLOCK),
            ({"type": "tool", "name": "clock"}, CLOCK),
        ],
    )
    def test_every_spelling_is_understood(self, value: object, choice: Choice) -> None:
        assert parse_tool_choice(value, TOOLS.names) == choice

    @pytest.mark.parametrize("value", ["clocks", {"type": "tool", "name": "x"}, {"type": "x"}, 7])
    def test_an_unknown_name_is_refused_with_the_choices(self, value: object) -> None:
        with pytest.raises(ValueError, match="'weather', 'clock'"):
            parse_tool_choice(value, TOOLS.names)

    def test_a_keyword_wins_over_a_tool_of_that_name(self) -> None:
        assert parse_tool_choice("any", ("any", "b")) == Choice(("any", "b"), is_forced=True)
        choice = {"type": "function", "function": {"name": "any"}}
        assert parse_tool_choice(choice, ("any", "b")) == Choice(("any",), is_forced=True)


class TestResponseFormat:
    @pytest.mark.parametrize("choice", [FREE, NONE])
    def test_a_free_choice_constrains_nothing(self, choice: Choice) -> None:
        assert response_format(TOOLS, choice, strict=False) is None

    def test_none_is_never_constrained(self) -> None:
        assert response_format(TOOLS, NONE, strict=True) is None

    def test_a_forced_tool_allows_only_its_calls(self) -> None:
        schema = schema_of(WEATHER)
        assert schema.is_valid({"name": "weather", "parameters": {"city": "Oslo"}})
        assert not schema.is_valid({"name": "clock", "parameters": {}})
        assert not schema.is_valid({"name": "weather", "parameters": {}})

    def test_any_tool_allows_each_with_its_own_definitions(self) -> None:
        """Two tools may both define a `Node` without sharing it, and refer to themselves."""
        schema = schema_of(ANY)
        deep = {"label": "a", "children": [{"label": "b", "children": [{"label": "c"}]}]}
        assert schema.is_valid({"name": "tree", "parameters": {"root": deep}})
        assert not schema.is_valid({"name": "tree", "parameters": {"root": 1}})
        assert schema.is_valid({"name": "other", "parameters": {"node": 1, "again": {"node": 2}}})
        assert not schema.is_valid({"name": "other", "parameters": {"again": {"node": "x"}}})

    def test_strict_allows_a_call_or_an_answer(self) -> None:
        schema = schema_of(FREE, strict=True)
        assert schema.is_valid({"answer": "Hello"})
        assert schema.is_valid({"name": "clock", "parameters": {}})
        assert not schema.is_valid({"reply": "Hello"})

    def test_the_tools_own_schemas_are_left_alone(self) -> None:
        schema_of(ANY)
        assert TOOLS.schema("tree") == TREE
