"""Server-sent events are understood wherever they come, though the gateway sends none today."""

from __future__ import annotations

import gzip
from contextlib import suppress
from typing import Any

import pytest

from langchain_segmind import (
    SegmindConnectionError,
    SegmindError,
    SegmindResponseError,
    get_credits_callback,
)
from tests.servers import (
    COLOURS,
    TRANSPORTS,
    Received,
    Wire,
    ask,
    chunked,
    delta,
    events,
    faults,
    head,
    http,
    model,
    streamed,
)

SSE = {"content-type": "text/event-stream; charset=utf-8"}
CHUNKED = {**SSE, "transfer-encoding": "chunked"}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
PARTS = [delta("Hel"), delta("lö 🦙"), delta("", "stop"), USAGE]
BODY = events(*PARTS)
TEXT = "Hellö 🦙"

FORMS: dict[str, bytes] = {
    "as it should be": BODY,
    "CRLF": events(*PARTS, newline="\r\n"),
    "CR": events(*PARTS, newline="\r"),
    "comments": b": hello\n\n" + BODY.replace(b"data", b": ping\n\ndata"),
    "no [DONE]": events(*PARTS, done=False),
    "no [DONE] and no last blank line": events(*PARTS, done=False).rstrip(),
    "ids, names and retry": b"retry: 5\nid: 1\nevent: message\n" + BODY,
    "no space after the colon": BODY.replace(b"data: ", b"data:"),
    "empty events": b"data:\n\n" + BODY,
    "a byte order mark": b"\xef\xbb\xbf: hello\n\n" + BODY,
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_a_stream_is_read_in_every_form(name: str, streaming: bool, colour: str) -> None:
    with faults(http(FORMS[name], headers={}, content_type=SSE["content-type"])) as server:
        chunks = streamed(model(server, streaming=streaming), colour)
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == TEXT
    assert whole.usage_metadata["total_tokens"] == 5
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.response_metadata["model_provider"] == "segmind"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", FORMS)
def test_a_stream_answers_a_plain_call_too(name: str, transport: str) -> None:
    with faults(http(FORMS[name], content_type=SSE["content-type"])) as server:
        message = ask(model(server), transport)
    assert message.content == TEXT
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 5


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_stream_is_read_however_it_is_cut(size: int, compressed: bool, colour: str) -> None:
    body = gzip.compress(BODY) if compressed else BODY
    headers = {**CHUNKED, "content-encoding": "gzip"} if compressed else CHUNKED
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    with faults(head(200, headers) + chunked(*pieces)) as server:
        chunks = streamed(model(server, streaming=True), colour)
    assert "".join(chunk.content for chunk in chunks) == TEXT


@pytest.mark.parametrize("colour", COLOURS)
def test_text_is_given_as_it_comes(colour: str) -> None:
    def answer(_received: Received, wire: Wire) -> None:
        wire.send(head(200, CHUNKED) + chunked(events(delta("Hel"), done=False), end=False))
        wire.send(chunked(events(delta("lo")), end=False))
        wire.send(chunked())

    with faults(answer) as server:
        chunks = streamed(model(server, streaming=True), colour)
    assert [chunk.content for chunk in chunks if chunk.content] == ["Hel", "lo"]


@pytest.mark.parametrize("colour", COLOURS)
def test_nothing_is_waited_for_after_done(colour: str) -> None:
    """Some servers keep the connection open for a while."""

    def answer(_received: Received, wire: Wire) -> None:
        wire.send(head(200, CHUNKED) + chunked(BODY, end=False))
        wire.hang()

    with faults(answer) as server:
        chunks = streamed(model(server, streaming=True, timeout=20), colour)
    assert "".join(chunk.content for chunk in chunks) == TEXT


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_that_breaks_after_its_end_is_an_answer(colour: str) -> None:
    def answer(_received: Received, wire: Wire) -> None:
        wire.send(head(200, CHUNKED) + chunked(events(*PARTS, done=False), end=False))
        wire.close()

    with faults(answer) as server:
        chunks = streamed(model(server, streaming=True), colour)
    assert "".join(chunk.content for chunk in chunks) == TEXT


def broken_off(_received: Received, wire: Wire) -> None:
    wire.send(head(200, CHUNKED) + chunked(events(delta("Hel"), done=False), end=False))
    wire.close()


def reset(_received: Received, wire: Wire) -> None:
    wire.send(head(200, CHUNKED) + chunked(events(delta("Hel"), done=False), end=False))
    wire.reset()


BROKEN: dict[str, Any] = {
    "broken off": broken_off,
    "reset": reset,
    "ended early": http(events(delta("Hel"), done=False), content_type=SSE["content-type"]),
    "an error event": http(
        b'event: error\ndata: {"message": "overloaded"}\n\n', content_type=SSE["content-type"]
    ),
    "an error object": http(
        events(delta("Hel"), {"error": {"message": "overloaded"}}, done=False),
        content_type=SSE["content-type"],
    ),
    "no JSON": http(events("{nonsense", done=False), content_type=SSE["content-type"]),
    "no object": http(events("[1]", done=False), content_type=SSE["content-type"]),
    "deep": http(events("[" * 20_000, done=False), content_type=SSE["content-type"]),
    "too large": http(b"data: " + b"x" * 17_000_000, content_type=SSE["content-type"]),
    "cut gzip": http(
        gzip.compress(BODY)[:40],
        headers={"content-encoding": "gzip"},
        content_type=SSE["content-type"],
    ),
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_is_an_error_and_is_asked_for_once(name: str, colour: str) -> None:
    with faults(BROKEN[name]) as server:
        with pytest.raises(SegmindError) as caught:
            streamed(model(server, streaming=True, max_retries=3), colour)
        assert len(server.requests) == 1
    assert isinstance(caught.value, (SegmindResponseError, SegmindConnectionError))
    assert caught.value.outcome_unknown
    if "error" in name:
        assert "overloaded" in str(caught.value)


@pytest.mark.parametrize("colour", COLOURS)
def test_stop_is_enforced_across_events(colour: str) -> None:
    body = events(delta("one E"), delta("N"), delta("D two"), delta("", "stop"))
    with faults(http(body, content_type=SSE["content-type"])) as server:
        chunks = streamed(model(server, streaming=True, stop=["END"]), colour)
    assert "".join(chunk.content for chunk in chunks) == "one "
    assert server.requests[0].json["stop"] == ["END"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("body", "unknown"), [(BODY, 2), (BODY[:30], 2), (events("{"), 2)])
def test_what_was_lost_before_a_stream_is_counted(body: bytes, unknown: int, colour: str) -> None:
    """With a stream that breaks, that is lost, too; this one does not say what it cost."""

    def reset(_: Received, wire: Wire) -> None:
        wire.reset()

    with faults(reset, http(body, content_type=SSE["content-type"])) as server:
        llm = model(server, streaming=True, retry_unknown_outcome=True)
        with get_credits_callback() as spent, suppress(SegmindError):
            streamed(llm, colour)
    assert spent.unknown == unknown
