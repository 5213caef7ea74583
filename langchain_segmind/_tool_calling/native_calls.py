"""`message.tool_calls`, should the gateway come to forward tools: whatever stands in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_core.messages.tool import invalid_tool_call, tool_call

from langchain_segmind._protocol.bounded_json import loads_bounded, replace_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.messages import InvalidToolCall, ToolCall

    from langchain_segmind._tool_calling.toolset import ToolSet


def read_native_calls(
    native: Iterable[object], tools: ToolSet | None, *, cut: bool
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Tell the calls that can run from those that cannot.

    Args:
        native: OpenAI's `tool_calls`, decoded.
        tools: The tools that are bound; LangChain tells the model that there is no other.
        cut: Whether the reply ended at the token limit.
    """
    raws = [
        raw for raw in native if isinstance(raw, dict) and isinstance(raw.get("function"), dict)
    ]
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for raw in raws:
        name, written = _text(raw["function"].get("name")), raw["function"].get("arguments")
        args, error = _arguments(written)
        if args is None and cut and raw is raws[-1]:
            error = "The reply was cut short."  # What the token limit cut off is the last call.
        elif not name:
            args, error = None, "It names no tool."
        name = (tools and tools.named(name)) or name
        identifier = _text(raw.get("id")) or None
        if args is None:
            spelled = written if isinstance(written, str) else json.dumps(written)
            invalid.append(
                invalid_tool_call(
                    name=name, args=replace_surrogates(spelled), id=identifier, error=error
                )
            )
        else:
            calls.append(tool_call(name=name, args=args, id=identifier))
    return calls, invalid


def _text(value: object) -> str:
    return replace_surrogates(value) if isinstance(value, str) else ""


def _arguments(written: object) -> tuple[dict[str, Any] | None, str]:
    """Give the arguments, or None and why there are none; null and nothing are no arguments."""
    try:
        args = loads_bounded(written) if isinstance(written, str) and written else written or {}
    except ValueError as error:
        return None, f"The arguments are no JSON: {error}"
    if not isinstance(args, dict):
        return None, "The arguments are no JSON object."
    return args, ""
