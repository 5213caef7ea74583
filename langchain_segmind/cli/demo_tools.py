"""Two tools that are real, safe and quick, for a model to call: a clock and a calculator."""

from __future__ import annotations

import operator
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from langchain_core.tools import BaseTool, StructuredTool, ToolException

_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def current_time(time_zone: str) -> str:
    """Tell the current date and time in a time zone such as "Asia/Tokyo" or "UTC"."""
    try:
        now = datetime.now(ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolException(
            f"{time_zone!r} is no time zone known here; they are named like 'Europe/Paris'."
        ) from None
    return f"{now:%A, %Y-%m-%d %H:%M} ({now.tzname()})"


def calculate(left: float, operation: Literal["+", "-", "*", "/"], right: float) -> str:
    """Work out one step of arithmetic, such as 0.17 * 2350."""
    try:
        return f"{_OPERATIONS[operation](left, right):.12g}"
    except ZeroDivisionError:
        raise ToolException(f"{left:g} cannot be divided by zero.") from None


def demo_tools() -> dict[str, BaseTool]:
    """Give the tools by name; what goes wrong in them is told to the model."""
    made = (
        StructuredTool.from_function(function, handle_tool_error=True, handle_validation_error=True)
        for function in (current_time, calculate)
    )
    return {tool.name: tool for tool in made}
