"""What a person sees and types: answers in colour on a terminal, plain text in a pipe."""

from __future__ import annotations

import contextlib
import logging
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

if sys.platform != "win32":
    import termios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROMPT = "you> "


class Screen:
    """Answers go to stdout; all else goes there too while a person types, else to stderr."""

    def __init__(self) -> None:
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
        text = replace_controls(text)
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
        columns.add_row(Text(f"{label:<7}", "magenta"), Text(replace_controls(text)))
        self._side.print(columns)

    def say(self, text: str, style: str = "") -> None:
        """Say something about the conversation."""
        self._side.print(Text(replace_controls(text), style), soft_wrap=not self._side.is_terminal)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Show that an answer is on its way, where a person watches; what is typed comes after."""
        if not (self.is_interactive and self._out.is_terminal):
            yield
            return
        with _without_echo(), self._out.status("thinking ...", spinner="line"):
            yield

    @contextlib.contextmanager
    def log(self, name: str) -> Iterator[None]:
        """Show what is logged meanwhile: why an answer is waited for, and what went wrong."""
        logger, handler = logging.getLogger(name), _LogHandler(self)
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    def complete(self, words: Callable[[str], Sequence[str]]) -> None:
        """Let the Tab key complete the last word of a line, by what `words` offers for the line."""
        if readline is None:
            return

        def complete(_: str, index: int) -> str | None:
            offered = words(readline.get_line_buffer()[: readline.get_endidx()])
            return offered[index] if index < len(offered) else None

        readline.set_completer_delims(" ")
        readline.set_completer(complete)
        by_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if by_libedit else "tab: complete")


class _LogHandler(logging.Handler):
    """Says what is logged."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(record.getMessage(), "dim" if record.levelno == logging.INFO else "yellow")


@contextlib.contextmanager
def _without_echo() -> Iterator[None]:
    """Keep what is typed off the screen until it is read, which readline then shows."""
    if sys.platform == "win32":
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def replace_controls(text: str) -> str:
    """Take out control characters: a model must not steer the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text.replace("\r\n", "\n")
    )
