"""Two tools that are real, safe and quick, for a model to call: a clock and a calculator."""

from __future__ import annotations

import ast
import math
import operator
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from langchain_core.tools import BaseTool, StructuredTool, ToolException

if TYPE_CHECKING:
    from collections.abc import Callable

    Number = int | float

LONGEST = 200
"""Characters of an expression."""
HIGHEST_POWER = 64


def _raise(base: Number, power: Number) -> Number:
    """Keep results small, and real: the square root of a negative number is not."""
    if not (0 <= base <= HIGHEST_POWER and abs(power) <= HIGHEST_POWER):
        raise ValueError(f"** takes a base from 0 to {HIGHEST_POWER}, and a power up to it")
    return base**power


_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _raise,
}


def current_time(time_zone: str) -> str:
    """Tell the current date and time in a time zone such as "Asia/Tokyo" or "UTC"."""
    try:
        now = datetime.now(ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolException(
            f"{time_zone!r} is no time zone known here; they are named like 'Europe/Paris'."
        ) from None
    return f"{now:%A, %Y-%m-%d %H:%M} ({now.tzname()})"


def calculate(expression: str) -> str:
    """Work out arithmetic such as "0.17 * 2350": numbers, + - * / // % ** and brackets."""
    try:
        return _written(_value(_parsed(expression.strip())))
    except (SyntaxError, ValueError, ArithmeticError, TypeError, RecursionError) as error:
        why = error.msg if isinstance(error, SyntaxError) else error
        raise ToolException(f"{expression[:LONGEST]!r} cannot be worked out: {why}") from None


def _parsed(expression: str) -> ast.expr:
    if len(expression) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    return ast.parse(expression, mode="eval").body


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case _:
            raise ValueError("only numbers, + - * / // % ** and brackets are understood")


def _written(number: Number) -> str:
    if isinstance(number, int):
        return str(number)
    if not math.isfinite(number):
        raise ValueError("it leads out of the numbers")
    return f"{number:.12g}"


def demo_tools() -> dict[str, BaseTool]:
    """Give the tools by name; what goes wrong in them is told to the model."""
    made = (
        StructuredTool.from_function(function, handle_tool_error=True, handle_validation_error=True)
        for function in (current_time, calculate)
    )
    return {tool.name: tool for tool in made}
