"""`message.tool_calls`, should the gateway come to forward tools: whatever stands in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.bounded_json import loads_bounded, replace_surrogates
from langchain_segmind._tool_calling.shapes import ToolRequest, sort_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_core.messages import InvalidToolCall, ToolCall

    from langchain_segmind._tool_calling.toolset import ToolSet


def read_native_calls(
    native: Iterable[object], tools: ToolSet | None, *, cut: bool
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Tell the calls of OpenAI's `tool_calls` that can run from those that cannot.

    That a tool is not bound is for LangChain to tell. A reply that is `cut` ended at the token
    limit.
    """
    raws = [
        raw for raw in native if isinstance(raw, dict) and isinstance(raw.get("function"), dict)
    ]
    # What the token limit cut off is the last call.
    requests = [_request(raw["function"], tools, cut=cut and raw is raws[-1]) for raw in raws]
    ids = [_text(raw.get("id")) or None for raw in raws]
    return sort_calls(zip(requests, ids, strict=True))


def _request(function: Mapping[str, Any], tools: ToolSet | None, *, cut: bool) -> ToolRequest:
    name, written = _text(function.get("name")), function.get("arguments")
    name = (tools and tools.find_name(name)) or name
    args: Any = {}
    error = None
    try:
        # null and nothing are no arguments.
        args = loads_bounded(written) if isinstance(written, str) and written else written or {}
    except ValueError as why:
        error = "The reply was cut short." if cut else f"The arguments are no JSON: {why}"
    if not isinstance(args, dict):
        error = "The arguments are no JSON object."
    if not name:
        error = "It names no tool."
    raw = written if isinstance(written, str) else json.dumps(written)
    return ToolRequest(name, args, replace_surrogates(raw), error)


def _text(value: object) -> str:
    return replace_surrogates(value) if isinstance(value, str) else ""
