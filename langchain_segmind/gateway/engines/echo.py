"""An engine that says what it was told: no dependencies, always the same answer."""

from __future__ import annotations

import json
import re
from typing import Any

from langchain_segmind.gateway.engines.base import Engine, chat_completion
from langchain_segmind.gateway.engines.schemas import minimal_instance
from langchain_segmind.gateway.validation import text_of


class EchoEngine(Engine):
    """Answers "You said: …", counting words as tokens."""

    name = "echo"

    async def complete(self, body: dict[str, Any]) -> Any:
        """Answer the last message of the user."""
        text, finish_reason = _cut(_answer(body), body)
        prompt_tokens = sum(_count(text_of(m["content"])) for m in body["messages"])
        choices = [(text, finish_reason)] * body.get("n", 1)
        return chat_completion(
            body["model"], choices, max(prompt_tokens, 1), _count(text) * len(choices)
        )


def _answer(body: dict[str, Any]) -> str:
    said = [text_of(m["content"]) for m in body["messages"] if m["role"] == "user"]
    text = f"You said: {said[-1]}" if said else "You said nothing."
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return json.dumps(minimal_instance(schema))
        case {"type": "json_object"}:
            return json.dumps({"answer": text})
        case _:
            return text


def _cut(text: str, body: dict[str, Any]) -> tuple[str, str]:
    stop = body.get("stop") or []
    for sequence in [stop] if isinstance(stop, str) else stop:
        text = text.partition(sequence)[0] if sequence else text
    words = list(re.finditer(r"\S+", text))
    limit = body.get("max_tokens", len(words))
    if len(words) > limit:
        return text[: words[limit - 1].end()], "length"
    return text, "stop"


def _count(text: str) -> int:
    return len(text.split())
