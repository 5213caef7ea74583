"""The local Segmind that a run of pytest talks to."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import ScriptedEngine, Settings, serve

if TYPE_CHECKING:
    from collections.abc import Callable

seen: Counter[str] = Counter()
"""How many models were made, and how many calls were answered: it shows which tests have one."""


def answer_with(
    answer: Callable[[dict[str, Any]], Any], config: pytest.Config
) -> pytest.MonkeyPatch:
    """Have each ChatSegmindLlama of a run answered; give what undoes patches at its end."""
    stack = ExitStack()
    config.add_cleanup(stack.close)
    running = stack.enter_context(serve(Settings(credits=1e6), ScriptedEngine(answer)))
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("SEGMIND_BASE_URL", running.url)
    patch.setenv("SEGMIND_API_KEY", running.api_key)
    return patch
