"""The chunks of a stream, out of the events of a completion that comes in pieces."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_segmind._messages.stop import StopCutter
from langchain_segmind._protocol.answers import Accounting, Finished
from langchain_segmind._protocol.responses import (
    Sending,
    UnusableAnswerError,
    error_from_answer,
    error_from_failure,
)
from langchain_segmind._protocol.sse import EventDecoder
from langchain_segmind._protocol.streamed_completion import StreamedCompletion
from langchain_segmind._protocol.types import Emit, ReadChunk, TransportFailure
from langchain_segmind._tool_calling.toolset import ParsedReply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration

    from langchain_segmind._messages.incoming import Call
    from langchain_segmind._protocol.sse import Event
    from langchain_segmind._protocol.types import Flow, Response
    from langchain_segmind._tool_calling.parser import ToolCallStream


def stream_generations(call: Call, exchange: Flow[Response | Finished]) -> Flow[None]:
    """Emit the chunks of an answer, as they come where the gateway streams, else as one."""
    answer = yield from call.complete(exchange)
    if isinstance(answer, Finished) or not answer.is_stream:
        yield Emit(_last_chunk(call.result(answer).generations[0]))
        return
    reader = StreamReader(call, answer)
    is_over = False
    while not (is_over or reader.seen.is_done):
        chunk = yield ReadChunk()
        if isinstance(chunk, TransportFailure) and not reader.seen.is_complete:
            # No stream is begun again.
            sending = Sending(lost_before=answer.lost_before, is_final=True)
            raise error_from_failure(chunk, sending)
        if is_over := not isinstance(chunk, bytes):
            chunk = b"\n\n"  # Not every server ends its last event with a blank line.
        for generation in reader.feed(chunk):
            yield Emit(generation)
    yield Emit(reader.finish())


def _last_chunk(generation: ChatGeneration) -> ChatGenerationChunk:
    """Give a generation as a chunk: the rest of a stream, or all of a whole answer."""
    message = cast("AIMessage", generation.message)  # `Call.generation` makes no other.
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=message.content,
            tool_call_chunks=_call_chunks(message),
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        ),
        generation_info=generation.generation_info,
    )


class StreamReader:
    """Reads a stream of OpenAI-shaped chunks; holds back what may become a call or a stop."""

    def __init__(self, call: Call, response: Response) -> None:
        self._call = call
        self._response = response
        self._events = EventDecoder()
        self.seen = StreamedCompletion()
        self._cutter = StopCutter(call.stop)
        self._held: list[str] = []
        """All of a reply that is to be one object, which shows at its end."""
        self._calls: ToolCallStream | None = None
        if call.tools is not None and call.answer is None:
            from langchain_segmind._tool_calling.parser import ToolCallStream

            self._calls = ToolCallStream(call.tools, strict=call.answers_wrapped)

    def feed(self, chunk: bytes) -> Iterator[ChatGenerationChunk]:
        """Take what has come; give the text that is certain to be text, one piece an event."""
        for event in self._events.feed(chunk):
            text = self._cutter.feed(self._add(event))
            if self._call.answer is not None:
                self._held.append(text)
                text = ""
            if self._calls is not None:
                text = self._calls.feed(text)
            if text:
                yield ChatGenerationChunk(message=AIMessageChunk(content=text))
            if self.seen.is_done:
                return

    def _add(self, event: Event) -> str:
        try:
            return self.seen.add(event.data, event.name)
        except UnusableAnswerError as error:
            why = str(error)
        raise error_from_answer(self._response, why)

    def finish(self) -> ChatGenerationChunk:
        """Give what was held back, the calls and the metadata, when the stream has ended."""
        if not self.seen.is_complete:
            raise error_from_answer(self._response, "its event stream ended before the answer did")
        text = "".join(self._held) + self._cutter.finish()
        completion = self.seen.as_whole()
        (choice,) = completion["choices"]
        if self._cutter.cut:
            choice["finish_reason"] = "stop"
        is_cut = self._cutter.cut or choice["finish_reason"] == "length"
        parsed = self._parse_rest(text, cut=is_cut)
        accounting = Accounting.from_response(self._response)
        return _last_chunk(self._call.generation(parsed, choice, completion, accounting))

    def _parse_rest(self, text: str, *, cut: bool) -> ParsedReply:
        native = self.seen.tool_calls
        if self._call.answer is not None:
            return self._call.parse(text, native, cut=cut)
        parsed = ParsedReply(text)
        if self._calls is not None:
            text = self._calls.feed(text)
            parsed = self._calls.finish(truncated=cut)
            parsed = replace(parsed, content=text + parsed.content)
        return self._call.with_native_calls(parsed, native, cut=cut)


def _call_chunks(message: AIMessage) -> list[Any]:
    valid = [(call, json.dumps(call["args"], ensure_ascii=False)) for call in message.tool_calls]
    invalid = [(call, _spell_invalid(call["args"] or "")) for call in message.invalid_tool_calls]
    return [
        tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index)
        for index, (call, args) in enumerate([*valid, *invalid])
    ]


def _spell_invalid(args: str) -> str:
    """Spell broken arguments so that no chunk arithmetic completes them into a call that runs.

    langchain-core closes open JSON in summed chunks; a JSON string of it stays invalid.
    """
    is_completed = not args or args.lstrip().startswith("{")
    return json.dumps(args, ensure_ascii=False) if is_completed else args
