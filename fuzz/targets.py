"""What is fuzzed: functions that take any bytes, and raise where a promise is broken.

They need no fuzzer: the tests replay the corpus through them, and hypothesis feeds them too.
Inputs are texts that people can read and write: `200`, headers, a blank line and a body, as HTTP
has it. Only a `SegmindError` may come out of what is tried, and never the key.
"""

from __future__ import annotations

import json
import pickle
import re
from contextlib import suppress
from http import HTTPStatus
from math import isfinite
from typing import TYPE_CHECKING, Any

from langchain_core.messages import messages_from_dict

from langchain_segmind import SegmindError
from langchain_segmind._journals.entries import JournalEntry
from langchain_segmind._messages.incoming import Call
from langchain_segmind._messages.outgoing import to_wire
from langchain_segmind._messages.parameters import encode_body
from langchain_segmind._messages.streaming import stream_generations
from langchain_segmind._protocol import journaled
from langchain_segmind._protocol.account import Account
from langchain_segmind._protocol.answers import (
    Accounting,
    Finished,
    read_output,
    read_response,
)
from langchain_segmind._protocol.calls import Clock, Exchanges
from langchain_segmind._protocol.responses import UnusableAnswerError, error_from_response
from langchain_segmind._protocol.retry import retry_after
from langchain_segmind._protocol.types import AcquireSlot, Emit, ReadChunk, Request, Response, Sleep
from langchain_segmind._tool_calling.parser import ToolCallStream, parse_tool_calls
from langchain_segmind._tool_calling.toolset import ToolSet
from langchain_segmind._transport.content_encoding import BodyDecoder, UnreadableBodyError
from langchain_segmind._transport.redaction import KeyRedactor
from langchain_segmind.credits import CACHED

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.outputs import ChatResult

    from langchain_segmind._protocol.types import Flow, Outcome
    from langchain_segmind._tool_calling.toolset import ParsedReply

KEY = "SG_c0ffee5ec2e7ca4a"
NOW = 1_700_000_000.0
_REDACTOR = KeyRedactor(KEY)
_TOOLS = ToolSet.compile(
    [
        {"type": "function", "function": {"name": "get"}},
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string"},
                        "days": {"type": "integer"},
                        "units": {"enum": ["C", "F"]},
                        "where": {"anyOf": [{"type": "null"}, {"type": "array"}]},
                    },
                    "required": ["city"],
                },
            },
        },
    ]
)


_LONGEST_MESSAGE = 2000
_MOST_BYTES = 1000
_RETRIES = 2
_MOST_REQUESTS = 200
"""In the 60 seconds that a job is waited for; most questions wait for one."""


# --- What is promised --------------------------------------------------------------------------


def _check_error(error: SegmindError) -> None:
    """Check that an error is short, crosses processes, and does not tell the key."""
    error = _REDACTOR.error(error)  # As the drivers do.
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert len(str(error)) < _LONGEST_MESSAGE
    assert KEY not in str(error) + repr(error) + repr(vars(error))
    assert error.__context__ is None or isinstance(error.__context__, SegmindError)


def _check_result(result: ChatResult) -> None:
    """Check that an answer can be shown, stored and sent back; its text alone may have the key."""
    assert KEY not in repr(result.llm_output)
    for generation in result.generations:
        message: Any = generation.message
        message.model_dump_json()
        assert KEY not in repr([generation.generation_info, _metadata(message)])
        pickle.dumps(message)
        json.dumps(message.response_metadata, allow_nan=False).encode()
        with suppress(SegmindError):
            encode_body({"messages": to_wire([message], model="m", images=False)})


def _metadata(message: Any) -> list[object]:
    return [message.id, message.response_metadata, message.usage_metadata]


def _check_amounts(accounting: Accounting) -> None:
    seen = [accounting.credits.cost, accounting.credits.remaining]
    seen.append(accounting.extra["generation_time"])
    assert all(number is None or isfinite(number) for number in seen)


def _attempt(work: Callable[[], object]) -> None:
    try:
        work()
    except SegmindError as error:
        _check_error(error)


# --- Reading an input --------------------------------------------------------------------------


def _reply(data: bytes) -> Response:
    """Read `status`, header lines, a blank line and a body; what is missing has a default."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    status = int(first) if re.fullmatch("[0-9]{3}", first) else HTTPStatus.OK
    pairs = (line.partition(":") for line in lines)
    return Response(status, {name.lower(): value.strip() for name, _, value in pairs}, body)


def _tools_for(data: bytes) -> ToolSet | None:
    return _TOOLS if len(data) % 2 else None


def _pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut a body into pieces of the size that the first byte names."""
    size, rest = (data[0] % 32 + 1 if data else 1), data[1:]
    return [rest[at : at + size] for at in range(0, len(rest), size)], rest


# --- Targets -----------------------------------------------------------------------------------


def headers(data: bytes) -> None:
    """Any head of an answer gives amounts, a wait and an error."""
    reply = _reply(data)
    accounting = Accounting.from_response(reply)
    _check_amounts(accounting)
    wait = retry_after(reply.headers, NOW)
    assert wait is None or (isfinite(wait) and wait >= 0)
    _check_error(error_from_response(reply, NOW))


def body(data: bytes) -> None:
    """A body is decompressed to the same in any pieces, within its limit, or refused."""
    pieces, whole = _pieces(data)
    outcomes = []
    for parts in (pieces, [whole]):
        out, said = b"", ""
        try:
            decoder = BodyDecoder("gzip" if len(whole) % 2 else "deflate", _MOST_BYTES)
            for part in parts:
                out += decoder.feed(part)
            decoder.finish()
        except UnreadableBodyError as error:
            said = str(error)
        assert len(out) <= _MOST_BYTES
        outcomes.append((said, "" if said else out))
    assert bool(outcomes[0][0]) == bool(outcomes[1][0])
    assert outcomes[0][1] == outcomes[1][1]


def answers(data: bytes) -> None:
    """An answer of v1, of any status and body, is a message or an error."""
    reply = _reply(data)
    call = Call("llama", b"{}", tools=_tools_for(data), stop=("STOP",), redact=_REDACTOR.text)

    def read() -> None:
        result = call.result(reply)
        _check_result(result)
        _check_names(result, call.tools)

    if reply.status == HTTPStatus.OK:
        _attempt(read)
    else:
        _check_error(error_from_response(reply, NOW))


def _check_names(result: ChatResult, tools: ToolSet | None) -> None:
    for generation in result.generations:
        message: Any = generation.message
        assert tools is None or all(call["name"] for call in message.tool_calls)


def events(data: bytes) -> None:
    """A stream of events, cut anywhere, gives the same text and calls, or an error."""
    pieces, whole = _pieces(data)
    call = Call("llama", b"{}", tools=_tools_for(whole), stop=("STOP",), redact=_REDACTOR.text)
    seen = [_streamed(call, parts) for parts in (pieces, [whole])]
    assert seen[0] == seen[1]
    _attempt(lambda: _check_result(call.result(_STREAM._replace(is_stream=False, body=whole))))


_STREAM = Response(200, {"content-type": "text/event-stream"}, is_stream=True)


def _exchange(response: Response) -> Flow[Response]:
    return response
    yield


def _streamed(call: Call, parts: list[bytes]) -> tuple[object, ...]:
    flow = stream_generations(call, _exchange(_STREAM))
    outcome: Outcome = None
    text, left = "", iter(parts)
    try:
        with suppress(StopIteration):
            while True:
                command = flow.send(outcome)
                outcome = next(left, None) if isinstance(command, ReadChunk) else None
                if isinstance(command, Emit):
                    last = command.value
                    text += last.text
    except SegmindError as error:
        _check_error(error)
        return ("error",)
    shown = last.message.model_copy(update={"id": None})
    assert KEY not in repr(_metadata(shown))
    calls = [(piece["name"], piece["args"]) for piece in shown.tool_call_chunks]
    return text, calls


def queue(data: bytes) -> None:
    """A server that answers polls as it likes keeps us neither busy nor for ever."""
    replies = [_reply(part) for part in data.split(b"\n---\n")]
    clock = _Clock()
    asking = Exchanges(
        Account(), clock.clock, max_retries=_RETRIES, through_queue=True, queue_timeout=60.0
    )

    def read() -> None:
        finished = clock.run(asking.complete("llama", b"{}"), replies)
        assert all(isfinite(number) for number in finished.accounting.extra.values())
        _check_result(Call("llama", b"{}", tools=_tools_for(data)).result(finished))

    _attempt(read)
    assert sum(request.method == "POST" for request in clock.requests) <= 1 + _RETRIES
    assert len(clock.requests) <= _MOST_REQUESTS
    assert all(_is_ours(request.path) for request in clock.requests)


def _is_ours(path: str) -> bool:
    return path.startswith("/v2/") and ".." not in path.split("/") and path.isprintable()


def exchanges(data: bytes) -> None:
    """A call of v1 and a question after the balance end, whatever is answered each time."""
    replies = [_reply(part) for part in data.split(b"\n---\n")]
    clock, account = _Clock(), Account()
    asking = Exchanges(account, clock.clock, max_retries=3)
    _attempt(lambda: clock.run(asking.complete("llama", b"{}"), replies))
    _attempt(lambda: clock.run(asking.fetch_balance(), replies))
    assert len(clock.requests) <= _MOST_ATTEMPTS
    assert clock.now <= 2 * 120.0
    assert account.ledger.balance is None or isfinite(account.ledger.balance)


_MOST_ATTEMPTS = 8
"""Of two flows, each with three retries."""


class _Clock:
    """Drives flows; time passes only where they wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.requests: list[Request] = []
        self.clock = Clock(lambda: self.now, lambda: NOW + self.now, lambda: 0.5)

    def run(self, flow: Flow[Any], replies: list[Response]) -> Any:
        outcome: Outcome = None
        try:
            while True:
                match flow.send(outcome):
                    case Request() as request:
                        outcome = replies[min(len(self.requests), len(replies) - 1)]
                        self.requests.append(request)
                        self.now += 0.01
                    case Sleep(seconds):
                        assert seconds >= 0
                        outcome = None
                        self.now += seconds
                    case AcquireSlot():
                        outcome = None
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()


def tools(data: bytes) -> None:
    """Of any reply only bound tools are called, nothing is made up, and pieces make the whole."""
    flags, text = (data[0] if data else 0), data[1:].decode("utf-8", "replace")
    truncated, strict, size = bool(flags & 1), bool(flags & 2), flags // 4 + 1
    whole = parse_tool_calls(text, _TOOLS, truncated=truncated, strict=strict, new_id=_no_id)
    _check_parsed(whole, text, strict=strict)
    stream = ToolCallStream(_TOOLS, strict=strict, new_id=_no_id)
    shown = "".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size))
    rest = stream.finish(truncated=truncated)
    assert shown + rest.content == whole.content
    assert (rest.tool_calls, rest.invalid_tool_calls) == (
        whole.tool_calls,
        whole.invalid_tool_calls,
    )


def _no_id() -> str:
    return "call"


def _check_parsed(parsed: ParsedReply, text: str, *, strict: bool) -> None:
    calls = [*parsed.tool_calls, *parsed.invalid_tool_calls]
    assert not parsed.content.strip() or all(call["name"] in _TOOLS for call in calls)
    json.dumps([call["args"] for call in calls]).encode()
    if calls or not strict:
        rest = iter(text)
        assert all(character in rest for character in parsed.content)
    assert calls or strict or parsed.content == text


def journal(data: bytes) -> None:
    """What a journal keeps of an answer is read as it was; whatever else it holds is an error."""
    reply = _reply(data)
    call = Call("llama", b"{}", tools=_tools_for(data), redact=_REDACTOR.text)
    _attempt(lambda: _check_result(call.result(_replay(reply.body, None))))
    finished = []
    with suppress(SegmindError):
        finished.append(read_response(reply))
    with suppress(UnusableAnswerError):
        completion, raw = read_output(reply.body.decode("utf-8", "replace"))
        finished.append(Finished(completion, Accounting.from_response(reply), raw))
    for answer in finished:
        kept = journaled._to_keep(answer.raw, answer.accounting)
        again = _replay(answer.raw, json.loads(json.dumps(kept["accounting"])))
        assert again.completion == answer.completion
        assert again.accounting.request_id == answer.accounting.request_id
        assert again.accounting.extra == {**answer.accounting.extra, "replayed": True}


def _replay(answer: bytes, accounting: Any) -> Finished:
    entry = JournalEntry("k", "f", "answered", "c", "h", answer=answer, accounting=accounting)
    finished = journaled._read(entry)
    assert finished.accounting.credits == CACHED
    return finished


def messages(data: bytes) -> None:
    """Any conversation becomes text of three roles that can be sent, or is refused."""
    try:
        history = messages_from_dict(json.loads(data))
    except Exception:  # noqa: BLE001 - no conversation: langchain-core refuses it in many ways.
        return

    def send() -> None:
        for images in (False, True):
            wire = to_wire(history, model="llama", images=images)
            assert {message["role"] for message in wire} <= {"user", "assistant", "system"}
            assert json.loads(encode_body({"messages": wire})) == {"messages": wire}

    with suppress(SegmindError):
        send()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (headers, body, answers, events, queue, exchanges, journal, tools, messages)
}
