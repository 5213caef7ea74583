"""A gateway whose replies are given one after the other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_segmind.gateway import RunningGateway


class Scripted:
    """A gateway whose replies are given one after the other."""

    def __init__(self, running: RunningGateway, replies: list[Any]) -> None:
        self.running = running
        self.replies = replies

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was sent, call by call."""
        return [post.json() for post in self.running.account.posts]

    def will_say(self, *replies: Any) -> None:
        """Queue replies."""
        self.replies.extend(replies)


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama 3.1 was trained to."""
    return json.dumps({"name": name, "parameters": parameters}, ensure_ascii=False)
