"""JSON from outside, freed from what cannot be passed on: lone surrogates and endless nesting."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 100
"""Levels of a JSON value. Real answers have about ten, and pydantic writes no more than 200."""


class TooDeepError(ValueError):
    """A value has more than `MAX_DEPTH` levels."""


def loads_bounded(text: str | bytes) -> Any:
    """Decode JSON; a `TooDeepError`, or another ValueError, says what is wrong with it."""
    try:
        return _loads(text)
    except RecursionError:
        raise TooDeepError from None


def _loads(text: str | bytes) -> Any:
    try:
        value = from_json(text, allow_inf_nan=False, cache_strings="keys")
    except (ValueError, TypeError):  # Another encoding, lone surrogates, NaN: as `json` has it.
        return check_depth(json.loads(text))
    # A glance that costs next to nothing tells the few that need a second one.
    if isinstance(text, str):
        opened = text.count("[") + text.count("{")
    else:
        opened = text.count(b"[") + text.count(b"{")
    return value if opened <= MAX_DEPTH else check_depth(value)


def check_depth(value: Any) -> Any:
    """Give a decoded value whose strings can all be encoded; `TooDeepError` for a deep one."""
    level, is_clean = [value], True
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return value if is_clean else _replace_in_value(value)
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and is_clean:
                is_clean = replace_surrogates(item) is item
        level = inner
    raise TooDeepError


def _replace_in_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {replace_surrogates(key): _replace_in_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_in_value(item) for item in value]
    return replace_surrogates(value) if isinstance(value, str) else value


def replace_surrogates(text: str) -> str:
    r"""Replace lone surrogates, which JSON can spell (`\ud800`) but UTF-8, and so nobody, can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
