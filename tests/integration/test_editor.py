"""What an editor shows at `ChatSegmindLlama(`, asked of pyright's language server; and `help()`."""

from __future__ import annotations

import inspect
import json
import pydoc
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("pyright", reason="its language server is what an editor asks")

ROOT = Path(__file__).parents[2]
TYPED = "from langchain_segmind import ChatSegmindLlama\n\nllm = ChatSegmindLlama("
ON_THE_NAME = {"line": 2, "character": 10}
IN_THE_CALL = {"line": 2, "character": len("llm = ChatSegmindLlama(")}
SETTINGS = {
    "pythonPath": sys.executable,
    "analysis": {"extraPaths": [str(ROOT)], "typeCheckingMode": "off"},
}
OURS = [
    kind for kind in ChatSegmindLlama.__mro__ if kind.__module__.startswith("langchain_segmind")
]
SUMMARY, ARGUMENTS, _ = inspect.cleandoc(ChatSegmindLlama.__doc__ or "").split("\n\n", 2)


class Editor:
    """A client of the language server protocol that has one file open."""

    def __init__(self, server: subprocess.Popen[bytes], file: Path) -> None:
        """Open the file."""
        assert server.stdin
        assert server.stdout
        self._to, self._from = server.stdin, server.stdout
        self._document = {"uri": file.as_uri()}
        folder = {"uri": file.parent.as_uri(), "name": "project"}
        asks = {"workspace": {"configuration": True}}
        self.ask("initialize", workspaceFolders=[folder], capabilities=asks, processId=None)
        self._send("initialized", {})
        document = {
            **self._document,
            "languageId": "python",
            "version": 1,
            "text": file.read_text(),
        }
        self._send("textDocument/didOpen", {"textDocument": document})

    def ask_at(self, position: dict[str, int], what: str) -> Any:
        """Ask for what is shown at a place of the file."""
        return self.ask(f"textDocument/{what}", textDocument=self._document, position=position)

    def ask(self, method: str, **params: Any) -> Any:
        """Wait for an answer, and tell the server meanwhile what it wants to know."""
        self._send(method, params, id=method)
        while True:
            message = self._receive()
            if message.get("method") == "workspace/configuration":
                items = message["params"]["items"]
                self._answer(
                    message["id"], [SETTINGS if i["section"] == "python" else None for i in items]
                )
            elif "method" in message and "id" in message:
                self._answer(message["id"], None)
            elif message.get("id") == method:
                return message["result"]

    def _send(self, method: str, params: Any, **more: Any) -> None:
        self._write({"method": method, "params": params, **more})

    def _answer(self, number: object, result: Any) -> None:
        self._write({"id": number, "result": result})

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._to.flush()

    def _receive(self) -> dict[str, Any]:
        size = 0
        while line := self._from.readline().strip():
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        message: dict[str, Any] = json.loads(self._from.read(size))
        return message


@contextmanager
def editing(text: str, folder: Path) -> Iterator[Editor]:
    """Open a file that holds a text."""
    (file := folder / "app.py").write_text(text)
    command = [sys.executable, "-m", "pyright.langserver", "--stdio"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=folder) as server:
        try:
            yield Editor(server, file)
        finally:
            server.kill()


def test_an_editor_shows_the_arguments_of_the_model(tmp_path: Path) -> None:
    """Where the pointer rests on the name, and while the call is typed."""
    with editing(TYPED, tmp_path) as editor:
        hover = editor.ask_at(ON_THE_NAME, "hover")["contents"]["value"]
        [signature] = editor.ask_at(IN_THE_CALL, "signatureHelp")["signatures"]
    assert f"{SUMMARY}\n\n{ARGUMENTS}" in hover
    assert f"{SUMMARY}\n\n{ARGUMENTS}" in signature["documentation"]["value"]
    assert "temperature: float | None = ..." in signature["label"]


def test_an_editor_says_what_other_calls_are_for(tmp_path: Path) -> None:
    """A constructor's own docstring is shown, not that of its class."""
    imports = (
        "from langchain_segmind import ChatSegmindLlama, SegmindRateLimiter, batch, gateway",
        "from langchain_segmind.journals import PostgresJournal, SqliteJournal",
        "llm = ChatSegmindLlama()",
    )
    calls = {
        "llm.stream(": "Give the answer in pieces",
        "llm.bind_tools(": "tools: Functions, pydantic classes",
        "llm.resume(": "request_id: From an error",
        "SegmindRateLimiter(": "as the account's plan allows",
        "SqliteJournal(": "Keep what was paid for in a SQLite file",
        "PostgresJournal(": "Keep what was paid for in Postgres",
        "batch.run(": "budget: Credits",
        "gateway.Settings(": "--help` says what each",
    }
    with editing("\n".join([*imports, *(f"{call})" for call in calls)]), tmp_path) as editor:
        for line, (call, words) in enumerate(calls.items(), len(imports)):
            shown = editor.ask_at({"line": line, "character": len(call)}, "signatureHelp")
            assert words in shown["signatures"][0]["documentation"]["value"]


def test_help_begins_with_them() -> None:
    told = pydoc.plain(pydoc.render_doc(ChatSegmindLlama)).replace(" |  ", "")
    assert f"{SUMMARY}\n" in told[: told.index("Method resolution order")]
    assert f"{ARGUMENTS}\n" in told[: told.index("Method resolution order")]


def test_the_arguments_that_are_told_are_all_that_are_ours() -> None:
    own = {
        name for kind in OURS for name in kind.__annotations__
    } & ChatSegmindLlama.model_fields.keys()
    told = [name for line in ARGUMENTS.splitlines()[1:] for name in line.split(":")[0].split(", ")]
    assert sorted(map(str.strip, told)) == sorted({*own, "rate_limiter"})
