"""The tools of the chat's demonstration: useful, and harmless whatever a model passes."""

from __future__ import annotations

import re

import pytest
from langchain_core.tools import ToolException

from langchain_segmind.cli.demo_tools import calculate, current_time, demo_tools


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("0.17 * 2350", "399.5"),
        ("2 + 3 * (4 - 1)", "11"),
        ("-7 // 2", "-4"),
        ("7 % 4", "3"),
        ("2 ** 10", "1024"),
        ("+1 / 3", "0.333333333333"),
        ("0.1 + 0.2", "0.3"),
    ],
)
def test_arithmetic_is_worked_out(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "9 ** 9 ** 9",
        "(-8) ** 0.5",
        "1 / 0",
        "1e308 * 10 // 1",
        "'a' * 99",
        "True + 1",
        "1 +",
        "",
        "(" * 150,
        "9" * 500,
        "x",
        "\x00",
    ],
)
def test_all_else_is_refused_in_words(expression: str) -> None:
    with pytest.raises(ToolException, match="cannot be worked out: "):
        calculate(expression)


def test_the_time_is_told_where_it_is_asked_for() -> None:
    assert re.fullmatch(r"\w+day, \d{4}-\d\d-\d\d \d\d:\d\d \(UTC\)", current_time("UTC"))


@pytest.mark.parametrize("zone", ["Tokyo", "../../etc/passwd", "/etc/passwd", "", "a" * 999])
def test_a_zone_that_is_none_is_told_to_the_model(zone: str) -> None:
    call = {"name": "current_time", "args": {"time_zone": zone}, "id": "1", "type": "tool_call"}
    result = demo_tools()["current_time"].invoke(call)
    assert result.status == "error"
    assert "no time zone known here" in result.content


def test_arguments_that_do_not_fit_are_told_to_the_model() -> None:
    call = {"name": "calculate", "args": {"sum": 1}, "id": "1", "type": "tool_call"}
    assert demo_tools()["calculate"].invoke(call).status == "error"
