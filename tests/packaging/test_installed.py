"""What is installed works on its own: a first call, the gateway, and the types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.packaging.distributions import ROOT, UV, checked, neutral_environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packaging.distributions import Environment

pytestmark = pytest.mark.packaging

FIRST_CALLS = """
import asyncio
from langchain_segmind import ChatSegmindLlama

with ChatSegmindLlama() as llm:
    answer = llm.invoke("hi")
    print(answer.content, answer.response_metadata["credits"]["cost"] > 0)
    print("".join(chunk.text for chunk in llm.stream("hello")))
    print(ChatSegmindLlama(queue=True, poll_interval=0.01).invoke("later").content)
    print(asyncio.run(llm.ainvoke("async")).content)
"""
PYRIGHT = {
    "typeCheckingMode": "strict",
    "enableTypeIgnoreComments": False,  # Those are mypy's.
    "reportUnnecessaryTypeIgnoreComment": True,
}
TYPES = ROOT / "tests" / "typing" / "public.py"


@contextmanager
def served_by(environment: Environment) -> Iterator[dict[str, str]]:
    """Run the installed gateway as the README says; give what it tells to export."""
    options = ["--port", "0", "--engine", "echo"]
    with subprocess.Popen(
        [str(environment.python), "-m", "langchain_segmind.gateway", *options],
        env=neutral_environment(),
        cwd=environment.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield dict(re.findall(r"(SEGMIND_\w+)=(\S+)", process.stdout.readline()))
        finally:
            process.terminate()


def test_it_calls_a_gateway_in_another_process(
    plain: Environment, with_gateway: Environment
) -> None:
    """The wheel needs nothing that it does not ask for, and neither does the sdist."""
    with served_by(with_gateway) as exported:
        command = (plain.python, "-I", "-c", FIRST_CALLS)
        outcome = run(*command, env=exported, cwd=plain.folder)
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == [
        "You said: hi True",
        "You said: hello",
        "You said: later",
        "You said: async",
    ]


def test_pytest_finds_the_plugin(with_gateway: Environment) -> None:
    """And what it names can be imported, but for pytest itself, which nobody has to have."""
    script = (
        "import sys, types; from importlib.metadata import entry_points;"
        "sys.modules['pytest'] = types.SimpleNamespace(fixture=lambda function: function);"
        "entry = entry_points(group='pytest11')['langchain-segmind']; print(entry.load().__name__)"
    )
    printed = checked(run(with_gateway.python, "-I", "-c", script, cwd=with_gateway.folder))
    assert printed == "langchain_segmind._pytest_plugin\n"


def test_dependencies_agree_with_each_other(plain: Environment, with_gateway: Environment) -> None:
    for environment in (plain, with_gateway):
        checked(run(*UV, "pip", "check", "--python", environment.python))


def test_mypy_reads_the_public_types(plain: Environment, tmp_path: Path) -> None:
    """It is strict, and has no plugin, as with most users."""
    shutil.copy(TYPES, tmp_path)
    command = (sys.executable, "-m", "mypy", "--strict", "--python-executable", plain.python)
    assert "Success" in checked(run(*command, TYPES.name, cwd=tmp_path))


def test_pyright_reads_the_public_types(plain: Environment, tmp_path: Path) -> None:
    shutil.copy(TYPES, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    command = (sys.executable, "-m", "pyright", "--pythonpath", plain.python, TYPES.name)
    assert "0 errors, 0 warnings" in checked(run(*command, cwd=tmp_path))
