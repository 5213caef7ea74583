from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._protocol.bounded_json import (
    MAX_DEPTH,
    TooDeepError,
    loads_bounded,
    replace_surrogates,
)

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=5)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
)


@given(ANY_TEXT)
def test_sound_text_can_be_encoded_and_is_kept(text: str) -> None:
    spelled = replace_surrogates(json.loads(json.dumps(text)))
    spelled.encode()
    assert replace_surrogates(spelled) == spelled


@given(ANY_JSON, st.booleans(), st.sampled_from(["utf-8", "utf-16", "utf-32-be"]))
def test_whatever_is_decoded_can_be_encoded(value: Any, escaped: bool, encoding: str) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    decoded = loads_bounded(text.encode(encoding, "surrogatepass"))
    again = json.dumps(decoded, ensure_ascii=False).encode().decode()
    assert again == json.dumps(loads_bounded(again), ensure_ascii=False)
    if "\\u" not in json.dumps(value):
        assert decoded == value


@pytest.mark.parametrize("unit", ["[]", '{"a":}'])
def test_the_depth_has_a_bound_that_is_no_accident_of_the_stack(unit: str) -> None:
    opening, closing = unit[:-1], unit[-1]

    def nested(depth: int) -> str:
        return opening * depth + "0" + closing * depth

    json.dumps(loads_bounded(nested(MAX_DEPTH)))
    for depth in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(TooDeepError):
            loads_bounded(nested(depth))


def test_what_needs_no_mending_is_not_touched() -> None:
    text = json.dumps({"a": ["\\u00e9", "é", 1.5, None]}, ensure_ascii=False)
    assert loads_bounded(text) == json.loads(text)
