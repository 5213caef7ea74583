"""LangChain's standard integration tests, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_segmind import ChatSegmindLlama
from langchain_segmind.gateway import LlamaEngine, RunningGateway, ScriptedEngine, Settings, serve
from langchain_segmind.gateway.models import model_file
from tests.integration.scripted_llama import answer

if TYPE_CHECKING:
    from collections.abc import Iterator


class StandardSuite(ChatModelIntegrationTests):
    """The whole suite, with all that the model does switched on."""

    running: RunningGateway

    @property
    def chat_model_class(self) -> type[ChatSegmindLlama]:
        return ChatSegmindLlama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"api_key": self.running.api_key, "base_url": self.running.url}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0.7, "seed": 2, "max_tokens": 400, "timeout": 120}

    @property
    def has_tool_calling(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "llama-v3p1-8b-instruct"


class TestScriptedLlama(StandardSuite):
    """Against rules in place of a model: every test runs, on every machine."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _gateway(cls) -> Iterator[None]:
        with serve(engine=ScriptedEngine(answer)) as cls.running:
            yield


class SmallModelWithHelp(LlamaEngine):
    """The small model, but for what takes the judgement of a large one, which is scripted."""

    async def complete(self, body: dict[str, Any]) -> Any:
        form = (body.get("response_format") or {}).get("type")
        prompt = "\n".join(str(message["content"]) for message in body["messages"])
        has_tools = '"type": "function"' in prompt
        has_foreign_name = "named '" in prompt
        if form == "json_object" or (has_tools and form is None) or has_foreign_name:
            return await ScriptedEngine(answer).complete(body)
        return await super().complete(body)


@pytest.mark.llama
class TestSmallLlama(StandardSuite):
    """Against a real Llama-architecture model of 135M parameters.

    Forced calls and structured output are its own: decoding is constrained, so it cannot miss.
    Scripted are only: which tool to call of one's own accord, which keys a JSON object that no
    schema describes should have, and the copying of a Chinese name.
    """

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _gateway(cls) -> Iterator[None]:
        with serve(Settings(v1_limit=300), SmallModelWithHelp(model_file())) as cls.running:
            yield
