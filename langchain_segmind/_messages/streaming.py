"""The chunks of a stream, out of the events of a completion that comes in pieces."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from langchain_segmind._messages.incoming import finish_reason, generation_info, usage_from
from langchain_segmind._messages.stop import StopCutter
from langchain_segmind._protocol.answers import Accounting, Finished
from langchain_segmind._protocol.responses import (
    UnusableAnswerError,
    error_from_answer,
    error_from_failure,
)
from langchain_segmind._protocol.sse import EventDecoder
from langchain_segmind._protocol.streamed_completion import StreamedCompletion
from langchain_segmind._protocol.types import Emit, ReadChunk, TransportFailure
from langchain_segmind._tool_calling.toolset import ParsedReply

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import InvalidToolCall, ToolCall
    from langchain_core.outputs import ChatResult

    from langchain_segmind._messages.incoming import Call
    from langchain_segmind._protocol.sse import Event
    from langchain_segmind._protocol.types import Flow, Response
    from langchain_segmind._tool_calling.parser import ToolCallStream


def stream_generations(call: Call, exchange: Flow[Response | Finished]) -> Flow[None]:
    """Emit the chunks of an answer, as they come where the gateway streams, else as one.

    Raises:
        SegmindError: What the exchange came to.
    """
    answer = yield from call.answered(exchange)
    if isinstance(answer, Finished) or not answer.is_stream:
        yield Emit(_whole_chunk(call.result(answer)))
        return
    reader = StreamReader(call, answer)
    is_over = False
    while not (is_over or reader.is_done):
        chunk = yield ReadChunk()
        if isinstance(chunk, TransportFailure) and not reader.is_complete:
            raise error_from_failure(chunk, insists=True)  # No stream is begun again.
        if is_over := not isinstance(chunk, bytes):
            chunk = b"\n\n"  # Not every server ends its last event with a blank line.
        for generation in reader.feed(chunk):
            yield Emit(generation)
    yield Emit(reader.finish())


def _whole_chunk(result: ChatResult) -> ChatGenerationChunk:
    """Give a whole answer as the one chunk of a stream: the gateway sends no events today."""
    generation = result.generations[0]
    message = cast("AIMessage", generation.message)  # `result_of` makes no other.
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=message.content,
            tool_call_chunks=_call_chunks(message.tool_calls, message.invalid_tool_calls),
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        ),
        generation_info=generation.generation_info,
    )


class StreamReader:
    """Reads a stream of OpenAI-shaped chunks; holds back what may become a call or a stop."""

    def __init__(self, call: Call, response: Response) -> None:
        """Start before the first event."""
        self._call = call
        self._response = response
        self._events = EventDecoder()
        self._seen = StreamedCompletion()
        self._cutter = StopCutter(call.stop)
        self._calls: ToolCallStream | None = None
        if call.tools is not None:
            from langchain_segmind._tool_calling.parser import ToolCallStream

            self._calls = ToolCallStream(call.tools, strict=call.answers_wrapped)

    @property
    def is_done(self) -> bool:
        """Whether nothing follows, though the server may keep the connection open."""
        return self._seen.is_done

    @property
    def is_complete(self) -> bool:
        """Whether the answer has come to its end."""
        return self._seen.is_complete

    def feed(self, chunk: bytes) -> Iterator[ChatGenerationChunk]:
        """Take what has come; give the text that is certain to be text, one piece an event.

        Raises:
            SegmindResponseError: An event cannot be used.
        """
        for event in self._events.feed(chunk):
            if text := self._certain(self._added(event)):
                yield ChatGenerationChunk(message=AIMessageChunk(content=text))
            if self.is_done:
                return

    def _added(self, event: Event) -> str:
        try:
            return self._seen.add(event.data, event.name)
        except UnusableAnswerError as error:
            why = str(error)
        raise error_from_answer(self._response, why)

    def finish(self) -> ChatGenerationChunk:
        """Give what was held back, the calls and the metadata, when the stream has ended.

        Raises:
            SegmindResponseError: It ended before the answer did.
        """
        if not self._seen.is_complete:
            raise error_from_answer(self._response, "its event stream ended before the answer did")
        rest = self._cutter.finish()
        told = "stop" if self._cutter.cut else self._seen.finish_reason
        parsed = self._end(rest, cut=self._cutter.cut or told == "length")
        reason = finish_reason(told, parsed)
        accounting = Accounting.from_headers(self._response.headers)
        completion = self._seen.as_whole()
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content=parsed.content,
                tool_call_chunks=_call_chunks(parsed.tool_calls, parsed.invalid_tool_calls),
                usage_metadata=usage_from(completion.get("usage")),
                response_metadata=self._call.metadata(completion, reason, accounting),
                chunk_position="last",
            ),
            generation_info=generation_info(reason, accounting, {}),
        )

    def _certain(self, text: str) -> str:
        text = self._cutter.feed(text)
        return text if self._calls is None else self._calls.feed(text)

    def _end(self, rest: str, *, cut: bool) -> ParsedReply:
        if self._calls is None:
            parsed = ParsedReply(rest, [], [])
        else:
            said = self._calls.feed(rest)
            parsed = self._calls.finish(truncated=cut)
            parsed = replace(parsed, content=said + parsed.content)
        if not (native := self._seen.tool_calls):
            return parsed
        from langchain_segmind._tool_calling.native_calls import read_native_calls

        calls, invalid = read_native_calls(native, self._call.tools, cut=cut)
        return replace(
            parsed,
            tool_calls=[*parsed.tool_calls, *calls],
            invalid_tool_calls=[*parsed.invalid_tool_calls, *invalid],
        )


def _call_chunks(calls: Sequence[ToolCall], invalid: Sequence[InvalidToolCall]) -> list[Any]:
    chunks = [
        tool_call_chunk(
            name=call["name"],
            args=json.dumps(call["args"], ensure_ascii=False),
            id=call["id"],
            index=index,
        )
        for index, call in enumerate(calls)
    ]
    return chunks + [
        tool_call_chunk(
            name=call["name"],
            args=_unrunnable(call["args"] or ""),
            id=call["id"],
            index=index,
        )
        for index, call in enumerate(invalid, start=len(chunks))
    ]


_QUICKLY_TRIED = 400
"""Characters of broken arguments that are tried before they are quoted."""


def _unrunnable(args: str) -> str:
    """Spell broken arguments so that no chunk arithmetic completes them into a call that runs.

    langchain-core closes open JSON in summed chunks; a JSON string of it stays invalid. To find out
    takes its parser a time that grows with the cube of the length.
    """
    if len(args) > _QUICKLY_TRIED:
        return json.dumps(args, ensure_ascii=False)
    try:
        completed = parse_partial_json(args) if args else {}
    except (ValueError, RecursionError):
        return args
    return json.dumps(args, ensure_ascii=False) if isinstance(completed, dict) else args
