"""A completion that comes as OpenAI's chunks, in server-sent events, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_segmind._protocol.responses import (
    MOST_CALLS,
    UnusableAnswerError,
    completion_from,
    decode_json,
    text_of,
    words_of,
)
from langchain_segmind._protocol.sse import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping


class StreamedCompletion:
    """The first choice of a completion that comes in chunks, put together."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.is_complete = False
        self.is_done = False
        self._text: list[str] = []
        self._calls: dict[int, _NativeCall] = {}
        self._facts: dict[str, Any] = {}

    def add(self, data: str, event: str = "message") -> str:
        """Take one event's data, a chunk of a completion; give the text it adds."""
        data = data.strip()
        if data == "[DONE]":
            self.is_complete = self.is_done = True
            return ""
        if event == "error":
            raise UnusableAnswerError(f"it reports an error: {words_of(data.encode())}")
        chunk = decode_json(data) if data else {}
        if not isinstance(chunk, dict):
            raise UnusableAnswerError("an event of its stream is no JSON object")
        if chunk.get("error"):
            # The same check, and the same words, as for a whole body.
            completion_from({"error": chunk["error"]})
        for name in ("id", "model", "usage"):
            if chunk.get(name):
                self._facts[name] = chunk[name]
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                return self._add_choice(choice)
        return ""

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls, in the shape an unstreamed answer has."""
        return [call.as_whole() for call in self._calls.values()]

    def as_whole(self) -> dict[str, Any]:
        """Give the whole, in the shape an unstreamed answer has."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text)}
        if self._calls:
            message["tool_calls"] = self.tool_calls
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {**self._facts, "choices": [choice]}

    def _add_choice(self, choice: Mapping[str, Any]) -> str:
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
            self.is_complete = True
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
            return ""
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._add_call(call)
        content = delta.get("content")
        text = text_of(content) if isinstance(content, (str, list)) else ""
        self._text.append(text)
        return text

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        index = delta.get("index")
        index = index if isinstance(index, int) else len(self._calls)
        call = self._calls.setdefault(index, _NativeCall())
        if len(self._calls) > MOST_CALLS:
            raise UnusableAnswerError(f"it has more than {MOST_CALLS} tool calls")
        call.id = delta.get("id") or call.id
        function = delta.get("function")
        for name, parts in (("name", call.name), ("arguments", call.arguments)):
            if isinstance(function, dict) and isinstance(function.get(name), str):
                parts.append(function[name])


@dataclass(slots=True)
class _NativeCall:
    """A call of a chunked completion, in pieces: adding strings up would take quadratic time."""

    id: object = None
    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def as_whole(self) -> dict[str, Any]:
        function = {"name": "".join(self.name), "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


def assemble(body: bytes) -> dict[str, Any]:
    """Put an event stream together; one that is not whole is an `UnusableAnswerError`."""
    completion = StreamedCompletion()
    decoder = EventDecoder()
    for event in (*decoder.feed(body), *decoder.finish()):
        completion.add(event.data, event.name)
    if not completion.is_complete:
        raise UnusableAnswerError("its event stream ended before the answer did")
    return completion.as_whole()
