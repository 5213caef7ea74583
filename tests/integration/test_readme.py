"""Every Python snippet of the README runs, in order, as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_segmind.gateway import ScriptedEngine, serve
from tests.integration.scripted_llama import answer

if TYPE_CHECKING:
    import pytest

README = Path(__file__).parents[2] / "README.md"


def snippets() -> list[str]:
    """Cut the snippets out."""
    return re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def test_the_snippets_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(engine=ScriptedEngine(answer)) as gateway:
        monkeypatch.setenv("SEGMIND_API_KEY", gateway.api_key)
        monkeypatch.setenv("SEGMIND_BASE_URL", gateway.url)
        names: dict[str, object] = {"__name__": "readme"}
        for snippet in snippets():
            exec(compile(snippet, "README.md", "exec"), names)
        assert gateway.account.post_count >= 9
    printed = capsys.readouterr().out
    assert "'cost':" in printed
    assert "setup=" in printed
    assert "Here is what the tool said." in printed
