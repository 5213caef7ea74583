from __future__ import annotations

import warnings

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._transport.settings import (
    as_timeout,
    checked_headers,
    checked_timeout,
    normalized_base_url,
    warn_of_plain_http,
)


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
        (httpx2.Timeout(5, connect=1), (1, 5, 5, 5), 5),
        (None, (None, None, None, None), None),
    ],
)
def test_a_time_out_has_steps_and_a_total(
    timeout: object, steps: tuple[float | None, ...], total: float | None
) -> None:
    taken = as_timeout(checked_timeout(timeout))
    assert (taken.connect, taken.read, taken.write, taken.pool) == steps
    assert taken.total() == total


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
