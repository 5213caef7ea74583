"""What a request body must look like."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from langchain_segmind.gateway.errors import ApiError

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

NUMBER = (int, float)
COUNT = (int,)
RANGES: dict[str, tuple[tuple[type, ...], int, int]] = {
    "temperature": (NUMBER, 0, 2),
    "top_p": (NUMBER, 0, 1),
    "max_tokens": (COUNT, 1, 1_000_000),
    "n": (COUNT, 1, 128),
    "seed": (COUNT, -(2**63), 2**63),
    "presence_penalty": (NUMBER, -2, 2),
    "frequency_penalty": (NUMBER, -2, 2),
}


def parse_body(raw: bytes, *, vision: bool) -> dict[str, Any]:
    """Read a body into what the model gets, or refuse it."""
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        _reject("The request body is not valid JSON")
    if not isinstance(body, dict):
        _reject("The request body must be a JSON object")
    given = {key: value for key, value in body.items() if value is not None}
    messages = _messages_of(given)
    for number, message in enumerate(messages):
        _check_message(message, f"messages[{number}]", vision=vision)
    _check_parameters(given)
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


def _reject(message: str) -> NoReturn:
    raise ApiError(400, message)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _messages_of(body: dict[str, Any]) -> list[Any]:
    match body:
        case {"messages": [_, *_] as messages}:
            return list(messages)
        case {"messages": []}:
            _reject("'messages' must not be empty")
        case {"messages": _}:
            _reject("'messages' must be an array")
        case {"prompt": str(prompt)} if prompt:
            return [{"role": "user", "content": prompt}]
        case _:
            _reject("'messages' is required")


def _check_message(message: object, where: str, *, vision: bool) -> None:
    if not isinstance(message, dict):
        _reject(f"{where} must be an object with role and content")
    if message.get("role") not in ROLES:
        _reject(f'{where}.role must be "user", "assistant" or "system"')
    content = message.get("content")
    if vision and isinstance(content, list):
        for number, part in enumerate(content):
            _check_part(part, f"{where}.content[{number}]")
    elif not isinstance(content, str):
        _reject(f"{where}.content must be a string")


def _check_part(part: object, where: str) -> None:
    match part:
        case {"type": "text", "text": str()}:
            pass
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            if not url.startswith(("data:image/", "https://", "http://")):
                _reject(f"{where}.image_url.url must be a data URI or an http(s) URL")
        case _:
            _reject(f"{where} must be a text or an image_url part")


def _check_parameters(body: dict[str, Any]) -> None:
    for name, (kinds, low, high) in RANGES.items():
        value = body.get(name, low)
        # By its very type: True is an int as well.
        if type(value) not in kinds or not low <= value <= high:
            _reject_parameter(name, json.dumps(value)[:50])
    match body.get("stop"):
        case None | str():
            pass
        case [*texts] if all(isinstance(text, str) for text in texts):
            pass
        case _:
            _reject_parameter("stop", "must be a string or an array of strings")
    match body.get("response_format"):
        case None | {"type": "text" | "json_object"}:
            pass
        case {"type": "json_schema", "json_schema": {"schema": dict()}}:
            pass
        case _:
            _reject_parameter("response_format", "must be one of text, json_object, json_schema")


def _reject_parameter(name: str, why: str) -> NoReturn:
    raise ApiError(406, f"Invalid value for {name}: {why}")
