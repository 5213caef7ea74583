from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind import SegmindError
from langchain_segmind._transport.redaction import MASK, KeyRedactor

KEY = "SG_c0ffee5ec2e7ca4a"
REDACTOR = KeyRedactor(KEY)
SPELLINGS = st.sampled_from(["{}", "\\u{:04x}", "\\u{:04X}", "\\\\u{:04x}", "%{:02X}", "%{:02x}"])


@given(st.lists(SPELLINGS, min_size=len(KEY), max_size=len(KEY)))
def test_any_mixture_of_spellings_is_masked(spellings: list[str]) -> None:
    spelled = "".join(
        character if form == "{}" else form.format(ord(character))
        for form, character in zip(spellings, KEY, strict=True)
    )
    assert REDACTOR.text(f"a {spelled} b") == f"a {MASK} b"


@given(st.text())
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_an_error_is_masked_in_all_that_it_holds() -> None:
    error = REDACTOR.error(SegmindError(f"no {KEY}", request_id=KEY))
    assert KEY not in repr(error) + repr(vars(error))


@pytest.mark.parametrize("text", ["a test", "tests: testing", "latest", "on localhost:test-1"])
def test_a_short_key_that_is_part_of_words_is_left(text: str) -> None:
    assert KeyRedactor("test").text(text) == text


@pytest.mark.parametrize(
    "text", ["'{}'?", '{{"x-api-key": "{}"}}', "x-api-key: {}, host", "key={}", "no key {}.", "{}"]
)
def test_a_short_key_that_stands_for_itself_is_masked(text: str) -> None:
    error = KeyRedactor("test").error(
        SegmindError(f"401: {text}".format("test"), request_id="test")
    )
    assert str(error) == f"401: {text}".format(MASK)
    assert error.request_id == MASK


def test_a_proxys_password_is_masked_as_a_word_however_short_it_is() -> None:
    redactor = KeyRedactor(KEY)
    redactor.mask_passwords("pw", "")
    assert redactor.text(f"{KEY} or pw is no pwd") == f"{MASK} or {MASK} is no pwd"
