"""Fixtures for the tests of applications: a local Segmind, with nothing to copy.

pytest loads this wherever the package is installed, so it imports the rest when a test asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import Account, RunningGateway, Script


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "segmind(**settings): how the local Segmind of a test behaves, as gateway.Settings",
    )


@pytest.fixture
def segmind(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningGateway]:
    """Run a local Segmind, to which each ChatSegmindLlama talks that the test makes; it echoes."""
    from langchain_segmind.gateway import Settings, serve

    marker = request.node.get_closest_marker("segmind")
    with serve(Settings(**marker.kwargs) if marker else None) as running:
        monkeypatch.setenv("SEGMIND_BASE_URL", running.url)
        monkeypatch.setenv("SEGMIND_API_KEY", running.api_key)
        yield running


@pytest.fixture
def scripted_segmind(segmind: RunningGateway) -> Script:
    """Let the local Segmind say what the test tells it to: `will_say`."""
    from langchain_segmind.gateway import Script

    segmind.engine = script = Script()
    return script


@pytest.fixture
def segmind_ledger(segmind: RunningGateway) -> Account:
    """Give what the local Segmind was asked, and what it billed."""
    return segmind.account
