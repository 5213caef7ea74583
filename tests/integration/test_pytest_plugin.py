"""An application's tests get a local Segmind from the plugin, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.snippets import snippets_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
LANGSMITH_ON_3_14 = "'asyncio.iscoroutinefunction' is deprecated"
PLUGIN = "langchain_segmind._pytest_plugin"


@pytest.fixture
def run_tests(tmp_path: Path) -> Callable[[str], str]:
    """Write a file of tests, run it as an application would, and give what is printed."""

    def run(source: str) -> str:
        (tmp_path / "test_app.py").write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-W", "error"]
        command += ["-W", f"ignore:{LANGSMITH_ON_3_14}:DeprecationWarning"]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
        outcome = subprocess.run(
            [*command, "-p", PLUGIN, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
            text=True,
        )
        return outcome.stdout + outcome.stderr

    return run


def test_the_tests_of_the_page_pass(run_tests: Callable[[str], str]) -> None:
    (source,) = [
        snippet.source
        for snippet in snippets_of(PAGE.read_text("utf-8"))
        if "scripted_segmind" in snippet.source
    ]
    assert "2 passed" in run_tests(source)


def test_a_call_without_a_reply_fails_at_once_and_says_why(run_tests: Callable[[str], str]) -> None:
    told = run_tests(
        "from langchain_segmind import ChatSegmindLlama\n"
        "def test_too_much(scripted_segmind):\n"
        "    scripted_segmind.will_say('one')\n"
        "    ChatSegmindLlama().batch(['a', 'b'])\n"
    )
    assert "1 failed" in told
    assert "The script has no reply left: will_say takes one for each call" in told


def test_each_test_has_a_segmind_of_its_own_and_leaves_nothing_behind(
    run_tests: Callable[[str], str],
) -> None:
    told = run_tests(
        "import os\n"
        "from langchain_segmind import ChatSegmindLlama\n"
        "def test_one(segmind):\n"
        "    ChatSegmindLlama().invoke('hi')\n"
        "def test_two(segmind, segmind_ledger):\n"
        "    assert segmind_ledger.post_count == 0\n"
        "def test_three():\n"
        "    assert 'SEGMIND_BASE_URL' not in os.environ\n"
    )
    assert "3 passed" in told


def test_who_asks_for_nothing_imports_nothing(run_tests: Callable[[str], str]) -> None:
    """Pytest loads the plugin in every project that has the package."""
    told = run_tests(
        "import sys\n"
        "def test_light():\n"
        "    assert not {'langchain_core', 'aiohttp', 'httpx2'} & set(sys.modules)\n"
    )
    assert "1 passed" in told


def test_pytest_is_told_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"langchain-segmind": PLUGIN}
