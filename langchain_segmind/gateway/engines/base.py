"""What an engine is, and how it fails."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from langchain_segmind.gateway.errors import ApiError


class Engine:
    """Turns a request body into an OpenAI chat completion; `complete` is a subclass's own."""

    name: str

    async def complete(self, body: dict[str, Any]) -> Any:
        """Answer a body that was checked, or raise `EngineError`."""
        raise NotImplementedError

    async def start(self) -> None:
        """Get ready, or raise `EngineUnavailableError`."""

    async def close(self) -> None:
        """Give up what is held, if anything."""


class EngineError(ApiError):
    """A body that an engine could not answer; the gateway answers with status and message."""


class EngineUnavailableError(Exception):
    """An engine that cannot run here; the message says what to do."""


def chat_completion(
    model: str,
    texts: list[tuple[str, str]],
    prompt_tokens: int,
    completion_tokens: int,
) -> dict[str, Any]:
    """Build a chat completion from texts and their finish reasons."""
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        for index, (text, reason) in enumerate(texts)
    ]
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
