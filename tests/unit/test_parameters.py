from __future__ import annotations

import warnings

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind import ChatSegmindLlama, SegmindInvalidInputError
from langchain_segmind._messages.parameters import (
    CallParameters,
    as_timeout,
    checked_headers,
    checked_timeout,
    encoded,
    known_or_passed_on,
    normalized_base_url,
    total_seconds,
    warn_of_plain_http,
)

PARAMETERS = CallParameters(ChatSegmindLlama.model_fields)


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("https://api.segmind.com", "https://api.segmind.com"),
        ("https://api.segmind.com/", "https://api.segmind.com"),
        ("https://api.segmind.com/v1/", "https://api.segmind.com"),
        ("https://api.segmind.com/v2", "https://api.segmind.com"),
        (" http://127.0.0.1:8000/v1 ", "http://127.0.0.1:8000"),
        ("http://proxy/segmind/v1", "http://proxy/segmind"),
        ("http://proxy/v1beta", "http://proxy/v1beta"),
        ("HTTP://API.segmind.com", "http://api.segmind.com"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://h/a%20b", "http://h/a%20b"),
    ],
)
def test_a_base_url_is_brought_into_one_form(given_url: str, url: str) -> None:
    assert normalized_base_url(given_url) == url
    assert normalized_base_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.segmind.com",
        "ftp://h",
        "http://",
        "http:///v1",
        "http://h?x",
        "http://h#x",
        "http://u:p@h",
        "http://h:99999",
        "http://h:x",
        "http://[::1",
        "http://h/a b",
        "http://ex ample.com",
        "http://h\\@evil",
        "http://h/a\nb",
        "http://h\x00",
        "http://a..b",
        "http://" + "a" * 70 + ".com",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        normalized_base_url(url)


def test_a_key_in_the_place_of_the_url_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="api_key's place") as caught:
        normalized_base_url("SG_0123456789abcdef")
    assert "SG_0123" not in str(caught.value)


@given(st.text())
def test_any_text_becomes_a_plain_url_or_is_refused(url: str) -> None:
    try:
        normal = normalized_base_url("http://" + url)
    except ValueError:
        return
    assert normal.isascii()
    assert normal.isprintable()
    assert normalized_base_url(normal) == normal
    httpx.URL(normal)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"seed": "x"},
        {"stop": [""]},
        {"stop": 5},
        {"model": "../x"},
        {"model": ""},
        {"model": None},
    ],
)
def test_an_override_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SegmindInvalidInputError, match="Nothing was sent"):
        PARAMETERS.check(wrong)


def test_overrides_are_brought_into_one_form() -> None:
    given_ones = {"stop": "END", "temperature": None, "top_k": 4}
    assert PARAMETERS.check(given_ones) == {"stop": ["END"], "temperature": None, "top_k": 4}


@pytest.mark.parametrize(
    "name",
    ["messages", "api_key", "segmind_api_key", "base_url", "request_timeout", "extra_headers"],
)
def test_what_must_not_travel_in_a_body_is_refused(name: str) -> None:
    with pytest.raises(SegmindInvalidInputError, match="cannot be passed on"):
        PARAMETERS.check({name: "x", "top_k": 4})


def test_an_unknown_parameter_is_passed_on_with_a_warning_and_a_hint() -> None:
    with pytest.warns(UserWarning, match="Did you mean 'temperature'"):
        values = known_or_passed_on({"temprature": 1, "seed": 2}, ["temperature", "seed"])
    assert values == {"seed": 2, "model_kwargs": {"temprature": 1}}


def test_a_misspelt_secret_is_refused() -> None:
    with pytest.raises(TypeError, match="did you mean 'api_key'"):
        known_or_passed_on({"apikey": "SG_0"}, ["api_key", "seed"])


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "x"},
        {"Content-Type": "x"},
        {"HOST": "x"},
        {"a b": "x"},
        {"": "x"},
        {"x": "a\r\nb: c"},
        {"x": "é"},
        {"x": "\x00"},
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        checked_headers(headers)


@pytest.mark.parametrize(
    "timeout", [0, -1, float("inf"), float("nan"), (1, 0), (), (1, 2, 3, 4, 5), [-1]]
)
def test_a_time_out_is_a_positive_number_of_seconds(timeout: object) -> None:
    with pytest.raises(ValueError, match="timeout takes"):
        checked_timeout(timeout)


@pytest.mark.parametrize(
    ("timeout", "steps", "total"),
    [
        (5, (5, 5, 5, 5), 5),
        ((1, 9), (1, 9, None, None), 9),
        ([1, 2, 3, 4], (1, 2, 3, 4), 4),
        (httpx.Timeout(5, connect=1), (1, 5, 5, 5), 5),
        (None, (None, None, None, None), None),
    ],
)
def test_a_time_out_has_steps_and_a_total(
    timeout: object, steps: tuple[float | None, ...], total: float | None
) -> None:
    taken = as_timeout(checked_timeout(timeout))
    assert (taken.connect, taken.read, taken.write, taken.pool) == steps
    assert total_seconds(taken) == total


@pytest.mark.parametrize(
    ("value", "why"),
    [(float("nan"), "JSON"), ({1, 2}, "JSON"), ("\ud800", "surrogate"), (float("inf"), "JSON")],
)
def test_what_json_has_no_form_for_is_refused(value: object, why: str) -> None:
    with pytest.raises(SegmindInvalidInputError, match=why):
        encoded({"x": value})


def test_a_body_is_compact_utf_8() -> None:
    assert encoded({"a": "ü", "b": [1]}) == '{"a":"ü","b":[1]}'.encode()


@pytest.mark.parametrize("host", ["api.segmind.com", "8.8.8.8", "[2606:4700::1]", "a.b.c."])
def test_plain_http_to_the_world_is_warned_of(host: str) -> None:
    with pytest.warns(UserWarning, match="unencrypted"):
        warn_of_plain_http(f"http://{host}:80/v1")
    with warnings.catch_warnings():
        warn_of_plain_http(f"https://{host}")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "10.0.0.7", "gateway", "box.local", "a.internal"]
)
def test_plain_http_within_ones_own_network_is_not(host: str) -> None:
    with warnings.catch_warnings():
        warn_of_plain_http(f"http://{host}:8765")


def test_a_password_in_a_base_url_is_not_told() -> None:
    for url in ("ftp://me:hush@h", "http:/me:hush@h"):
        with pytest.raises(ValueError, match="http") as caught:
            normalized_base_url(url)
        assert "hush" not in str(caught.value)
