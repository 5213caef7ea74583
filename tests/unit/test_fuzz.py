"""The fuzz targets, for some seconds: over the committed corpus and what hypothesis draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import KEY, TARGETS, _check_error
from langchain_segmind import SegmindError

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
WORDS = (Path(__file__).parents[2] / "fuzz" / "words.dict").read_text(encoding="utf-8")
ANY_SPEED = settings(suppress_health_check=list(HealthCheck))

pieces = st.sampled_from(
    [line[1:-1].encode().decode("unicode_escape") for line in WORDS.splitlines() if line[:1] == '"']
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
anything = st.one_of(
    st.binary(max_size=200),
    st.lists(pieces | st.text(max_size=8), max_size=12).map("".join).map(str.encode),
    json_values.map(lambda value: b"200\n\n" + json.dumps(value).encode()),
)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds(name: str) -> None:
    """What once was found, and what reaches every line that was reached."""
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.hypothesis
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_keeps_the_promises(name: str) -> None:
    @ANY_SPEED
    @given(anything)
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


blocks = st.fixed_dictionaries(
    {},
    optional={
        "type": json_values
        | st.sampled_from(
            ["text", "image", "image_url", "tool_use", "tool_result", "json", "refusal", "file"]
        ),
        "text": json_values,
        "image_url": json_values | st.fixed_dictionaries({"url": json_values}),
        "source": json_values
        | st.fixed_dictionaries({"type": st.just("base64"), "media_type": json_values})
        | st.fixed_dictionaries({"type": st.just("url"), "url": json_values}),
        "content": json_values | st.lists(json_values | st.text(max_size=5), max_size=2),
        **dict.fromkeys(("name", "input", "id", "json", "is_error"), json_values),
        **dict.fromkeys(("tool_use_id", "refusal", "url", "base64", "mime_type"), json_values),
    },
)
contents = st.text(max_size=9) | st.lists(st.text(max_size=5) | blocks, max_size=3)
calls = st.fixed_dictionaries(
    {"name": st.text(max_size=5), "args": st.dictionaries(st.text(max_size=5), json_values)},
    optional={"id": st.none() | st.text(max_size=3)},
)
kinds = ["human", "ai", "system", "tool", "function", "chat"]


@ANY_SPEED
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(kinds),
                "data": st.fixed_dictionaries(
                    {"content": contents, "tool_call_id": st.just("1"), "role": st.text(max_size=9)}
                    | {"name": st.text(max_size=5)},
                    optional={"tool_calls": st.lists(calls, max_size=2)},
                ),
            }
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_conversation_can_be_sent_or_is_refused(history: Any) -> None:
    TARGETS["messages"](json.dumps(history).encode())


def test_the_oracle_notices_a_key() -> None:
    error = SegmindError("no")
    error.__dict__["headers"] = {"x-api-key": KEY}
    with pytest.raises(AssertionError):
        _check_error(error)
