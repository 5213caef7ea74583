"""What goes over the wire, byte for byte."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_segmind import ChatSegmindLlama, SegmindInvalidInputError
from langchain_segmind.chat_models import MODELS
from tests.servers import COLOURS, KEY, TRANSPORTS, ask, faults, model, streamed


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_default_call_sends_the_documented_request_and_nothing_else(transport: str) -> None:
    with faults() as server:
        answer = ask(model(server), transport, "Tell me a joke on cats")
    (sent,) = server.requests
    assert answer.content == "Hello!"
    assert sent.line == "POST /v1/llama-v3p1-70b-instruct HTTP/1.1"
    assert sent.json == {"messages": [{"role": "user", "content": "Tell me a joke on cats"}]}
    assert sent.values("x-api-key") == [KEY]
    assert sent.values("content-type") == ["application/json"]
    assert sent.values("content-length") == [str(len(sent.body))]
    assert sent.values("host") == [f"127.0.0.1:{server.port}"]
    assert sent.values("authorization") == []
    names = [name.lower() for name, _ in sent.headers]
    assert len(names) == len(set(names)), "a header was sent twice"


@pytest.mark.parametrize("slug", [*MODELS, "llama-of-next-year"])
def test_every_model_has_a_path_of_its_own(slug: str) -> None:
    """Also one that is not known here."""
    with faults() as server:
        assert model(server, model=slug).invoke("Hello").text == "Hello!"
    assert server.requests[0].line == f"POST /v1/{slug} HTTP/1.1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_parameter_reaches_the_body_under_its_own_name(transport: str) -> None:
    with faults() as server:
        llm = model(
            server,
            model="llama-v3-8b-instruct",
            temperature=0.5,
            max_tokens=7,
            top_p=0.9,
            seed=3,
            stop=["END"],
            model_kwargs={"repetition_penalty": 1.1},
        )
        ask(llm, transport, "hi")
    (sent,) = server.requests
    assert sent.line == "POST /v1/llama-v3-8b-instruct HTTP/1.1"
    assert sent.json == {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["END"],
        "repetition_penalty": 1.1,
    }


@pytest.mark.parametrize("colour", COLOURS)
def test_a_call_overrides_what_the_model_was_given(colour: str) -> None:
    with faults() as server:
        llm = model(server, temperature=0.5, stop=["END"])
        ask(llm, colour, "hi", model="llama-v3-70b-instruct", temperature=0, stop=["X"], top_k=4)
    (sent,) = server.requests
    assert sent.line == "POST /v1/llama-v3-70b-instruct HTTP/1.1"
    assert sent.json == {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "stop": ["X"],
        "top_k": 4,
    }


@pytest.mark.parametrize("colour", COLOURS)
def test_streaming_asks_for_a_stream_and_takes_json(colour: str) -> None:
    with faults() as server:
        chunks = streamed(model(server, streaming=True), colour)
    (sent,) = server.requests
    assert sent.json == {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    assert "".join(chunk.content for chunk in chunks) == "Hello!"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_text_travels_as_utf_8(transport: str) -> None:
    text = 'naïve “日本語” 🦙 \x00 \\ " \u2028'
    with faults() as server:
        ask(model(server), transport, text)
    assert server.requests[0].json["messages"][0]["content"] == text
    assert "🦙".encode() in server.requests[0].body


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_prompt_of_megabytes_is_sent_with_its_length(transport: str) -> None:
    with faults() as server:
        ask(model(server), transport, "x" * 3_000_000)
    (sent,) = server.requests
    assert sent.json["messages"][0]["content"] == "x" * 3_000_000
    assert sent.values("content-length") == [str(len(sent.body))]
    assert sent.values("content-type") == ["application/json"]
    assert sent.values("transfer-encoding") == []


def test_a_conversation_keeps_its_roles() -> None:
    with faults() as server, model(server) as llm:
        llm.invoke(
            [SystemMessage("Be brief."), HumanMessage("a"), AIMessage("b"), HumanMessage("c")]
        )
    assert server.requests[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("", "/v1/"),
        ("/", "/v1/"),
        ("/v1", "/v1/"),
        ("/v1/", "/v1/"),
        ("/v2", "/v1/"),
        ("/proxy/segmind", "/proxy/segmind/v1/"),
        ("/proxy/segmind/v1/", "/proxy/segmind/v1/"),
        ("/a%20b%2Fc", "/a%20b%2Fc/v1/"),
    ],
)
def test_base_url_is_taken_with_or_without_a_version(
    transport: str, suffix: str, path: str
) -> None:
    with faults() as server:
        ask(model(server, base_url=server.url + suffix), transport)
    assert server.requests[0].line == f"POST {path}llama-v3p1-70b-instruct HTTP/1.1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_default_headers_travel_and_replace_their_namesakes(transport: str) -> None:
    with faults() as server:
        llm = model(server, default_headers={"X-Team": "cats", "user-agent": "me", "accept": "*/*"})
        ask(llm, transport)
    (sent,) = server.requests
    assert sent.values("x-team") == ["cats"]
    assert sent.values("user-agent") == ["me"]
    assert len(sent.values("accept")) == 1


@pytest.mark.parametrize(
    "slug", ["../x", "a/b", "a%2fb", "..", ".", "a?b", "a#b", "a b", "", "a\r\nb"]
)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_slug_stays_in_its_path_segment(slug: str, colour: str) -> None:
    """However it gets in: at construction, in a call, by assignment or by a copy."""
    with faults() as server:
        with pytest.raises(ValueError, match="slug"):
            model(server, model=slug)
        with pytest.raises(SegmindInvalidInputError, match="slug"):
            ask(model(server), colour, model=slug)
        with pytest.raises(SegmindInvalidInputError, match="slug"):
            ask(model(server).model_copy(update={"model": slug}), colour)
        assigned = model(server)
        assigned.model = slug
        with pytest.raises(SegmindInvalidInputError, match="slug"):
            ask(assigned, colour)
    assert server.requests == []


def test_the_environment_names_the_key_and_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with faults() as server:
        monkeypatch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
        monkeypatch.setenv("SEGMIND_BASE_URL", server.url + "/v1/")
        with ChatSegmindLlama() as llm:
            llm.invoke("hi")
    assert server.requests[0].line == "POST /v1/llama-v3p1-70b-instruct HTTP/1.1"
    assert server.requests[0].values("x-api-key") == ["SG_0123456789abcdef"]


def test_blocking_calls_share_a_connection() -> None:
    with faults() as server, model(server) as llm:
        llm.invoke("a")
        llm.invoke("b")
    assert len(server.requests) == 2
    assert server.connections == 1


async def test_async_calls_share_a_connection() -> None:
    with faults() as server:
        async with model(server) as llm:
            await llm.ainvoke("a")
            await llm.ainvoke("b")
    assert len(server.requests) == 2
    assert server.connections == 1
