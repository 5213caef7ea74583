"""LangChain's messages into the three roles and the string content that Segmind takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, TypedDict

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
from langchain_core.messages.tool import ToolCall, tool_call
from langchain_core.prompt_values import PromptValue

from langchain_segmind._tool_calling.prompt import render_tool_calls, render_tool_result
from langchain_segmind.exceptions import SegmindInvalidInputError

Role = Literal["user", "assistant", "system"]


class TextPart(TypedDict):
    """A piece of text between images."""

    type: Literal["text"]
    text: str


class ImagePart(TypedDict):
    """An image, as the vision slugs take it: the fetch of a URL fails for some hosts."""

    type: Literal["image_url"]
    image_url: dict[str, Any]


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
_SKIPPED_BLOCKS = frozenset(
    # What a model thought, a provider's bookkeeping, and calls, which are written for themselves.
    [
        *("thinking", "redacted_thinking", "reasoning", "reasoning_content"),
        *("tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"),
    ]
)


def to_wire(messages: Sequence[BaseMessage], *, model: str, images: bool) -> list[WireMessage]:
    """Convert a conversation, keeping its order; messages of one role in a row stay separate.

    A role or a block that cannot be sent is refused by its index: images, say, unless the model,
    named by its slug, takes them.
    """
    if not messages:
        raise SegmindInvalidInputError(
            "There is no message to send: pass at least one. Nothing was sent."
        )
    names = _names_of_calls(messages)
    wire: list[WireMessage] = []
    for index, message in enumerate(messages):
        wire += _Converter(f"messages[{index}]", model, images, names).convert(message)
    return wire


def to_messages(prompt: Any) -> list[BaseMessage]:
    """Give the messages of what `llm.invoke` takes; anything else is refused."""
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
    """Convert a conversation that is to be answered, as `to_wire`; an empty one is refused."""
    wire = to_wire(messages, model=model, images=images)
    is_asked = wire[-1]["role"] == "user"  # As by a template whose variable was empty.
    if all(_is_blank(message) for message in (wire[-1:] if is_asked else wire)):
        raise SegmindInvalidInputError(
            "The prompt is empty: there is nothing to answer in its messages, and an answer would "
            "be billed. Nothing was sent."
        )
    return wire


def _is_blank(message: WireMessage) -> bool:
    return isinstance(message["content"], str) and not message["content"].strip()


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
    is_tool_result: bool = False
    """Whether a tool gave the content, so that nobody can mend what the model cannot take."""

    def convert(self, message: BaseMessage) -> list[WireMessage]:
        match message:
            case HumanMessage():  # First: to see that a message is of another class takes long.
                return self._turn("user", message)
            case AIMessage():
                return [{"role": "assistant", "content": self._assistant_text(message)}]
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
                role, known = getattr(message, "role", message.type), ", ".join(sorted(_CHAT_ROLES))
                raise self._refusal(
                    f"has the role {role!r}, which Segmind does not know: use one of {known}"
                )

    def _assistant_text(self, message: AIMessage) -> str:
        """Give an assistant's text and calls, in the form the model was taught to call in."""
        parts = self.parts_of(message.content)
        if any(part["type"] == "image_url" for part in parts):
            raise self._refusal("holds an image: only a user's turn can carry one")
        with self._refuse_unwritable():
            calls = render_tool_calls(calls_of(message))
        invalid = [call["args"] or "" for call in message.invalid_tool_calls]
        return _escape_tokens("\n".join(filter(None, (_text_of(parts), calls, *invalid))))

    def result_of(
        self, content: object, name: str | None, call_id: str | None, *, failed: bool
    ) -> WireMessage:
        parts = replace(self, is_tool_result=True).parts_of(content)
        written = "\n".join(part["text"] for part in parts if part["type"] == "text")
        text = render_tool_result(written, name=name, call_id=call_id, failed=failed)
        images = [part for part in parts if part["type"] == "image_url"]
        return {"role": "user", "content": _content([text_part(text), *images])}

    def _turn(self, role: Role, message: BaseMessage) -> list[WireMessage]:
        """Give a turn; tool results shaped as Anthropic shapes them become turns of their own."""
        content: object = message.content
        if isinstance(content, str) and not message.name:
            return [{"role": role, "content": _escape_tokens(content)}]
        turns: list[WireMessage] = []
        if isinstance(content, list):
            results = [(at, block) for at, block in enumerate(content) if _is_result(block)]
            turns = [self._anthropic_result(at, block) for at, block in results]
            content = [block for block in content if not _is_result(block)]
            if turns and not content:
                return turns
        parts = self.parts_of(content)
        if message.name and role != "assistant":
            # The wire has no `name`: it goes where people would write it.
            parts.insert(0, text_part(f"{message.name}: "))
        return [*turns, {"role": role, "content": _content(parts)}]

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
        """Give the parts of any content: all that it can hold is checked here."""
        blocks = [content] if isinstance(content, str) else content
        if not isinstance(blocks, (list, tuple)):
            kind = type(content).__name__
            raise self._refusal(f"is {kind}, where it takes text or a list of blocks", ".content")
        parts = (self._part(index, block) for index, block in enumerate(blocks))
        return [part for part in parts if part is not None]

    def _part(self, index: int, block: object) -> Part | None:
        if isinstance(block, str):
            return text_part(block)
        if not isinstance(block, Mapping):
            raise self._block_refusal(index, type(block).__name__, "a block is text or a dict")
        kind = str(block.get("type", "text" if "text" in block else None))
        if kind in _SKIPPED_BLOCKS:
            return None
        if isinstance(block.get("text"), str):  # text, text-plain, and files that are plain text.
            return text_part(block["text"])
        match kind:
            case "refusal":
                return text_part(str(block.get("refusal", "")))
            case "json":
                with self._refuse_unwritable():
                    return text_part(json.dumps(block.get("json"), ensure_ascii=False))
            case "image" | "image_url":
                return self._image(index, block)
            case _:
                return self._unreadable(index, kind, "it takes text")

    def _image(self, index: int, block: Mapping[str, Any]) -> Part:
        if not self.images:
            why = "it takes text; the vision slugs take images"
            return self._unreadable(index, "image", why)
        match block:
            case {"image_url": {"url": str()} as image}:
                return {"type": "image_url", "image_url": dict(image)}
            case {"image_url": str(url)} | {"source": {"type": "url", "url": url}} | {"url": url}:
                pass
            case (
                {"source": {"type": "base64", "media_type": mime_type, "data": data}}
                | {"base64": data, "mime_type": mime_type}
                | {"source_type": "base64", "mime_type": mime_type, "data": data}
            ):
                url = f"data:{mime_type};base64,{data}"
            case _:
                why = "it needs a URL or base64 data with a mime_type"
                return self._unreadable(index, "image", why)
        return {"type": "image_url", "image_url": {"url": str(url)}}

    def _unreadable(self, index: int, kind: str, why: str) -> TextPart:
        """Tell the model of what a tool gave and it cannot read; refuse what a user gave."""
        if not self.is_tool_result:
            raise self._block_refusal(index, kind, why)
        return text_part(
            f"[The tool returned a block of type {kind!r}, which {self.model} cannot read.]"
        )

    @contextmanager
    def _refuse_unwritable(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refusal(f"holds what cannot be written as JSON: {error}") from None

    def _block_refusal(self, index: int, kind: str, why: str) -> SegmindInvalidInputError:
        what = f"is a block of type {kind!r}, which {self.model} cannot be sent: {why}"
        return self._refusal(what, f".content[{index}]")

    def _refusal(self, what: str, where: str = "") -> SegmindInvalidInputError:
        return SegmindInvalidInputError(f"{self.place}{where} {what}. Nothing was sent.")


def _is_result(block: object) -> bool:
    return isinstance(block, Mapping) and block.get("type") == "tool_result"


def text_part(text: str) -> TextPart:
    """Give a text as a part of a message."""
    return {"type": "text", "text": text}


def _content(parts: Sequence[Part]) -> str | list[Part]:
    """Give a string, which every model takes, unless there is an image among the parts.

    Texts that follow each other are one, as the model reads them.
    """
    if all(part["type"] == "text" for part in parts):
        return _escape_tokens(_text_of(parts))
    content: list[Part] = []
    for kind, run in groupby(parts, key=itemgetter("type")):
        if kind == "text":
            content.append(text_part(_escape_tokens(_text_of(run))))
        else:
            content.extend(run)
    return content


def _escape_tokens(text: str) -> str:
    """Put a space into Llama's own tokens, so that no text can end a turn or begin another."""
    return _SPECIAL_TOKEN.sub("<| ", text)


# Those of Llama 3 to 3.2, from Meta's published prompt format: any other `<|…|>` is text.
_SPECIAL_TOKEN = re.compile(
    r"<\|(?=(?:begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id|python_tag"
    r"|finetune_right_pad_id|step_id|image|reserved_special_token_\d{1,3})\|>)"
)


def _text_of(parts: Iterable[Part]) -> str:
    return "".join(part["text"] for part in parts if part["type"] == "text")


def text_of_wire(message: WireMessage) -> str:
    """Give the text of a message on the wire, without its images."""
    content = message["content"]
    return content if isinstance(content, str) else _text_of(content)
