"""Runs of `langchain-segmind batch`, as a shell starts them, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_segmind.gateway import RunningGateway

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "langchain_segmind", "batch")
_LIMIT = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""
LIMIT = (sys.executable, "-c", _LIMIT)
"""A file that may not grow stands for a disk that is full."""


class Batch:
    """A folder with a file of requests, and the command."""

    def __init__(self, folder: Path, gateway: RunningGateway) -> None:
        self.folder = folder
        self.gateway = gateway
        self.requests = folder / "prompts.jsonl"
        self.answers = folder / "answers.jsonl"
        self.errors = folder / "errors.jsonl"
        self.journal = folder / "answers.jsonl.sqlite"

    def ask(self, count: int, **body: Any) -> None:
        """Write a file of as many requests."""
        self.write({"id": f"row-{n}", "prompt": f"Say {n}", **body} for n in range(count))

    def write(self, lines: Iterable[object]) -> None:
        """Write a file of requests; what is a string goes in as it is."""
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        self.requests.write_text("".join(f"{text}\n" for text in texts), "utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What the command finds around it."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "SEGMIND_API_KEY": self.gateway.api_key,
            "SEGMIND_BASE_URL": self.gateway.url,
        }

    def start(self, *options: str, largest_file: int | None = None) -> subprocess.Popen[str]:
        """Start the command, with pipes."""
        if options[:1] == ("-",):
            files, options = ("-", str(self.answers)), options[1:]
        else:
            files = (str(self.requests), str(self.answers))
        limit = () if largest_file is None else (*LIMIT, str(largest_file))
        return subprocess.Popen(
            [*limit, *COMMAND, *files, *options],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self,
        *options: str,
        text: str | None = None,
        largest_file: int | None = None,
    ) -> tuple[int, str, str]:
        """Run the command to its end; give exit code, stdout and stderr."""
        with self.start(*options, largest_file=largest_file) as process:
            out, err = process.communicate(text, PATIENCE)
        return process.returncode, out, err

    def lines(self, path: Path | None = None) -> list[dict[str, Any]]:
        """Read the answers, or another file."""
        path = path or self.answers
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def texts(self) -> dict[str, str]:
        """Give the text of each answer, each of which has to be there once."""
        lines = [line for line in self.lines() if line["error"] is None]
        texts = {line["custom_id"]: text_of(line) for line in lines}
        assert len(texts) == len(lines)
        return texts

    def check_bill(self) -> None:
        """No prompt was paid for twice."""
        billed = [body["messages"][-1]["content"] for body in self.gateway.account.billed_bodies]
        assert [text for text, count in Counter(billed).items() if count > 1] == []


def text_of(line: dict[str, Any]) -> str:
    """Give the text of an answer's line."""
    return str(line["response"]["body"]["choices"][0]["message"]["content"])


def echoed(count: int) -> dict[str, str]:
    """Give the answers that `Batch.ask` gets of an echo."""
    return {f"row-{n}": f"You said: Say {n}" for n in range(count)}
