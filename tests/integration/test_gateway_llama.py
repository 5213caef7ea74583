"""The small model itself, behind the gateway."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from langchain_segmind.gateway import LlamaEngine, serve
from langchain_segmind.gateway.models import FETCH_COMMAND, model_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or not model_file().is_file(),
        reason=f"no model here; get it with: {FETCH_COMMAND}",
    ),
]

CONTEXT = 1024


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    engine = LlamaEngine(model_file(), slots=2, context=CONTEXT)
    with (
        serve(engine=engine) as gateway,
        httpx.Client(
            base_url=f"{gateway.url}/v1", headers={"x-api-key": gateway.api_key}, timeout=60
        ) as opened,
    ):
        yield opened


def ask(client: httpx.Client, content: str, **extra: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 20, **extra}
    return client.post("/llama-v3p1-70b-instruct", json=body)


def text_of(response: httpx.Response) -> str:
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


def test_answers_the_conversation_of_the_api_page(client: httpx.Client) -> None:
    messages = [
        {"role": "user", "content": "tell me a joke on cats"},
        {"role": "assistant", "content": "here is a joke about cats..."},
        {"role": "user", "content": "now a joke on dogs"},
    ]
    body = {"messages": messages, "max_tokens": 20}
    answer = client.post("/llama-v3p1-70b-instruct", json=body).json()

    assert answer["model"] == "llama-v3p1-70b-instruct"
    assert answer["choices"][0]["message"]["content"]
    assert 0 < answer["usage"]["completion_tokens"] <= 20
    assert "timings" not in answer


def test_a_seed_repeats_the_answer(client: httpx.Client) -> None:
    answers = {text_of(ask(client, "hello", seed=3, temperature=0.8)) for _ in range(2)}

    assert len(answers) == 1


def test_samples_as_its_card_says(client: httpx.Client) -> None:
    """A seed gives the same text with 0.2 and 0.9 as with none; without them it is another."""
    card = {"temperature": 0.2, "top_p": 0.9}
    default, given, hot = (
        text_of(ask(client, "Tell me about the sea.", seed=3, **extra))
        for extra in ({}, card, {"temperature": 2.0, "top_p": 1.0})
    )

    assert default == given != hot


def test_honours_max_tokens_and_stop(client: httpx.Client) -> None:
    short = ask(client, "write a long story", max_tokens=3)
    stopped = ask(client, "say: one two three", stop=[" "], temperature=0)

    assert short.json()["choices"][0]["finish_reason"] == "length"
    assert " " not in text_of(stopped)


def test_honours_a_json_schema(client: httpx.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "cat", "schema": schema}}
    answer = ask(client, "a cat", response_format=wanted, max_tokens=100, temperature=0)

    assert sorted(json.loads(text_of(answer))) == ["age", "name"]


def test_a_prompt_that_is_too_long_says_so(client: httpx.Client) -> None:
    response = ask(client, "cat " * 2 * CONTEXT)

    assert response.status_code == 400
    assert f"maximum context length is {CONTEXT} tokens" in response.json()["error"]


def test_more_calls_than_slots_are_all_answered(client: httpx.Client) -> None:
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda n: ask(client, f"count to {n}"), range(5)))

    assert [answer.status_code for answer in answers] == [200] * 5


def test_a_vision_slug_gets_the_text_around_the_image(client: httpx.Client) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "what is this?"}, image]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 5}

    assert client.post("/llama-v3p2-11b-vision-instruct", json=body).status_code == 200
