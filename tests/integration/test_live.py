"""Against Segmind itself: runs only with SEGMIND_API_KEY, and costs a fraction of a cent."""

from __future__ import annotations

import os

import pytest

from langchain_segmind import ChatSegmindLlama, SegmindAuthenticationError

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not os.environ.get("SEGMIND_API_KEY"), reason="needs SEGMIND_API_KEY"),
]


@pytest.mark.parametrize("queue", [False, True])
def test_an_answer_says_what_it_cost(queue: bool) -> None:
    with ChatSegmindLlama(queue=queue, max_tokens=20) as llm:
        reply = llm.invoke("Say hello.")
    assert reply.content
    assert reply.response_metadata["credits"]["remaining"] is not None


def test_the_balance_is_known() -> None:
    with ChatSegmindLlama() as llm:
        assert llm.get_credits().total >= 0


def test_a_wrong_key_is_told() -> None:
    with (
        ChatSegmindLlama(api_key="SG_0000000000000000") as llm,
        pytest.raises(SegmindAuthenticationError),
    ):
        llm.invoke("hi")
