"""What a request body must look like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from langchain_segmind.gateway.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection

ROLES = ("user", "assistant", "system")

NOT_FORWARDED = frozenset(
    {
        "functions",
        "function_call",
        "parallel_tool_calls",
        "prompt",
        "stream",
        "stream_options",
        "tool_choice",
        "tools",
    }
)
"""Fields that Segmind accepts and drops without a word."""

RANGES: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "max_tokens": (int, 1, 1_000_000),
    "n": (int, 1, 128),
    "seed": (int, -(2**63), 2**63),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
}

RESPONSE_FORMATS = ("text", "json_object", "json_schema")


def parse_body(raw: bytes, *, vision: bool) -> dict[str, Any]:
    """Read a body into what the model gets, or refuse it."""
    body = _decode(raw)
    if not isinstance(body, dict):
        _malformed("The request body must be a JSON object")
    messages = _messages_of(body)
    for number, message in enumerate(messages):
        _check_message(message, f"messages[{number}]", vision=vision)
    _check_parameters(body)
    given = {key: value for key, value in body.items() if value is not None}
    forwarded = {key: value for key, value in given.items() if key not in NOT_FORWARDED}
    return {**forwarded, "messages": messages}


def prompt_size(body: dict[str, Any]) -> int:
    """Estimate the tokens of a prompt, at four characters each."""
    return max(sum(len(text_of(m["content"])) for m in body["messages"]) // 4, 1)


def text_of(content: str | list[dict[str, Any]], image: str = "") -> str:
    """Flatten content to text, with something in place of each image."""
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"] if part["type"] == "text" else image
        for part in content
        if part["type"] == "text" or image
    )


def _malformed(message: str) -> NoReturn:
    raise ApiError(400, message)


def _decode(raw: bytes) -> object:
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        _malformed("The request body is not valid JSON")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _messages_of(body: dict[str, Any]) -> list[Any]:
    prompt = body.get("prompt")
    if body.get("messages") is None and isinstance(prompt, str) and prompt:
        return [{"role": "user", "content": prompt}]
    messages = body.get("messages")
    if messages is None:
        _malformed("'messages' is required")
    if not isinstance(messages, list):
        _malformed("'messages' must be an array")
    if not messages:
        _malformed("'messages' must not be empty")
    return messages


def _check_message(message: object, where: str, *, vision: bool) -> None:
    if not isinstance(message, dict):
        _malformed(f"{where} must be an object with role and content")
    if message.get("role") not in ROLES:
        _malformed(f'{where}.role must be "user", "assistant" or "system"')
    content = message.get("content")
    if vision and isinstance(content, list):
        for number, part in enumerate(content):
            _check_part(part, f"{where}.content[{number}]")
    elif not isinstance(content, str):
        _malformed(f"{where}.content must be a string")


def _check_part(part: object, where: str) -> None:
    match part:
        case {"type": "text", "text": str()}:
            pass
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            if not url.startswith(("data:image/", "https://", "http://")):
                _malformed(f"{where}.image_url.url must be a data URI or an http(s) URL")
        case _:
            _malformed(f"{where} must be a text or an image_url part")


def _check_parameters(body: dict[str, Any]) -> None:
    for name, (kind, low, high) in RANGES.items():
        value = body.get(name)
        if value is not None and not _in_range(value, kind, low, high):
            raise ApiError(406, f"Invalid value for {name}: {json.dumps(value)[:50]}")
    stop = body.get("stop")
    if stop is not None and not _is_text_or_texts(stop):
        raise ApiError(406, "Invalid value for stop: must be a string or an array of strings")
    _check_response_format(body.get("response_format"))


def _in_range(value: object, kind: type, low: float, high: float) -> bool:
    kinds: tuple[type, ...] = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return low <= value <= high  # type: ignore[operator]


def _is_text_or_texts(value: object) -> bool:
    texts: Collection[object] = value if isinstance(value, list) else [value]
    return all(isinstance(text, str) for text in texts)


def _check_response_format(value: object) -> None:
    match value:
        case None | {"type": "text" | "json_object"}:
            pass
        case {"type": "json_schema", "json_schema": {"schema": dict()}}:
            pass
        case _:
            allowed = ", ".join(RESPONSE_FORMATS)
            raise ApiError(406, f"Invalid value for response_format: must be one of {allowed}")
