"""The tools of the chat's demonstration: useful, and harmless whatever a model passes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from langchain_segmind.cli.demo_tools import current_time, demo_tools


@pytest.mark.parametrize(
    ("left", "operation", "right", "result"),
    [
        (0.17, "*", 2350, "399.5"),
        (0.1, "+", 0.2, "0.3"),
        (1, "-", 4, "-3"),
        ("1", "/", 3, "0.333333333333"),
        (1e308, "*", 10, "inf"),
    ],
)
def test_arithmetic_is_worked_out(left: object, operation: str, right: float, result: str) -> None:
    arguments = {"left": left, "operation": operation, "right": right}
    assert demo_tools()["calculate"].invoke(arguments) == result


@pytest.mark.parametrize(
    "arguments",
    [
        {"left": 1, "operation": "/", "right": 0},
        {"left": 9, "operation": "**", "right": 99},
        {"left": "__import__('os')", "operation": "+", "right": 1},
        {"sum": 1},
    ],
)
def test_all_else_is_refused_in_words(arguments: dict[str, Any]) -> None:
    call = {"name": "calculate", "args": arguments, "id": "1", "type": "tool_call"}
    result = demo_tools()["calculate"].invoke(call)
    assert result.status == "error"
    assert result.content


def test_the_time_is_told_where_it_is_asked_for() -> None:
    assert re.fullmatch(r"\w+day, \d{4}-\d\d-\d\d \d\d:\d\d \(UTC\)", current_time("UTC"))


@pytest.mark.parametrize("zone", ["Tokyo", "../../etc/passwd", "/etc/passwd", "", "a" * 999])
def test_a_zone_that_is_none_is_told_to_the_model(zone: str) -> None:
    call = {"name": "current_time", "args": {"time_zone": zone}, "id": "1", "type": "tool_call"}
    result = demo_tools()["current_time"].invoke(call)
    assert result.status == "error"
    assert "no time zone known here" in result.content
