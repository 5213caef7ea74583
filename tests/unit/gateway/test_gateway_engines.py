"""The echo, its schemas, the upstream, and which one is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import (
    EchoEngine,
    EngineError,
    EngineUnavailableError,
    LlamaEngine,
    ScriptedEngine,
    Settings,
    UpstreamEngine,
    serve,
)
from langchain_segmind.gateway.engines import choose_engine
from langchain_segmind.gateway.engines.schemas import minimal_instance
from tests.servers import faults, http

if TYPE_CHECKING:
    from pathlib import Path


def asking(content: str, **extra: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **extra}


async def echo(content: str, **extra: Any) -> tuple[str, str]:
    completion = await EchoEngine().complete(asking(content, **extra))
    choice = completion["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


class TestEcho:
    async def test_repeats_the_last_message_of_the_user(self) -> None:
        messages = [
            {"role": "user", "content": "one"},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "three"},
        ]
        completion = await EchoEngine().complete({"model": "m", "messages": messages})

        assert completion["choices"][0]["message"]["content"] == "You said: two"
        assert completion["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 3,
            "total_tokens": 6,
        }

    async def test_stops_at_max_tokens(self) -> None:
        assert await echo("a b c d", max_tokens=3) == ("You said: a", "length")

    @pytest.mark.parametrize("stop", ["b", ["zzz", "b"], ["", "b"]])
    async def test_stops_at_a_stop_sequence(self, stop: object) -> None:
        assert await echo("a b c", stop=stop) == ("You said: a ", "stop")

    async def test_gives_as_many_choices_as_asked(self) -> None:
        completion = await EchoEngine().complete(asking("hi", n=2))

        assert [choice["index"] for choice in completion["choices"]] == [0, 1]

    async def test_answers_in_json(self) -> None:
        text, _ = await echo("hi", response_format={"type": "json_object"})

        assert json.loads(text) == {"answer": "You said: hi"}

    async def test_answers_with_an_instance_of_the_schema(self) -> None:
        schema = {"properties": {"age": {"type": "integer"}}, "required": ["age"]}
        wanted = {"type": "json_schema", "json_schema": {"name": "cat", "schema": schema}}
        text, _ = await echo("hi", response_format=wanted)

        assert json.loads(text) == {"age": 0}


class TestSchemas:
    @pytest.mark.parametrize(
        ("schema", "instance"),
        [
            ({"type": "string", "minLength": 3}, "aaa"),
            ({"type": "integer", "minimum": 2.5}, 3),
            ({"type": "number", "exclusiveMinimum": 2}, 3.0),
            ({"type": ["null", "string"]}, None),
            ({"type": "boolean"}, False),
            ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["a", "a"]),
            ({"enum": ["red", "green"]}, "red"),
            ({"const": None}, None),
            ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0),
            ({"$ref": "#/$defs/x", "$defs": {"x": {"const": 1}}}, 1),
            (
                {
                    "allOf": [
                        {"properties": {"a": {"const": 1}}, "required": ["a"]},
                        {"properties": {"b": {"const": 2}}, "required": ["b"]},
                    ]
                },
                {"a": 1, "b": 2},
            ),
            ({"type": "object", "properties": {"optional": {"type": "string"}}}, {}),
        ],
    )
    def test_has_a_small_instance(self, schema: dict[str, Any], instance: object) -> None:
        assert minimal_instance(schema) == instance

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "objekt"},
            {"$ref": "#/$defs/none"},
            {"properties": {"x": {"$ref": "#"}}, "required": ["x"]},
        ],
    )
    def test_one_without_an_instance_is_a_bad_request(self, schema: dict[str, Any]) -> None:
        with pytest.raises(EngineError) as caught:
            minimal_instance(schema)
        assert caught.value.status == 400


class TestUpstream:
    """Another gateway plays the OpenAI-compatible server: its `/v1/{slug}` takes the same body."""

    @staticmethod
    async def ask(engine: UpstreamEngine, url: str, **extra: Any) -> Any:
        engine._url = f"{url}/v1/llama-v3p1-8b-instruct"
        await engine.start()
        try:
            engine._client.headers["x-api-key"] = "SG_0123456789abcdef"
            return await engine.complete(asking("hi", **extra))
        finally:
            await engine.close()

    async def test_passes_body_and_answer_on(self) -> None:
        script = ScriptedEngine(lambda body: body["messages"][0]["content"] * 2)
        with serve(engine=script) as other:
            answer = await self.ask(UpstreamEngine("http://x/v1", "llama3"), other.url, seed=1)
            sent = other.account.posts[0].json()

        assert answer["choices"][0]["message"]["content"] == "hihi"
        assert sent == {**asking("hi", seed=1), "model": "llama3"}

    async def test_a_bad_request_stays_one(self) -> None:
        def refuse(_: dict[str, Any]) -> str:
            raise EngineError(400, "too long")

        with serve(engine=ScriptedEngine(refuse)) as other, pytest.raises(EngineError) as caught:
            await self.ask(UpstreamEngine("http://x/v1"), other.url)
        assert (caught.value.status, caught.value.message) == (400, "too long")

    async def test_its_other_errors_are_those_of_a_gateway(self) -> None:
        with serve(Settings(api_key="other")) as other, pytest.raises(EngineError) as caught:
            await self.ask(UpstreamEngine("http://x/v1"), other.url)
        assert (caught.value.status, caught.value.message) == (502, "Invalid API key")

    async def test_an_absent_server_is_a_bad_gateway(self) -> None:
        with serve() as gone:
            pass
        with pytest.raises(EngineError) as caught:
            await self.ask(UpstreamEngine("http://x/v1"), gone.url)
        assert caught.value.status == 502
        assert "can't be reached" in caught.value.message

    @pytest.mark.parametrize(("status", "told"), [(400, 400), (500, 502)])
    async def test_an_error_without_json_is_told_by_its_status(
        self, status: int, told: int
    ) -> None:
        page = http(b"<html>", status, content_type="text/html")
        with faults(page) as other, pytest.raises(EngineError) as caught:
            await self.ask(UpstreamEngine("http://x/v1"), other.url)
        message = f"The upstream server answered {status}"
        assert (caught.value.status, caught.value.message) == (told, message)

    def test_sends_its_key_to_the_chat_completions(self) -> None:
        engine = UpstreamEngine("http://127.0.0.1:1/v1/", "m", "secret")

        assert engine._url == "http://127.0.0.1:1/v1/chat/completions"
        assert engine._client.headers["authorization"] == "Bearer secret"


class TestChoice:
    @pytest.fixture(autouse=True)
    def _no_model(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SEGMIND_GATEWAY_MODEL_DIR", str(tmp_path))

    def test_echo(self) -> None:
        assert choose_engine(Settings(engine="echo")).name == "echo"

    def test_upstream_by_its_url(self) -> None:
        assert choose_engine(Settings(upstream_url="http://127.0.0.1:1/v1")).name == "upstream"

    def test_upstream_needs_its_url(self) -> None:
        with pytest.raises(EngineUnavailableError, match="--upstream-url"):
            choose_engine(Settings(engine="upstream"))

    def test_llama_without_a_model_says_what_to_run(self) -> None:
        with pytest.raises(EngineUnavailableError, match=r"gateway --fetch-model .*--gguf"):
            choose_engine(Settings(engine="llama"))

    def test_llama_without_its_library_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("langchain_segmind.gateway.engines.find_spec", lambda _: None)
        with pytest.raises(EngineUnavailableError, match=r"langchain-segmind\[llama\]"):
            choose_engine(Settings(engine="llama"))

    def test_no_model_at_all_means_an_echo_and_a_notice(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert choose_engine(Settings()).name == "echo"
        assert "--fetch-model" in capsys.readouterr().err

    def test_a_missing_gguf_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailableError, match=r"none\.gguf|install"):
            choose_engine(Settings(gguf=tmp_path / "none.gguf"))


class TestLlama:
    def test_a_model_that_vanished_is_missing(self, tmp_path: Path) -> None:
        """It was there when the engine was chosen."""
        engine = LlamaEngine(tmp_path / "gone.gguf")
        missing = r"gone\.gguf is missing; .*--fetch-model"
        with pytest.raises(EngineUnavailableError, match=missing), serve(engine=engine):
            pass
