"""What a person sees and types: answers in colour on a terminal, plain text in a pipe."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

try:  # Editing and history come with the import.
    import readline
except ImportError:  # Windows has none.
    readline = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PROMPT = "you> "


class Screen:
    """Answers go to stdout; all else goes there too while a person types, else to stderr."""

    def __init__(self) -> None:
        """Look at what is connected."""
        self.is_interactive = sys.stdin.isatty()
        if readline is not None:
            # What is pasted is one message, not one to be paid for each line: Python says "off".
            readline.parse_and_bind("set enable-bracketed-paste on")
        self._out = Console(highlight=False)
        self._side = self._out if self.is_interactive else Console(stderr=True, highlight=False)

    def read(self) -> str:
        """Read a message: a line, and more of them while they end with a backslash.

        Raises:
            EOFError: There are no more.
        """
        lines = [input(PROMPT)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(input("...> "))
        return "\n".join(lines)

    def answer(self, text: str) -> None:
        """Show what the model said, rendered where a person watches."""
        text = harmless(text)
        if self._out.is_terminal:
            self._out.print(Markdown(text) if text.strip() else Text("(nothing)", "dim"))
        else:
            self._out.file.write(text + "\n")

    def step(self, label: str, text: str) -> None:
        """Show a call of a tool, or its result."""
        if not self._side.is_terminal:
            self.say(f"{label}: {text}")
            return
        columns = Table.grid(padding=(0, 0, 0, 2))
        columns.add_row(Text(f"{label:<7}", "magenta"), Text(harmless(text)))
        self._side.print(columns)

    def say(self, text: str, style: str = "") -> None:
        """Say something about the conversation."""
        self._side.print(Text(harmless(text), style), soft_wrap=not self._side.is_terminal)

    def waiting(self) -> AbstractContextManager[object]:
        """Show that an answer is on its way, where a person watches."""
        if self.is_interactive and self._out.is_terminal:
            return self._out.status("thinking ...", spinner="line")
        return contextlib.nullcontext()


def harmless(text: str) -> str:
    """Take out control characters: a model must not steer the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text.replace("\r\n", "\n")
    )
