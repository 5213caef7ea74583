"""What all tests share: a local gateway, and a model that talks to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from langchain_segmind import ChatSegmindLlama
from langchain_segmind.gateway import RunningGateway, Script, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("long", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Keep the tests away from a developer's key, proxies and tracing."""
    if request.node.get_closest_marker("live"):
        return
    for name in ("SEGMIND_API_KEY", "SEGMIND_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    """Run a local gateway whose engine echoes."""
    with serve() as running:
        yield running


@pytest.fixture
def llm(gateway: RunningGateway) -> Iterator[ChatSegmindLlama]:
    """Give a model that talks to the local gateway."""
    with ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url) as model:
        yield model


@pytest.fixture
def scripted(gateway: RunningGateway) -> Script:
    """Let the local gateway say what the test tells it to."""
    gateway.engine = script = Script()
    return script
