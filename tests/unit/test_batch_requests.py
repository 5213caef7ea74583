"""What a line stands for, and under which key its answers are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind import ChatSegmindLlama
from langchain_segmind._batch.ids import IdSet
from langchain_segmind._batch.reading import RequestFile
from langchain_segmind._batch.requests import (
    BadRequestError,
    BatchRequest,
    key_of,
    place_of,
    plain_id,
)
from langchain_segmind._batch.runner import prepare
from langchain_segmind._journals.identity import LONGEST_KEY

if TYPE_CHECKING:
    from pathlib import Path

HI = [{"role": "user", "content": "hi"}]
LLM = ChatSegmindLlama(api_key="SG_c0ffee5ec2e7ca4a")


def test_the_three_forms_are_one_request() -> None:
    openai = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    forms: list[dict[str, Any]] = [
        {**openai, "body": {"messages": HI, "max_tokens": 5}},
        {"id": "a", "messages": HI, "max_tokens": 5},
        {"id": "a", "prompt": "hi", "max_tokens": 5},
    ]
    for form in forms:
        assert BatchRequest.from_record(form) == BatchRequest("a", HI, {"max_tokens": 5})
        assert plain_id(form) == "a"


def test_what_openai_says_and_segmind_need_not_is_left_out() -> None:
    record = {"id": 7, "messages": HI, "temperature": None, "model": "llama-v3-8b-instruct"}
    assert BatchRequest.from_record(record) == BatchRequest(
        "7", HI, {"model": "llama-v3-8b-instruct"}
    )
    body = {"messages": HI, "stream": False, "n": 1}
    assert BatchRequest.from_record({"custom_id": "a", "body": body}) == BatchRequest("a", HI)


@pytest.mark.parametrize("name", ["idempotency_key", "resume", "stream"])
def test_a_body_cannot_say_what_the_batch_says(name: str) -> None:
    with pytest.raises(BadRequestError, match=name):
        BatchRequest.from_record({"custom_id": "a", "body": {"messages": HI, name: "x"}})


@pytest.mark.parametrize("name", ["", "a\tb", "a" * 201, "#" * 101, 1.5])
def test_an_id_that_no_key_can_be_made_of_is_told_by_the_check(name: object) -> None:
    record = {"id": name, "prompt": "hi"}
    assert plain_id(record) is None
    with pytest.raises(BadRequestError, match="custom_id"):
        BatchRequest.from_record(record)
    assert len(key_of("#" * 100, 10**9, 10**9)) <= LONGEST_KEY


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)  # A line's bytes show them.
PARAMETERS = st.dictionaries(
    st.sampled_from(["temperature", "top_p", "max_tokens", "seed", "stop", "model", "user"]),
    st.one_of(st.floats(-1, 3), st.integers(-1, 1 << 33), TEXT, st.booleans(), st.none()),
    max_size=3,
)
CONTENT = st.one_of(TEXT, st.none(), st.lists(st.text(max_size=3), max_size=2))
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "robot"]), "content": CONTENT}
)


@given(st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=2)}), PARAMETERS)
def test_what_is_plain_at_a_glance_can_be_sent(body: Any, parameters: Any) -> None:
    """The quick check lets nothing through that the model would refuse."""
    record = {"custom_id": "a", "body": {**body, **parameters}}
    if plain_id(record) is not None:
        prepare(LLM, BatchRequest.from_record(record))


IDS = st.text("ab#/-retry1", min_size=1, max_size=12)


@given(IDS, IDS, st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_no_two_answers_share_a_key(
    one: str, two: str, first: int, second: int, retry: int
) -> None:
    assert place_of(key_of(one, first, retry)) == (one, first, retry)
    if (one, first) != (two, second):
        assert key_of(one, first) != key_of(two, second)
        assert key_of(one, first, retry) != key_of(two, second, retry)


def test_a_plain_key_is_the_id_itself() -> None:
    assert key_of("row-17") == "row-17"
    assert key_of("row-17", 2) == "row-17#2"
    assert key_of("row-17", 2, 1) == "row-17#2/retry-1"
    assert key_of("row#17") == "row##17"


@given(st.lists(st.text(max_size=4)), st.text(max_size=4))
def test_a_set_of_ids_is_a_set(names: list[str], other: str) -> None:
    ids = IdSet()
    for name in names:
        ids.add(name)
    assert (other in ids) == (other in names)
    assert ids.count_repeats() == len(names) - len(set(names))
    assert {ids.index(name) for name in names} <= set(range(len(names)))
    assert len({ids.index(name) for name in names}) == len(set(names))


def test_lines_added_after_the_check_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "prompt": "x"}\n\n')
    requests = RequestFile(str(path), "Be.")
    assert requests.check(lambda _: None).count == 1
    with path.open("ab") as file:
        file.write(b'{"id": "b", "prompt": "x"}\n')
    [request] = requests.requests()
    assert [message["role"] for message in request.messages] == ["system", "user"]
    requests.close()
