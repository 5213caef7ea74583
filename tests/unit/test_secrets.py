from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._protocol.types import Response, TransportFailure
from langchain_segmind._transport.redaction import MASK, KeyRedactor, redactor_for

KEY = "SG_c0ffee5ec2e7ca4a"
BLOTTER = KeyRedactor(KEY)
SPELLINGS = st.sampled_from(
    [str, "\\u{:04x}", "\\u{:04X}", "\\\\u{:04x}", "&#{};", "&#x{:x};", "%{:02X}"]
)


@given(st.lists(SPELLINGS, min_size=len(KEY), max_size=len(KEY)))
def test_any_mixture_of_spellings_is_blotted(spellings: list[object]) -> None:
    spelled = "".join(
        form.format(ord(character)) if isinstance(form, str) else character
        for form, character in zip(spellings, KEY, strict=True)
    )
    assert BLOTTER.text(f"a {spelled} b") == f"a {MASK} b"
    assert BLOTTER.body(f"a {spelled} b".encode()) == f"a {MASK} b".encode()


@given(st.text())
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert BLOTTER.text(text) == text


def test_an_answer_without_the_key_is_the_same_object() -> None:
    reply = Response(200, {"a": "b"}, b"body")
    assert BLOTTER.outcome(reply) is reply


def test_the_search_is_prepared_for_an_answer_that_may_hold_the_key() -> None:
    """It takes milliseconds, once a key; most answers need none."""
    redactor = KeyRedactor(KEY)
    redactor.outcome(Response(200, {"a": "b"}, b'{"content": "A joke.\\n"}'))
    assert not {"_in_text", "_in_bytes"} & vars(redactor).keys()
    assert redactor.body(KEY.encode("utf-16-le")) == MASK.encode() + b"\x00"
    assert "_in_bytes" in vars(redactor)


def test_a_failure_is_blotted_with_its_head() -> None:
    failure = TransportFailure("lost", f"no {KEY}", head=Response(200, {"x-request-id": KEY}))
    assert BLOTTER.outcome(failure) == TransportFailure(
        "lost", f"no {MASK}", head=Response(200, {"x-request-id": MASK})
    )


@given(st.lists(st.integers(0, 100), max_size=9))
def test_a_stream_is_blotted_in_any_split(cuts: list[int]) -> None:
    body = f"data: {KEY}\r\ndata: x\n\ndata: {KEY}".encode()
    edges = [0, *sorted(cuts), len(body)]
    pieces = (body[start:end] for start, end in pairwise(edges))
    redacted = BLOTTER.outcome(Response(200, {}, chunks=(piece for piece in pieces)))
    assert redacted.chunks is not None
    assert b"".join(redacted.chunks) == body.replace(KEY.encode(), MASK.encode()) + b"\n\n"  # type: ignore[arg-type]


def test_models_with_one_key_share_the_search() -> None:
    assert redactor_for(KEY) is (held := redactor_for(KEY))
    assert held is not redactor_for("SG_other")
