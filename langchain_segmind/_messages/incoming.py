"""One call of the model: the body it sends, and how its answer is to be read.

Both readings, of a whole answer and of a stream of events, end in the same messages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeGuard

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.json import parse_partial_json

from langchain_segmind._messages.stop import StopCutter
from langchain_segmind._protocol.responses import (
    MOST_CALLS,
    UnusableAnswerError,
    completion_from,
    decode_json,
    error_from_answer,
    request_id_of,
    text_of,
    words_of,
)
from langchain_segmind._protocol.sse import EventDecoder
from langchain_segmind._tool_calling.toolset import ParsedReply
from langchain_segmind.credits import CACHED, PROVIDER, Credits, amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from langchain_core.messages import InvalidToolCall, ToolCall

    from langchain_segmind._protocol.sse import Event
    from langchain_segmind._protocol.types import Response
    from langchain_segmind._tool_calling.parser import ToolCallStream
    from langchain_segmind._tool_calling.toolset import ToolSet


@dataclass(frozen=True, slots=True)
class Accounting:
    """What an answer says about itself beside its text."""

    credits: Credits
    request_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More for `response_metadata`: times, the seed."""

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Accounting:
        """Read the headers of a v1 answer."""
        extra: dict[str, Any] = {"generation_time": amount(headers.get("x-generation-time"))}
        if (seed := headers.get("x-seed-value")) is not None:
            extra["seed"] = seed
        return cls(Credits.from_headers(headers), request_id_of(headers), extra)


@dataclass(frozen=True, slots=True)
class Finished:
    """A queued job's answer."""

    completion: Mapping[str, Any]
    accounting: Accounting
    chunks: None = None
    """Never: what was queued comes whole."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is ready to be sent."""

    model: str
    body: bytes = field(repr=False)
    tools: ToolSet | None = None
    stop: tuple[str, ...] = ()
    answers_wrapped: bool = False
    """Whether decoding is constrained to a call or a wrapped answer (`strict`)."""
    resumes: object = None
    """The request id of a job that has this call's answer; nothing is posted then."""

    def result(self, reply: Response | Finished) -> ChatResult:
        """Read a whole answer: of v1, JSON or a finished event stream, or of a queued job.

        Raises:
            SegmindResponseError: It cannot be used.
        """
        if isinstance(reply, Finished):
            return self.result_of(reply.completion, reply.accounting)
        try:
            if reply.headers.get("content-type", "").lower().startswith("text/event-stream"):
                completion = _assembled(reply.body)
            else:
                completion = completion_from(decode_json(reply.body))
        except UnusableAnswerError as error:
            why = str(error)
        else:
            return self.result_of(completion, Accounting.from_headers(reply.headers))
        raise error_from_answer(reply, why)

    def result_of(self, completion: Mapping[str, Any], accounting: Accounting) -> ChatResult:
        """Turn a completion into generations, one for each choice."""
        usage = usage_from(completion.get("usage"))
        generations = [
            self._generation(choice, completion, accounting, usage if index == 0 else None)
            for index, choice in enumerate(completion["choices"])
        ]
        llm_output: dict[str, Any] = {
            "model_name": _model_name(completion, self.model),
            "credits": accounting.credits.as_dict(),
        }
        if usage is not None:
            llm_output["token_usage"] = dict(usage)
        return ChatResult(generations=generations, llm_output=llm_output)

    def _generation(
        self,
        choice: Mapping[str, Any],
        completion: Mapping[str, Any],
        accounting: Accounting,
        usage: UsageMetadata | None,
    ) -> ChatGeneration:
        message = choice["message"]
        cutter = StopCutter(self.stop)
        text = cutter.feed(text_of(message.get("content"))) + cutter.finish()
        reason = "stop" if cutter.cut else choice.get("finish_reason")
        reason = reason if isinstance(reason, str) else None
        parsed = self._parsed(text, message.get("tool_calls"), cut=cutter.cut or reason == "length")
        return ChatGeneration(
            message=AIMessage(
                content=parsed.content,
                tool_calls=parsed.tool_calls,
                invalid_tool_calls=parsed.invalid_tool_calls,
                usage_metadata=usage,
                response_metadata=self._metadata(completion, reason, accounting),
            ),
            generation_info=_generation_info(reason, accounting, choice),
        )

    def _parsed(self, text: str, native: object, *, cut: bool) -> ParsedReply:
        if isinstance(native, list) and native:
            from langchain_segmind._tool_calling.native_calls import read_native_calls  # noqa: PLC0415 - seldom needed.

            calls, invalid = read_native_calls(native, self.tools, cut=cut)
            return ParsedReply(text, calls, invalid)
        if self.tools is None:
            return ParsedReply(text, [], [])
        from langchain_segmind._tool_calling.parser import parse_tool_calls  # noqa: PLC0415 - only for tools.

        return parse_tool_calls(text, self.tools, truncated=cut, strict=self.answers_wrapped)

    def _metadata(
        self, completion: Mapping[str, Any], reason: object, accounting: Accounting
    ) -> dict[str, Any]:
        metadata = {
            "model_name": _model_name(completion, self.model),
            "model_provider": PROVIDER,
            "finish_reason": reason,
            "request_id": accounting.request_id,
            **accounting.extra,
            "credits": accounting.credits.as_dict(),
        }
        if isinstance(completion.get("id"), str):
            metadata["id"] = completion["id"]
        return metadata

    # --- Streaming ---

    def emulated_stream(self, result: ChatResult) -> ChatGenerationChunk:
        """Give a whole answer as the one chunk of a stream: the gateway sends no events today."""
        generation = result.generations[0]
        message = generation.message
        assert isinstance(message, AIMessage)  # noqa: S101 - `result_of` makes no other.
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

    def reader(self, reply: Response) -> StreamReader:
        """Start to read an event stream."""
        return StreamReader(self, reply)


class StreamReader:
    """Reads a stream of OpenAI-shaped chunks; holds back what may become a call or a stop."""

    def __init__(self, call: Call, reply: Response) -> None:
        """Start before the first event."""
        self._call = call
        self._reply = reply
        self._events = EventDecoder()
        self._seen = Assembly()
        self._cutter = StopCutter(call.stop)
        self._calls: ToolCallStream | None = None
        if call.tools is not None:
            from langchain_segmind._tool_calling.parser import ToolCallStream  # noqa: PLC0415 - only for tools.

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
        raise error_from_answer(self._reply, why)

    def finish(self) -> ChatGenerationChunk:
        """Give what was held back, the calls and the metadata, when the stream has ended.

        Raises:
            SegmindResponseError: It ended before the answer did.
        """
        if not self._seen.is_complete:
            raise error_from_answer(self._reply, "its event stream ended before the answer did")
        rest = self._cutter.finish()
        reason = "stop" if self._cutter.cut else self._seen.finish_reason
        parsed = self._end(rest, cut=self._cutter.cut or reason == "length")
        accounting = Accounting.from_headers(self._reply.headers)
        completion = self._seen.completion()
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content=parsed.content,
                tool_call_chunks=_call_chunks(parsed.tool_calls, parsed.invalid_tool_calls),
                usage_metadata=usage_from(completion.get("usage")),
                response_metadata=self._call._metadata(completion, reason, accounting),  # noqa: SLF001 - of one piece with it.
                chunk_position="last",
            ),
            generation_info=_generation_info(reason, accounting, {}),
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
        from langchain_segmind._tool_calling.native_calls import read_native_calls  # noqa: PLC0415 - seldom needed.

        calls, invalid = read_native_calls(native, self._call.tools, cut=cut)
        return replace(
            parsed,
            tool_calls=[*parsed.tool_calls, *calls],
            invalid_tool_calls=[*parsed.invalid_tool_calls, *invalid],
        )


class Assembly:
    """Puts the first choice of a chunked completion together."""

    def __init__(self) -> None:
        """Start empty."""
        self.finish_reason: str | None = None
        self.is_complete = False
        self.is_done = False
        self._text: list[str] = []
        self._calls: dict[int, _NativeCall] = {}
        self._facts: dict[str, Any] = {}

    def add(self, data: str, event: str = "message") -> str:
        """Take one event's data; give the text it adds.

        Raises:
            UnusableAnswerError: It is no chunk of a completion.
        """
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
        return [call.whole() for call in self._calls.values()]

    def completion(self) -> dict[str, Any]:
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
        text = text_of(content) if isinstance(content, str | list) else ""
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

    def whole(self) -> dict[str, Any]:
        function = {"name": "".join(self.name), "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


def _assembled(body: bytes) -> dict[str, Any]:
    assembly = Assembly()
    decoder = EventDecoder()
    for event in (*decoder.feed(body), *decoder.finish()):
        assembly.add(event.data, event.name)
    if not assembly.is_complete:
        raise UnusableAnswerError("its event stream ended before the answer did")
    return assembly.completion()


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


def usage_from(usage: object) -> UsageMetadata | None:
    """Read OpenAI's `usage`; None where a count is missing or no number."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not _is_count(prompt) or not _is_count(completion):
        return None
    total = usage.get("total_tokens")
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=total if _is_count(total) else prompt + completion,
    )


_MOST_TOKENS = 10**12
"""Python refuses to print integers of more than 4300 digits, and their sums are longer still."""


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS


def _generation_info(
    reason: object, accounting: Accounting, choice: Mapping[str, Any]
) -> dict[str, Any]:
    info: dict[str, Any] = {"finish_reason": reason, "credits": accounting.credits.as_dict()}
    if choice.get("logprobs"):
        info["logprobs"] = choice["logprobs"]
    return info


def _model_name(completion: Mapping[str, Any], slug: str) -> str:
    name = completion.get("model")
    return name if isinstance(name, str) and name else slug


def combined_llm_output(outputs: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Add up the `llm_output` of several prompts; the last balance is the one that counts."""
    known = [output for output in outputs if output]
    if not known:
        return {}
    if len(known) == 1:
        return dict(known[0])
    combined: dict[str, Any] = {"model_name": known[-1].get("model_name")}
    accounts = [output["credits"] for output in known if output.get("credits")]
    costs = [account["cost"] for account in accounts if account["cost"] is not None]
    balances = [account["remaining"] for account in accounts if account["remaining"] is not None]
    combined["credits"] = {
        "remaining": balances[-1] if balances else None,
        "cost": sum(costs) if costs else None,
    }
    if usages := [output["token_usage"] for output in known if output.get("token_usage")]:
        combined["token_usage"] = {
            name: sum(usage.get(name, 0) for usage in usages)
            for name in ("input_tokens", "output_tokens", "total_tokens")
        }
    return combined


def free_of_charge(generation: ChatGeneration) -> ChatGeneration:
    """Say that an answer from LangChain's cache cost nothing; the balance then is not known."""
    message = generation.message
    if not isinstance(message, AIMessage):
        return generation
    free = CACHED.as_dict()
    changes: dict[str, Any] = {"response_metadata": {**message.response_metadata, "credits": free}}
    usage = message.usage_metadata
    if usage is not None and "input_tokens" not in usage:
        changes["usage_metadata"] = None  # langchain-core wrote a cost where there was no usage.
    return ChatGeneration(
        message=message.model_copy(update=changes),
        generation_info={**(generation.generation_info or {}), "credits": free},
    )
