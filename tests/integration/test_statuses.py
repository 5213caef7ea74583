"""Every status of the table, whatever its body, ends in its own error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
)

from langchain_segmind import (
    Credits,
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindContextOverflowError,
    SegmindError,
    SegmindInsufficientCreditsError,
    SegmindInvalidRequestError,
    SegmindMethodNotAllowedError,
    SegmindModelNotFoundError,
    SegmindNotAcceptableError,
    SegmindPermissionDeniedError,
    SegmindRateLimitError,
    SegmindResponseError,
)
from tests.servers import COLOURS, KEY, TRANSPORTS, FaultServer, ask, faults, http, model

STATUSES = {
    400: (SegmindInvalidRequestError, ModelInvalidRequestError),
    401: (SegmindAuthenticationError, ModelAuthenticationError),
    402: (SegmindInvalidRequestError, ModelInvalidRequestError),
    403: (SegmindPermissionDeniedError, ModelPermissionDeniedError),
    404: (SegmindModelNotFoundError, ModelNotFoundError),
    405: (SegmindMethodNotAllowedError, ModelInvalidRequestError),
    406: (SegmindNotAcceptableError, ModelInvalidRequestError),
    410: (SegmindModelNotFoundError, ModelNotFoundError),
    413: (SegmindInvalidRequestError, ModelInvalidRequestError),
    418: (SegmindInvalidRequestError, ModelInvalidRequestError),
    422: (SegmindInvalidRequestError, ModelInvalidRequestError),
    429: (SegmindRateLimitError, ModelRateLimitError),
    500: (SegmindAPIError, ModelAPIError),
    502: (SegmindAPIError, ModelAPIError),
    503: (SegmindAPIError, ModelAPIError),
    504: (SegmindAPIError, ModelAPIError),
    520: (SegmindAPIError, ModelAPIError),
    522: (SegmindAPIError, ModelAPIError),
    524: (SegmindAPIError, ModelAPIError),
    599: (SegmindAPIError, ModelAPIError),
}
BODIES: dict[str, tuple[bytes, str]] = {
    "json": (b'{"error": "the words of the server"}', "the words of the server"),
    "html": (
        b"<html><style>p {color: red}</style><title>Oops &amp; co</title><p>the <b>words</b>\n of",
        "Oops & co the words of",
    ),
    "plain": (b"the words of the server", "the words of the server"),
    "empty": (b"", ""),
    "list": (b'["the words", 7]', '["the words", 7]'),
    "nested": (b'{"error": {"message": "the words", "code": 7}}', "the words"),
    "described": (
        b'{"error": "Unauthorized", "error_description": "the words", "status_code": 401}',
        "Unauthorized: the words",
    ),
    "detail": (b'{"detail": [{"msg": "the words"}]}', "the words"),
    "null": (b"null", "null"),
    "not utf-8": (b"\xff\xfe the words \x80", "the words"),
    "marked": (b'\xef\xbb\xbf{"error": "the words"}', ": the words."),
    "cut json": (b'{"error": "the wor', "the wor"),
    "controls": (b"the\x00 words\x1b[31m", "the? words?[31m"),
    "deep": (b"[" * 20_000, "[[["),
}
OWN = ("json", "nested", "described", "detail", "marked", "cut json")
"""As Segmind writes them; a 5xx in any other form is a proxy's."""


def error_of(server: FaultServer, transport: str, **settings: Any) -> SegmindError:
    with pytest.raises(SegmindError) as caught:
        ask(model(server, max_retries=0, **settings), transport)
    return caught.value


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_its_class_whatever_the_body(status: int, colour: str) -> None:
    for form, (body, words) in BODIES.items():
        with faults(http(body, status)) as server:
            error = error_of(server, colour)
        own = form in OWN or (form == "empty" and status != 502)
        unknown = status in (504, 520, 522, 524) or (status >= 500 and not own)
        ours, core = STATUSES[status]
        assert type(error) is ours
        assert isinstance(error, core)
        assert error.status_code == status
        assert str(status) in str(error)
        assert words in str(error)
        assert (type(error).advice in str(error)) is not unknown
        assert ("may have reached a model and been billed" in str(error)) is unknown
        assert len(str(error)) < 1000
        assert error.outcome_unknown is unknown
        assert error.__cause__ is None
        assert error.__context__ is None
        assert len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [400, 401, 406, 429, 500])
def test_an_error_carries_what_the_headers_said(transport: str, status: int) -> None:
    headers = {"x-request-id": "r-1", "x-remaining-credits": "4.5", "x-cost": "nan"}
    with faults(http({"error": "no"}, status, headers)) as server:
        error = error_of(server, transport)
    assert error.request_id == "r-1"
    assert error.credits == Credits(remaining=4.5, cost=None)
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "words",
    [
        "Not enough credits",
        "Insufficient balance: you have $0.01, this call needs $0.05",
        "Your team's spend limit has been reached",
        "Please check your billing details",
    ],
)
def test_406_about_credits_is_about_credits(words: str, colour: str) -> None:
    with faults(http({"error": words}, 406)) as server:
        error = error_of(server, colour)
    assert type(error) is SegmindInsufficientCreditsError
    assert isinstance(error, ModelPermissionDeniedError)
    assert not error.is_retryable
    assert words in str(error)


@pytest.mark.parametrize("words", ["Invalid content type", "temperature: rejected value"])
def test_406_about_the_request_is_about_the_request(words: str) -> None:
    with faults(http({"error": words}, 406)) as server:
        assert type(error_of(server, "sync")) is SegmindNotAcceptableError


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens",
        "the request exceeds the available context size",
        "The prompt is too long: 9000 tokens",
        "Please reduce the length of the messages or completion",
    ],
)
def test_a_prompt_that_is_too_long_is_told_as_that(words: str, status: int, colour: str) -> None:
    with faults(http({"error": words}, status)) as server:
        error = error_of(server, colour)
    assert type(error) is SegmindContextOverflowError
    assert isinstance(error, ContextOverflowError)
    assert isinstance(error, ModelInvalidRequestError)


def test_the_words_of_a_long_page_are_shortened() -> None:
    with faults(http(b"<html>" + b"<p>word</p>" * 10_000, 502)) as server:
        error = error_of(server, "sync")
    assert "word word" in str(error)
    assert " …. " in str(error)
    assert len(str(error)) < 700


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, transport: str) -> None:
    """The other host would be sent the key."""
    with faults() as other:
        target = {"location": f"{other.url}/v1/llama-v3p1-70b-instruct"}
        with faults(http(b"", status, target)) as server:
            error = error_of(server, transport)
        assert other.requests == []
        assert other.connections == 0
    assert type(error) is SegmindResponseError
    assert error.status_code == status
    assert "Redirects are not followed" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [201, 202, 203, 206])
def test_another_kind_of_success_is_no_answer(status: int, transport: str) -> None:
    with faults(http(None, status)) as server:
        error = error_of(server, transport)
    assert type(error) is SegmindResponseError
    assert error.status_code == status
    assert error.outcome_unknown
    assert len(server.requests) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_is_no_answer(status: int, transport: str) -> None:
    with faults(f"HTTP/1.1 {status} Nothing\r\n\r\n".encode()) as server:
        error = error_of(server, transport)
    assert type(error) is SegmindResponseError
    assert error.status_code == status


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_informational_answer_is_passed_over(transport: str) -> None:
    with faults(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + http()) as server:
        assert ask(model(server), transport).content == "Hello!"


@pytest.mark.parametrize("colour", COLOURS)
def test_every_error_is_one_of_langchain_core(colour: str) -> None:
    for status in (*range(200, 210), *range(300, 310), *range(400, 432), *range(500, 512), 999):
        if status == 200:
            continue
        with faults(http({"error": KEY}, status)) as server:
            error = error_of(server, colour)
        assert isinstance(error, ModelError)
        assert KEY not in str(error)
