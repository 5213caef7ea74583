"""LangChain's messages into the three roles and the string content that Segmind takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, NotRequired, TypedDict, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.messages.block_translators.openai import convert_to_openai_image_block
from langchain_core.messages.tool import ToolCall, tool_call
from langchain_core.prompt_values import PromptValue

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


def to_messages(prompt: Any) -> list[BaseMessage]:
    """Give the messages of what `llm.invoke` takes.

    Raises:
        SegmindInvalidInputError: It is something else.
    """
    if isinstance(prompt, str):
        return [HumanMessage(prompt)]
    if isinstance(prompt, PromptValue):
        return prompt.to_messages()
    try:
        return convert_to_messages(prompt)
    except (ValueError, TypeError, KeyError, NotImplementedError, AttributeError) as error:
        why = str(error).partition("\n")[0]
        raise SegmindInvalidInputError(f"The messages cannot be read: {why}") from None


def convert_prompt(
    messages: Sequence[BaseMessage], *, model: str, images: bool
) -> list[WireMessage]:
    """Convert a conversation that is to be answered: see `to_wire`.

    Raises:
        SegmindInvalidInputError: It says nothing, or cannot be sent.
    """
    wire = to_wire(messages, model=model, images=images)
    contents = (message["content"] for message in wire)
    if all(isinstance(content, str) and not content.strip() for content in contents):
        raise SegmindInvalidInputError(
            "The prompt is empty: there is nothing to answer in its messages, and an answer would "
            "be billed. Nothing was sent."
        )
    return wire


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
    if message.tool_calls or not isinstance(message.content, list):
        return message.tool_calls
    return [
        tool_call(name=str(block["name"]), args=block["input"], id=block.get("id"))
        for block in message.content
        if isinstance(block, dict)
        and block.get("type") == "tool_use"
        and "name" in block
        and isinstance(block.get("input"), dict)
    ]


@dataclass(slots=True)
class _Converter:
    """Converts one message; knows its place, for the errors."""

    place: str
    model: str
    images: bool
    names: Mapping[str, str]
    of_a_tool: bool = False
    """Whether a tool gave the content, so that nobody can mend what the model cannot take."""

    def convert(self, message: BaseMessage) -> list[WireMessage]:
        match message:
            case HumanMessage():  # First: to see that a message is of another class takes long.
                return self._turn("user", message)
            case AIMessage():
                return [{"role": "assistant", "content": self._spoken(message)}]
            case ToolMessage():
                name = message.name or self.names.get(message.tool_call_id)
                failed = message.status == "error"
                return [self.result_of(message.content, name, message.tool_call_id, failed=failed)]
            case FunctionMessage():
                return [self.result_of(message.content, message.name, None, failed=False)]
            case SystemMessage():
                return self._turn("system", message)
            case ChatMessage() if message.role.lower() in _CHAT_ROLES:
                return self._turn(_CHAT_ROLES[message.role.lower()], message)
            case _:
                kind = getattr(message, "role", message.type)
                raise SegmindInvalidInputError(
                    f"{self.place} has the role {kind!r}, which Segmind does not know: "
                    f"use one of {', '.join(sorted(_CHAT_ROLES))}."
                )

    def _spoken(self, message: AIMessage) -> str:
        """Give an assistant's text and calls, in the form the model was taught to call in."""
        said = []
        for index, part in self._numbered(message.content):
            if part["type"] == "image_url":
                raise self._refusal(index, "image", "only a user's turn can carry one")
            said.append(part["text"])
        with self._writing():
            calls = render_tool_calls(calls_of(message))
        invalid = [call["args"] or "" for call in message.invalid_tool_calls]
        return "\n".join(text for text in ("".join(said), calls, *invalid) if text)

    def result_of(
        self, content: object, name: str | None, call_id: str | None, *, failed: bool
    ) -> WireMessage:
        parts = replace(self, of_a_tool=True).parts_of(content)
        said = "\n".join(part["text"] for part in parts if part["type"] == "text")
        text = render_tool_result(said, name=name, call_id=call_id, failed=failed)
        images = [part for part in parts if part["type"] == "image_url"]
        return {"role": "user", "content": _joined([TextPart(type="text", text=text), *images])}

    def _turn(self, role: Role, message: BaseMessage) -> list[WireMessage]:
        """Give a turn; tool results shaped as Anthropic shapes them become turns of their own."""
        content: object = message.content
        # The wire has no `name`: it goes where people would write it.
        name = f"{message.name}: " if message.name and role != "assistant" else ""
        if isinstance(content, str):
            return [{"role": role, "content": name + content}]
        turns: list[WireMessage] = []
        if isinstance(content, list):
            results = [(at, block) for at, block in enumerate(content) if _is_result(block)]
            turns = [self._anthropic_result(at, block) for at, block in results]
            content = [block for block in content if not _is_result(block)]
            if turns and not content:
                return turns
        parts = [TextPart(type="text", text=name), *self.parts_of(content)]
        return [*turns, {"role": role, "content": _joined(parts if name else parts[1:])}]

    def _anthropic_result(self, index: int, block: Mapping[str, Any]) -> WireMessage:
        call_id = str(block.get("tool_use_id", ""))
        inner = replace(self, place=f"{self.place}.content[{index}]")
        content = block.get("content")
        return inner.result_of(
            "" if content is None else content,
            self.names.get(call_id),
            call_id,
            failed=bool(block.get("is_error")),
        )

    def parts_of(self, content: object) -> list[Part]:
        return [part for _, part in self._numbered(content)]

    def _numbered(self, content: object) -> list[tuple[int, Part]]:
        """Give the parts of any content with their places: all that it can hold is checked here."""
        blocks = [content] if isinstance(content, str) else content
        if not isinstance(blocks, list | tuple):
            raise SegmindInvalidInputError(
                f"{self.place}.content is {type(content).__name__}, where it takes text or a list "
                "of blocks. Nothing was sent."
            )
        pairs = ((index, self._part(index, block)) for index, block in enumerate(blocks))
        return [(index, part) for index, part in pairs if part is not None]

    def _part(self, index: int, block: object) -> Part | None:
        if isinstance(block, str):
            return TextPart(type="text", text=block)
        if not isinstance(block, Mapping):
            raise self._refusal(index, type(block).__name__, "a block is text or a dict")
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
                with self._writing():
                    data = json.dumps(block.get("json"), ensure_ascii=False)
                return TextPart(type="text", text=data)
            case "image" | "image_url":
                return self._image(index, block)
            case _:
                return self._unreadable(index, kind, "it takes text")

    def _image(self, index: int, block: Mapping[str, Any]) -> Part:
        if not self.images:
            why = "it takes text; the vision slugs take images"
            return self._unreadable(index, "image", why)
        url = block.get("image_url")
        if isinstance(url, str):
            return {"type": "image_url", "image_url": {"url": url}}
        if isinstance(url, Mapping) and isinstance(url.get("url"), str):
            return {"type": "image_url", "image_url": cast("ImageURL", dict(url))}
        try:
            converted = convert_to_openai_image_block(_from_anthropic(block))
        except (ValueError, KeyError) as error:
            why = f"it needs a URL or base64 data ({error})"
            return self._unreadable(index, "image", why)
        return {"type": "image_url", "image_url": {"url": str(converted["image_url"]["url"])}}

    def _unreadable(self, index: int, kind: str, why: str) -> TextPart:
        """Tell the model of what a tool gave and it cannot read; refuse what a user gave."""
        if not self.of_a_tool:
            raise self._refusal(index, kind, why)
        text = f"[The tool returned a block of type {kind!r}, which {self.model} cannot read.]"
        return TextPart(type="text", text=text)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError, RecursionError) as error:
            raise SegmindInvalidInputError(
                f"{self.place} holds what cannot be written as JSON: {error}. Nothing was sent."
            ) from None

    def _refusal(self, index: int, kind: str, why: str) -> SegmindInvalidInputError:
        return SegmindInvalidInputError(
            f"{self.place}.content[{index}] is a block of type {kind!r}, which {self.model} "
            f"cannot be sent: {why}. Nothing was sent."
        )


def _is_result(block: object) -> bool:
    return isinstance(block, Mapping) and block.get("type") == "tool_result"


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
