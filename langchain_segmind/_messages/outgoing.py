"""LangChain's messages into the three roles and the string content that Segmind takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.block_translators.openai import convert_to_openai_image_block
from langchain_core.messages.tool import ToolCall, tool_call

from langchain_segmind._tool_calling.prompt import render_tool_calls, render_tool_result
from langchain_segmind.exceptions import SegmindInvalidInputError

Role = Literal["user", "assistant", "system"]


class ImageURL(TypedDict):
    """Where an image is: a data URI is safer than a URL, whose fetch fails for some hosts."""

    url: str
    detail: NotRequired[str]


class TextPart(TypedDict):
    """A piece of text between images."""

    type: Literal["text"]
    text: str


class ImagePart(TypedDict):
    """An image, as the vision slugs take it."""

    type: Literal["image_url"]
    image_url: ImageURL


Part = TextPart | ImagePart


class WireMessage(TypedDict):
    """One message as it goes over the wire."""

    role: Role
    content: str | list[Part]


_CHAT_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
}
_UNSPOKEN = frozenset(
    # What a model thought, or a provider's bookkeeping: no part of what it said.
    ["thinking", "redacted_thinking", "reasoning", "reasoning_content"]
)
_CALLS = frozenset(
    ["tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"]
)


def to_wire(messages: Sequence[BaseMessage], *, model: str, images: bool) -> list[WireMessage]:
    """Convert a conversation, keeping its order.

    Args:
        messages: The conversation; consecutive messages of one role stay separate.
        model: The slug, for the sentence that refuses an image.
        images: Whether the model takes images.

    Raises:
        SegmindInvalidInputError: There is no message, or one has a role or a block that cannot be
            sent; the sentence names both by their index.
    """
    if not messages:
        raise SegmindInvalidInputError("There is no message to send: pass at least one.")
    names = _names_of_calls(messages)
    wire: list[WireMessage] = []
    for index, message in enumerate(messages):
        wire += _Converter(f"messages[{index}]", model, images, names).convert(message)
    return [_without_special_tokens(message) for message in wire]


def _without_special_tokens(message: WireMessage) -> WireMessage:
    """Put a space into Llama's own tokens, so that no text can end a turn or begin another."""
    content: str | list[Part] = message["content"]
    if isinstance(content, str):
        content = _SPECIAL_TOKEN.sub("<| ", content)
    else:
        content = [
            TextPart(type="text", text=_SPECIAL_TOKEN.sub("<| ", part["text"]))
            if part["type"] == "text"
            else part
            for part in content
        ]
    return {"role": message["role"], "content": content}


# Those of Llama 3 to 3.2, from Meta's published prompt format: any other `<|…|>` is text.
_SPECIAL_TOKEN = re.compile(
    r"<\|(?=(?:begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id|python_tag"
    r"|finetune_right_pad_id|step_id|image|reserved_special_token_\d{1,3})\|>)"
)


def _names_of_calls(messages: Sequence[BaseMessage]) -> dict[str, str]:
    """Map the id of each call in the history to the tool's name: results carry only the id."""
    return {
        call["id"]: call["name"]
        for message in messages
        if isinstance(message, AIMessage)
        for call in calls_of(message)
        if isinstance(call["id"], str)
    }


def calls_of(message: AIMessage) -> list[ToolCall]:
    """Give the calls of an assistant message, also where only its blocks carry them."""
    if message.tool_calls or isinstance(message.content, str):
        return message.tool_calls
    return [
        tool_call(name=str(block["name"]), args=block["input"], id=block.get("id"))
        for block in message.content
        if isinstance(block, dict)
        and block.get("type") == "tool_use"
        and "name" in block
        and isinstance(block.get("input"), dict)
    ]


class _Converter:
    """Converts one message; knows its place, for the errors."""

    def __init__(self, place: str, model: str, images: bool, names: Mapping[str, str]) -> None:  # noqa: FBT001 - internal.
        self._place = place
        self._model = model
        self._images = images
        self._names = names

    def convert(self, message: BaseMessage) -> list[WireMessage]:
        match message:
            case AIMessage():
                return [{"role": "assistant", "content": self._spoken(message)}]
            case ToolMessage():
                return [self._result(message)]
            case FunctionMessage():
                text = self._text(message.content)
                rendered = render_tool_result(text, name=message.name, call_id=None, failed=False)
                return [{"role": "user", "content": rendered}]
            case SystemMessage():
                return self._turn("system", message)
            case HumanMessage():
                return self._turn("user", message)
            case ChatMessage() if message.role.lower() in _CHAT_ROLES:
                return self._turn(_CHAT_ROLES[message.role.lower()], message)
            case _:
                kind = getattr(message, "role", message.type)
                raise SegmindInvalidInputError(
                    f"{self._place} has the role {kind!r}, which Segmind does not know: "
                    f"use one of {', '.join(sorted(_CHAT_ROLES))}."
                )

    def _spoken(self, message: AIMessage) -> str:
        """Give an assistant's text and calls, in the form the model was taught to call in."""
        said = [self._text(message.content), render_tool_calls(calls_of(message))]
        said += [call["args"] or "" for call in message.invalid_tool_calls]
        return "\n".join(text for text in said if text)

    def _result(self, message: ToolMessage) -> WireMessage:
        parts = self._parts(message.content)
        text = render_tool_result(
            "\n".join(part["text"] for part in parts if part["type"] == "text"),
            name=message.name or self._names.get(message.tool_call_id),
            call_id=message.tool_call_id,
            failed=message.status == "error",
        )
        images = [part for part in parts if part["type"] == "image_url"]
        return {
            "role": "user",
            "content": [TextPart(type="text", text=text), *images] if images else text,
        }

    def _turn(self, role: Role, message: BaseMessage) -> list[WireMessage]:
        """Give a turn; tool results shaped as Anthropic shapes them become turns of their own."""
        content = message.content
        turns: list[WireMessage] = []
        if isinstance(content, list):
            blocks = [block for block in content if isinstance(block, dict)]
            results = [block for block in blocks if block.get("type") == "tool_result"]
            turns = [{"role": "user", "content": self._anthropic_result(b)} for b in results]
            content = [block for block in content if block not in results]
            if turns and not content:
                return turns
        parts = self._parts(content)
        # The wire has no `name`: it goes where people would write it.
        if message.name and role != "assistant":
            parts = [TextPart(type="text", text=f"{message.name}: "), *parts]
        return [*turns, {"role": role, "content": _joined(parts)}]

    def _anthropic_result(self, block: Mapping[str, Any]) -> str:
        call_id = str(block.get("tool_use_id", ""))
        return render_tool_result(
            self._text(block.get("content") or ""),
            name=self._names.get(call_id),
            call_id=call_id,
            failed=bool(block.get("is_error")),
        )

    def _text(self, content: str | Sequence[str | Mapping[str, Any]]) -> str:
        """Give content as text only."""
        if isinstance(content, str):
            return content
        found = []
        for index, part in self._numbered(content):
            if part["type"] == "image_url":
                raise self._refusal(index, "image", "only a user's turn can carry one")
            found.append(part["text"])
        return "".join(found)

    def _parts(self, content: str | Sequence[str | Mapping[str, Any]]) -> list[Part]:
        if isinstance(content, str):
            return [TextPart(type="text", text=content)]
        return [part for _, part in self._numbered(content)]

    def _numbered(self, content: Sequence[str | Mapping[str, Any]]) -> list[tuple[int, Part]]:
        pairs = ((index, self._part(index, block)) for index, block in enumerate(content))
        return [(index, part) for index, part in pairs if part is not None]

    def _part(self, index: int, block: str | Mapping[str, Any]) -> Part | None:
        if isinstance(block, str):
            return TextPart(type="text", text=block)
        kind = block.get("type", "text" if "text" in block else None)
        kind = kind if isinstance(kind, str) else str(kind)
        if kind in _UNSPOKEN or kind in _CALLS:
            return None
        if isinstance(block.get("text"), str):  # text, text-plain, and files that are plain text.
            return TextPart(type="text", text=block["text"])
        match kind:
            case "refusal":
                return TextPart(type="text", text=str(block.get("refusal", "")))
            case "json":
                data = json.dumps(block.get("json"), ensure_ascii=False)
                return TextPart(type="text", text=data)
            case "image" | "image_url":
                return self._image(index, block)
            case _:
                raise self._refusal(index, kind, "it takes text")

    def _image(self, index: int, block: Mapping[str, Any]) -> ImagePart:
        if not self._images:
            raise self._refusal(index, "image", "it takes text; the vision slugs take images")
        url = block.get("image_url")
        if isinstance(url, str):
            return {"type": "image_url", "image_url": {"url": url}}
        if isinstance(url, Mapping) and isinstance(url.get("url"), str):
            return {"type": "image_url", "image_url": ImageURL(**url)}  # type: ignore[typeddict-item]
        try:
            converted = convert_to_openai_image_block(_from_anthropic(block))
        except (ValueError, KeyError) as error:
            raise self._refusal(
                index, "image", f"it needs a URL or base64 data ({error})"
            ) from None
        return {"type": "image_url", "image_url": {"url": str(converted["image_url"]["url"])}}

    def _refusal(self, index: int, kind: str, why: str) -> SegmindInvalidInputError:
        return SegmindInvalidInputError(
            f"{self._place}.content[{index}] is a block of type {kind!r}, which {self._model} "
            f"cannot be sent: {why}. Nothing was sent."
        )


def _from_anthropic(block: Mapping[str, Any]) -> dict[str, Any]:
    """Unpack `source`, where Anthropic keeps what the standard blocks have on top."""
    match block.get("source"):
        case {"type": "base64", "media_type": media_type, "data": data}:
            return {"type": "image", "base64": data, "mime_type": media_type}
        case {"type": "url", "url": url}:
            return {"type": "image", "url": url}
        case _:
            return dict(block)


def _joined(parts: Sequence[Part]) -> str | list[Part]:
    """Give a string, which every model takes, unless there is an image among the parts."""
    if any(part["type"] == "image_url" for part in parts):
        return list(parts)
    return "".join(part["text"] for part in parts if part["type"] == "text")


def text_of_wire(message: WireMessage) -> str:
    """Give the text of a message on the wire, without its images."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
