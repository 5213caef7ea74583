"""A pytest plugin: the fake chat models of a suite become `ChatSegmindLlama`, over a real socket.

What a suite derives from `BaseChatModel`, it derives from `StandIn` instead. The fake's reply goes
into the body of a call, a local Segmind answers with it as Llama would write it, and the suite gets
what our client reads of that. Put back is what suites compare with their own and the API has no
place for, the ids of messages and calls; and taken away where the fake has none, the metadata.
"""

from __future__ import annotations

import builtins
import functools
import json
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel, SimpleChatModel
from langchain_core.messages import AIMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatResult

from compat.segmind import answer_with, seen
from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatGenerationChunk

SUITE = Path.cwd() / "tests"
CORES_FAKES = "langchain_core.language_models.fake_chat_models"
_asked: ContextVar[bool] = ContextVar("asked", default=False)
"""Whether a fake is being asked: what it calls of itself stays as the suite wrote it."""


class StandIn(ChatSegmindLlama):
    """What a suite's fakes derive from in place of `BaseChatModel`."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Send what the fake answers over the wire."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, over_the_wire in _OVER_THE_WIRE.items():
            if (fake := vars(cls).get(name)) is not None:
                setattr(cls, name, functools.wraps(fake)(over_the_wire(fake)))

    def model_post_init(self, context: Any, /) -> None:
        """Notice that the test has a model."""
        super().model_post_init(context)
        seen["models"] += 1

    async def _agenerate(self, messages: Any, *given: Any, **kwargs: Any) -> ChatResult:
        said = _ask(self._generate, messages, *given, **kwargs)
        return await _aresult(self, said, messages, given, kwargs)

    def _stream(self, messages: Any, *given: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        said = _ask(self._generate, messages, *given, **kwargs)
        yield from _chunks(self, said, messages, given, kwargs)

    async def _astream(
        self, messages: Any, *given: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if type(self)._stream is not StandIn._stream:
            said = _ask(_summed, self._stream, messages, *given, **kwargs)
        elif type(self)._agenerate is not StandIn._agenerate:
            said = await _aask(self._agenerate, messages, *given, **kwargs)
        else:
            said = _ask(self._generate, messages, *given, **kwargs)
        async for chunk in _achunks(self, said, messages, given, kwargs):
            yield chunk


def _ask(fake: Callable[..., ChatResult], *given: Any, **kwargs: Any) -> ChatResult:
    """Ask a fake what it answers."""
    token = _asked.set(True)
    try:
        return fake(*given, **kwargs)
    finally:
        _asked.reset(token)


async def _aask(fake: Callable[..., Any], *given: Any, **kwargs: Any) -> ChatResult:
    token = _asked.set(True)
    try:
        return await fake(*given, **kwargs)  # type: ignore[no-any-return]
    finally:
        _asked.reset(token)


def _summed(stream: Callable[..., Iterator[Any]], *given: Any, **kwargs: Any) -> ChatResult:
    """Put what a fake streams together; it is our client that tells the callbacks of tokens."""
    return _sum(list(stream(*given[:2], **{**kwargs, "run_manager": None})))


async def _asummed(stream: Callable[..., Any], *given: Any, **kwargs: Any) -> ChatResult:
    chunks = stream(*given[:2], **{**kwargs, "run_manager": None})
    return _sum([chunk async for chunk in chunks])


def _sum(chunks: list[ChatGenerationChunk]) -> ChatResult:
    if not chunks:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(""))])
    whole = functools.reduce(lambda one, other: one + other, chunks).message
    return ChatResult(generations=[ChatGeneration(message=message_chunk_to_message(whole))])


# --- A method of a fake, and what stands in its place ---


def _generate(fake: Callable[..., ChatResult]) -> Callable[..., ChatResult]:
    def generate(self: StandIn, messages: Any, *given: Any, **kwargs: Any) -> ChatResult:
        if _asked.get():
            return fake(self, messages, *given, **kwargs)
        said = _ask(fake, self, messages, *given, **kwargs)
        answer = ChatSegmindLlama._generate(self, messages, *given, **_saying(said, kwargs))
        return _as_said(said, answer)

    return generate


def _agenerate(fake: Callable[..., Any]) -> Callable[..., Any]:
    async def agenerate(self: StandIn, messages: Any, *given: Any, **kwargs: Any) -> ChatResult:
        if _asked.get():
            return await fake(self, messages, *given, **kwargs)  # type: ignore[no-any-return]
        said = await _aask(fake, self, messages, *given, **kwargs)
        return await _aresult(self, said, messages, given, kwargs)

    return agenerate


def _stream(fake: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[ChatGenerationChunk]]:
    def stream(
        self: StandIn, messages: Any, *given: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if _asked.get():
            yield from fake(self, messages, *given, **kwargs)
            return
        said = _ask(_summed, functools.partial(fake, self), messages, *given, **kwargs)
        yield from _chunks(self, said, messages, given, kwargs)

    return stream


def _astream(fake: Callable[..., Any]) -> Callable[..., AsyncIterator[ChatGenerationChunk]]:
    async def astream(
        self: StandIn, messages: Any, *given: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if _asked.get():
            async for chunk in fake(self, messages, *given, **kwargs):
                yield chunk
            return
        said = await _aask(_asummed, functools.partial(fake, self), messages, *given, **kwargs)
        async for chunk in _achunks(self, said, messages, given, kwargs):
            yield chunk

    return astream


_OVER_THE_WIRE: dict[str, Callable[..., Any]] = {
    "_generate": _generate,
    "_agenerate": _agenerate,
    "_stream": _stream,
    "_astream": _astream,
}


async def _aresult(
    model: StandIn, said: ChatResult, messages: Any, given: Any, kwargs: Any
) -> ChatResult:
    answer = await ChatSegmindLlama._agenerate(model, messages, *given, **_saying(said, kwargs))
    return _as_said(said, answer)


def _chunks(
    model: StandIn, said: ChatResult, messages: Any, given: Any, kwargs: Any
) -> Iterator[ChatGenerationChunk]:
    for chunk in ChatSegmindLlama._stream(model, messages, *given, **_saying(said, kwargs)):
        _make_comparable(said.generations[0], chunk)
        yield chunk


async def _achunks(
    model: StandIn, said: ChatResult, messages: Any, given: Any, kwargs: Any
) -> AsyncIterator[ChatGenerationChunk]:
    stream = ChatSegmindLlama._astream(model, messages, *given, **_saying(said, kwargs))
    async for chunk in stream:
        _make_comparable(said.generations[0], chunk)
        yield chunk


# --- What the gateway answers, and what is made of it ---


def _saying(said: ChatResult, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Have the gateway answer what the fake said: a field that no model knows is passed on."""
    names = _names(kwargs)
    messages = [generation.message for generation in said.generations]
    usage = getattr(messages[0], "usage_metadata", None)
    completion: dict[str, Any] = {
        "choices": [
            {
                "index": index,
                "message": _wire_message(message, names),
                "finish_reason": message.response_metadata.get("finish_reason", "stop"),
            }
            for index, message in enumerate(messages)
        ]
    }
    if usage:
        completion["usage"] = {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
        }
    return {**kwargs, "say": completion}


def _names(kwargs: dict[str, Any]) -> set[str]:
    """Name what the model was told of: tools, or the form of its reply."""
    names = {tool.get("function", tool).get("name") for tool in kwargs.get("tools") or ()}
    form = kwargs.get("response_format")
    if isinstance(form, dict):
        names.add(form.get("json_schema", {}).get("name"))
    return names


def _wire_message(message: BaseMessage, names: set[str]) -> dict[str, Any]:
    """Write a reply as Llama does; calls of what it was not told of, as OpenAI does."""
    calls, invalid = (getattr(message, kind, []) for kind in ("tool_calls", "invalid_tool_calls"))
    written = {"role": "assistant", "content": message.content}
    if invalid or not all(call["name"] in names for call in calls):
        arguments = [(call, json.dumps(call["args"], default=str)) for call in calls]
        broken = [(call, call["args"]) for call in invalid]
        written["tool_calls"] = [_native(*call) for call in (*arguments, *broken)]
    elif calls:
        objects = ({"name": call["name"], "parameters": call["args"]} for call in calls)
        texts = "; ".join(json.dumps(one, default=str) for one in objects)
        written["content"] = f"{message.text}\n{texts}".lstrip()
    return written


def _native(call: Any, arguments: str) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": arguments}
    return {"id": call["id"], "type": "function", "function": function}


def _as_said(said: ChatResult, answer: ChatResult) -> ChatResult:
    for one, other in zip(said.generations, answer.generations, strict=True):
        _make_comparable(one, other)
        if one.message == other.message:
            other.message = one.message  # Some suites compare with an object that changes later.
    answer.llm_output = said.llm_output
    return answer


def _make_comparable(suites: ChatGeneration, ours: ChatGeneration) -> None:
    """Give a message and its calls the ids of the suite, and no metadata where it has none."""
    seen["calls"] += 1
    said, read = suites.message, ours.message
    read.id = said.id
    if not said.response_metadata:
        read.response_metadata, ours.generation_info = {}, suites.generation_info
    if isinstance(read, AIMessage) and not getattr(said, "usage_metadata", None):
        read.usage_metadata = None
    for kind in ("tool_calls", "tool_call_chunks"):
        calls, theirs = getattr(read, kind, []), getattr(said, "tool_calls", [])
        if [call["name"] for call in calls] == [call["name"] for call in theirs]:
            for call, suites_call in zip(calls, theirs, strict=True):
                call["id"] = suites_call["id"]


# --- The suite's classes, and pytest's hooks ---


class _SimpleStandIn(StandIn, SimpleChatModel):
    """What stands for `SimpleChatModel`, whose subclasses say but a text."""

    _generate = SimpleChatModel._generate


_BASES: dict[type, type] = {BaseChatModel: StandIn, SimpleChatModel: _SimpleStandIn}
_build_class = builtins.__build_class__


def _build(body: Any, name: str, /, *bases: Any, **kwargs: Any) -> Any:
    """Build a class, of a suite's models on our base."""
    module = body.__globals__
    file = Path(module.get("__file__") or "")
    if module["__name__"] == CORES_FAKES or file.is_relative_to(SUITE):
        bases = tuple(_BASES.get(base, base) if isinstance(base, type) else base for base in bases)
    return _build_class(body, name, *bases, **kwargs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run be compared with one on the suite's own fakes."""
    parser.addoption("--own-fakes", action="store_true", help="leave the suite's models alone")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Stand in for what the suite is about to define, and answer it."""
    if config.getoption("--own-fakes"):
        return
    patch = answer_with(lambda body: body["say"], config)
    patch.setattr(builtins, "__build_class__", _build)
