"""A 200 that cannot be used is one error of one class, and is never asked for again."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import zlib
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.exceptions import ModelAPIError

from langchain_segmind import ChatSegmindLlama, Credits, SegmindError, SegmindResponseError
from tests.servers import (
    CHUNKED,
    COLOURS,
    KEY,
    TRANSPORTS,
    Received,
    Wire,
    ask,
    chunked,
    completion,
    delta,
    events,
    faults,
    head,
    http,
    model,
    streamed,
)

GOOD = json.dumps(completion()).encode()
GZIP = {"content-encoding": "gzip"}


def cut_short(_received: Received, wire: Wire) -> None:
    """Promise more than comes."""
    wire.send(head(200, {"content-type": "application/json", "content-length": "9999"}) + GOOD)
    wire.close()


def cut_in_chunks(_received: Received, wire: Wire) -> None:
    wire.send(head(200, CHUNKED) + chunked(GOOD[:40], end=False))
    wire.close()


def reset_midway(_received: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-length": "9999"}) + GOOD[:40])
    wire.reset()


def hundred_megabytes(_received: Received, wire: Wire) -> None:
    wire.send(head(200, CHUNKED))
    for _ in range(100):
        wire.send(chunked(b" " * 1_000_000, end=False))


def choice(message: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def bomb() -> bytes:
    """Give a gigabyte of spaces in a megabyte, without ever having it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    megabyte = b" " * 1_000_000
    return b"".join(compressor.compress(megabyte) for _ in range(1000)) + compressor.flush()


BROKEN: dict[str, Any] = {
    "empty": http(b""),
    "whitespace": http(b" \r\n "),
    "HTML": http(
        b"<html><body>Welcome to the hotel's Wi-Fi</body></html>", content_type="text/html"
    ),
    "plain text": http(b"OK", content_type="text/plain"),
    "truncated JSON": http(GOOD[:-10]),
    "fewer bytes than promised": cut_short,
    "a chunked body without its end": cut_in_chunks,
    "a reset in the middle": reset_midway,
    "a bad chunk": head(200, CHUNKED) + b"zz\r\nnonsense\r\n0\r\n\r\n",
    "truncated gzip": http(gzip.compress(GOOD)[:-12], headers=GZIP),
    "not gzip": http(GOOD, headers=GZIP),
    "an encoding never asked for": http(GOOD, headers={"content-encoding": "br"}),
    "a gzip bomb": http(bomb(), headers=GZIP),
    "100 MB": hundred_megabytes,
    "no choices": http({"id": "x", "usage": {}}),
    "null choices": http({"choices": None}),
    "empty choices": http({"choices": []}),
    "choices of a wrong type": http({"choices": "hello"}),
    "choices in an object": http({"choices": {"0": {}}}),
    "a choice of a wrong type": http({"choices": ["hello"]}),
    "no message": http({"choices": [{"text": "hello"}]}),
    "null message": http(choice(None)),
    "a message of a wrong type": http(choice("hello")),
    "content of a wrong type": http(choice({"content": 5})),
    "content that is an object": http(choice({"content": {"text": "hello"}})),
    "content that is not a number": http(b'{"choices": [{"message": {"content": NaN}}]}'),
    "an error object": http({"error": {"message": "Model is loading", "code": 5}}),
    "an error text": http({"error": "Internal Polling Error"}),
    "an error and no choices": http({"error": "overloaded", "choices": []}),
    "a list": http([completion()]),
    "a string": http("hello"),
    "a number": http(b"17"),
    "null": http(b"null"),
    "true": http(b"true"),
    "a number too long": http(b"9" * 100_000),
    "nested 20,000 deep": http(b"[" * 20_000 + b"]" * 20_000),
    "objects nested 20,000 deep": http(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "choices nested 20,000 deep": http(b'{"choices":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    "an error nested 900 deep": http(b'{"error":{"a":' + b"[" * 900 + b"]" * 900 + b"}}"),
    "invalid UTF-8": http(GOOD.replace(b"Hello", b"\xff\xfe\xfd")),
    "events without an end": http(
        events(delta("Hel"), done=False), content_type="text/event-stream"
    ),
    "events with an error": http(
        events(delta("Hel"), {"error": {"message": "overloaded"}}), content_type="text/event-stream"
    ),
    "events of something else": http(events("hello"), content_type="text/event-stream"),
    "no events": http(b"", content_type="text/event-stream"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_200_is_a_response_error_and_is_asked_for_once(name: str, transport: str) -> None:
    if "deep" in name:  # Else what other tests left may be finalized where no call fits any more.
        gc.collect()
    with faults(BROKEN[name]) as server:
        with pytest.raises(SegmindResponseError) as caught:
            ask(model(server, max_retries=3), transport)
        assert len(server.requests) == 1
    error = caught.value
    assert isinstance(error, ModelAPIError)
    assert error.status_code in (200, None), "a status is lost only with a head that cannot be read"
    assert error.outcome_unknown
    assert not error.is_retryable
    assert "may have been billed" in str(error)
    assert len(str(error)) < 1000
    assert error.__context__ is None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_error_has_the_accounting_of_the_answer(transport: str) -> None:
    headers = {"x-request-id": "r-1", "x-cost": "0.5", "x-remaining-credits": "2"}
    for answer in (http(b"", headers=headers), http(GOOD, headers={**headers, **GZIP})):
        with faults(answer) as server, pytest.raises(SegmindResponseError) as caught:
            ask(model(server), transport)
        assert caught.value.request_id == "r-1"
        assert caught.value.credits == Credits(remaining=2, cost=0.5)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_200_is_the_same_in_a_stream(name: str, colour: str) -> None:
    with faults(BROKEN[name]) as server:
        with pytest.raises(SegmindResponseError) as caught:
            streamed(model(server, max_retries=3, streaming=True), colour)
        assert len(server.requests) == 1
    assert caught.value.outcome_unknown


USABLE: dict[str, tuple[Any, str]] = {
    "null content": (http(completion(None)), ""),
    "a list of parts": (
        http(completion([{"type": "text", "text": "Hel"}, {"text": "lo"}])),
        "Hello",
    ),
    "parts of odd kinds": (http(completion([None, 7, {"text": 7}, "Hello"])), "Hello"),
    "half a surrogate pair": (http(completion("a\ud800b")), "a\ufffdb"),
    "a byte order mark": (http(b"\xef\xbb\xbf" + GOOD), "Hello!"),
    "gzip": (http(gzip.compress(GOOD), headers=GZIP), "Hello!"),
    "a huge integer": (http(completion("Hello!", created=10**400)), "Hello!"),
    "odd usage": (http(completion("Hello!", usage={"prompt_tokens": "1"})), "Hello!"),
    "usage of a wrong type": (http(completion("Hello!", usage=[1])), "Hello!"),
    "a model of a wrong type": (http(completion("Hello!", model=7, id=[1])), "Hello!"),
    "not a number elsewhere": (http(b'{"a": NaN, ' + GOOD[1:]), "Hello!"),
    "an error beside choices": (http(completion("Hello!", error=None)), "Hello!"),
    "another content type": (http(GOOD, content_type="text/plain"), "Hello!"),
    "chunks": (head(200, CHUNKED) + chunked(GOOD[:9], GOOD[9:]), "Hello!"),
    "a body until the connection ends": (None, "Hello!"),
}


def until_the_end(_received: Received, wire: Wire) -> None:
    wire.send(head(200, {"content-type": "application/json"}) + GOOD)
    wire.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", USABLE)
def test_an_odd_200_that_can_be_used_is_used(name: str, transport: str) -> None:
    answer, text = USABLE[name]
    with faults(answer or until_the_end) as server:
        message = ask(model(server), transport)
    assert message.content == text
    message.model_dump_json()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-cost", "nan"),
        ("x-cost", "much"),
        ("x-remaining-credits", "-inf"),
        ("x-remaining-credits", ""),
        ("x-generation-time", "fast"),
        ("x-request-id", "\xff\xfe"),
        ("x-seed-value", "\xe9"),
    ],
)
def test_a_malformed_header_costs_no_answer(name: str, value: str, transport: str) -> None:
    with faults(http(headers={name: value})) as server:
        message = ask(model(server), transport)
    assert message.response_metadata["credits"] == {"remaining": None, "cost": None}
    assert message.response_metadata["generation_time"] is None
    json.dumps(message.response_metadata, allow_nan=False).encode()
    str(message).encode()


# --- Anything at all ------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "message", "content", "error", "usage", "tool_calls", "function"),
                    *("finish_reason", "text", "arguments", "name", "id", "type", "index", "delta"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
messages = st.fixed_dictionaries(
    {"content": st.none() | st.text(max_size=5) | st.lists(json_values, max_size=2)},
    optional={"tool_calls": json_values, "role": json_values, "refusal": json_values},
)
answers = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {
            "choices": st.lists(
                st.fixed_dictionaries(
                    {"message": messages},
                    optional={"finish_reason": json_values, "logprobs": json_values},
                ),
                min_size=1,
                max_size=2,
            )
        },
        optional={"usage": json_values, "model": json_values, "id": json_values},
    ).map(lambda value: json.dumps(value).encode()),
    st.lists(json_values, max_size=3).map(lambda data: events(*data)),
)
header_values = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")
)
some_headers = st.dictionaries(
    st.sampled_from(
        [
            *("x-cost", "x-remaining-credits", "x-request-id", "x-generation-time", "x-seed-value"),
            *("retry-after", "x-rate-limit-reset-at-utc", "content-type", "content-encoding"),
        ]
    ),
    header_values | st.sampled_from([KEY, "gzip", "text/event-stream", "application/json", "1"]),
)


@pytest.mark.parametrize("colour", COLOURS)
@settings(suppress_health_check=list(HealthCheck))
@given(status=st.sampled_from([200, 200, 200, 200, 302, 400, 406, 429, 503]), data=st.data())
def test_whatever_is_answered_ends_in_a_message_or_in_our_error(
    colour: str, status: int, data: st.DataObject
) -> None:
    body, headers = data.draw(answers), data.draw(some_headers)

    def answer(_request: httpx.Request) -> httpx.Response:
        # A stream, so that httpx decodes nothing for us.
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return httpx.Response(status, headers=raw, stream=httpx.ByteStream(body))

    streaming = data.draw(st.booleans())
    transport = httpx.MockTransport(answer)
    with httpx.Client(transport=transport) as client:
        llm = ChatSegmindLlama(
            api_key=KEY,
            max_retries=0,
            http_client=client,
            http_async_client=httpx.AsyncClient(transport=transport),
        )
        try:
            if streaming:
                said = str(streamed(llm, colour))
            elif colour == "sync":
                said = repr(llm.invoke("hi"))
            else:
                said = repr(asyncio.run(llm.ainvoke("hi")))
        except SegmindError as error:
            said = repr(error)
    assert KEY not in said
