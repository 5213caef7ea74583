from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind import (
    Credits,
    SegmindConnectionError,
    SegmindResponseError,
    SegmindTimeoutError,
)
from langchain_segmind._protocol.responses import (
    EXCERPT,
    Sending,
    UnusableAnswerError,
    completion_from,
    decode_json,
    error_from_answer,
    error_from_failure,
    error_from_response,
    text_of,
    words_of,
)
from langchain_segmind._protocol.types import Response, TransportFailure

HEAD = Response(200, {"x-request-id": "r-1", "x-cost": "0.5"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "no"}', "no"),
        (b'{"error": {"message": "no", "type": "x"}}', "no"),
        (b'{"error": {"code": 7}}', '{"code": 7}'),
        (b'{"error": "no", "error_description": "why", "status_code": 401}', "no: why"),
        (b'{"error": "no", "message": "no"}', "no"),
        (b'{"error": 7}', '{"error": 7}'),
        (b'{"message": "no"}', "no"),
        (b"{}", "{}"),
        (b"[1]", "[1]"),
        (b'"no"', '"no"'),
        (b"<h1>Bad</h1><script>var x;</script><p>gate&shy;way", "Bad gate?way"),
        (b"<title>502 Bad Gateway</title><h1>502 Bad Gateway</h1>nginx", "502 Bad Gateway nginx"),
        (
            b"<title>segmind.com | 524: A timeout occurred</title><h1>A timeout occurred</h1>524",
            "A timeout occurred 524",
        ),
        (b"<TITLE>405 Not Allowed</TITLE>\n<h1>Not Allowed</h1><p>No.", "Not Allowed No"),
        (b"<title>Squid</title><h1>No route</h1>", "Squid No route"),
        (b"<not html", "<not html"),
        (b"  two\n\n words ", "two words"),
        (b"", ""),
        (b"\xff", "\ufffd"),
        ("\u202egnirts".encode(), "?gnirts"),
    ],
)
def test_the_servers_own_words_are_found(body: bytes, words: str) -> None:
    assert words_of(body) == words


@given(st.binary(max_size=500) | st.text().map(str.encode))
def test_words_are_short_and_on_one_line(body: bytes) -> None:
    words = words_of(body)
    assert len(words) <= EXCERPT + 2
    assert words.isprintable()


@pytest.mark.parametrize(
    "reference", ["&#" + "9" * 5000 + ";", "&#x" + "f" * 5000, "&#0000000083;"]
)
def test_a_reference_to_no_character_stands_for_nothing(reference: str) -> None:
    assert words_of(f"<p>a{reference} b".encode()) in ("a?; b", "a? b")


@pytest.mark.parametrize("depth", [300, 900, 990, 20_000])
def test_words_are_found_however_deep_they_lie(depth: int) -> None:
    assert words_of(b'{"error": ' + b"[" * depth + b"]" * depth + b"}")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<p>", "no JSON"),
        (b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
        (b"9" * 5000, "no JSON"),
        (b'"\xff"', "no JSON"),
    ],
)
def test_a_body_that_is_no_json_says_why(body: bytes, why: str) -> None:
    with pytest.raises(UnusableAnswerError, match=why):
        decode_json(body)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], "no JSON object"),
        ({}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": {}}, "no choices"),
        ({"choices": [], "error": "busy"}, "reports an error: busy"),
        ({"choices": [None]}, "no message"),
        ({"choices": [{"message": None}]}, "no message"),
        ({"choices": [{"message": {"content": 5}}]}, "neither text nor a list"),
        ({"choices": [{"message": {}}] * 129}, "it has 129 choices"),
        ({"choices": [{"message": {"tool_calls": [{}] * 1001}}]}, "a message has 1001 tool calls"),
    ],
)
def test_what_is_no_completion_says_why(data: Any, why: str) -> None:
    with pytest.raises(UnusableAnswerError, match=why):
        completion_from(data)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a", "a"),
        ([], ""),
        (["a", {"type": "text", "text": "b"}, {"image": 1}, None, 5], "ab"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83e\udd99", "🦙"),
    ],
)
def test_content_becomes_text(content: Any, text: str) -> None:
    assert text_of(content) == text


def test_an_answered_error_has_all_the_answer_said() -> None:
    reply = Response(
        429, {"x-request-id": "r-1", "x-cost": "0", "retry-after": "7"}, b'{"error":"no"}'
    )
    error = error_from_response(reply, now=0.0)
    assert str(error).startswith("Segmind answered 429: no. The limit resets in 7 s. ")
    assert error.request_id == "r-1"
    assert error.credits == Credits(None, 0.0)
    assert error.retry_after == 7


def test_a_proxys_page_says_its_status_once_and_who_speaks() -> None:
    page = b"<title>502 Bad Gateway</title><center><h1>502 Bad Gateway</h1></center>nginx"
    message = str(error_from_response(Response(502, {}, page), now=0.0))
    assert message.startswith("A proxy, not Segmind, answered 502: Bad Gateway nginx. The request ")
    assert "may have reached a model and been billed" in message
    assert message.endswith("queue=True is made for slow generations.")


def test_who_queues_is_not_advised_to_queue() -> None:
    slow = TransportFailure("timeout", "no answer in time")
    for error in (
        error_from_failure(slow, Sending(to_queue=True)),
        error_from_response(Response(504, {}), 0.0, Sending(to_queue=True)),
    ):
        assert "queue=True" not in str(error)
        assert str(error).endswith("it runs under an id that is not known here.")


def test_a_failure_before_sending_says_that_nothing_was_sent() -> None:
    error = error_from_failure(TransportFailure("unsent", "refused", sent=False))
    assert type(error) is SegmindConnectionError
    assert "cannot be reached: refused. Nothing was sent." in str(error)
    assert not error.outcome_unknown


def test_a_sentence_of_the_server_ends_once() -> None:
    error = error_from_response(Response(406, {}, b'{"error": "Not enough credits."}'), now=0.0)
    assert str(error).startswith("Segmind answered 406: Not enough credits. Top up at ")


def test_no_connection_in_time_is_not_answered_with_more_patience() -> None:
    error = error_from_failure(TransportFailure("timeout", "no connection in time", sent=False))
    assert type(error) is SegmindTimeoutError
    assert "cannot be reached: no connection in time. Nothing was sent. Check the" in str(error)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (TransportFailure("lost", "reset"), SegmindConnectionError),
        (TransportFailure("timeout", "no answer in time"), SegmindTimeoutError),
        (TransportFailure("timeout", "no answer in time", head=HEAD), SegmindTimeoutError),
        (TransportFailure("lost", "reset", head=HEAD), SegmindResponseError),
        (TransportFailure("unreadable", "too large", head=HEAD), SegmindResponseError),
    ],
)
def test_a_failure_after_sending_says_that_it_may_be_billed(
    failure: TransportFailure, kind: type
) -> None:
    error = error_from_failure(failure)
    assert type(error) is kind
    assert "may have been billed" in str(error)
    assert error.outcome_unknown
    assert error.request_id == ("r-1" if failure.head else None)


def test_an_unusable_answer_has_its_accounting() -> None:
    error = error_from_answer(HEAD, "its body is empty")
    assert str(error).startswith("Segmind answered 200, but its body is empty. ")
    assert error.credits == Credits(None, 0.5)
    assert error.outcome_unknown


def test_more_calls_than_open_files_are_told_what_to_raise() -> None:
    full = TransportFailure("unsent", f"[Errno 24] {os.strerror(errno.EMFILE)}", sent=False)
    error = error_from_failure(full)
    assert isinstance(error, SegmindConnectionError)
    assert "Nothing was sent. Each call in flight is a connection" in str(error)
    assert "ulimit -n" in str(error)
