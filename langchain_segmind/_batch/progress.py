"""What a person sees of a run: a display where rich is there, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from langchain_segmind._batch.tally import Tally, format_money, format_time, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_BETWEEN_LINES = 5.0
_REFRESH = 0.2


class Quiet:
    """Shows nothing: nobody is watching."""

    def show(self, tally: Tally, balance: float | None) -> None:
        """Take note."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question."""
        yield


class Lines(Quiet):
    """Writes a line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a terminal."""
        self._stream = stream
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def show(self, tally: Tally, balance: float | None) -> None:
        """Write a line, if the last one is some time ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            self._stream.write(in_words(tally, balance) + "\n")
            self._stream.flush()


class Display(Quiet):
    """A bar and a table that are drawn anew as results come."""

    def __init__(self, live: Any, draw: Callable[[Tally, float | None], Any]) -> None:
        """Draw on rich's live display."""
        self._live = live
        self._draw = draw
        self._next = 0.0

    def show(self, tally: Tally, balance: float | None) -> None:
        """Draw it, if it was not just drawn."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + _REFRESH
            self.draw(tally, balance)

    def draw(self, tally: Tally, balance: float | None) -> None:
        """Draw it."""
        self._live.update(self._draw(tally, balance), refresh=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()


@contextmanager
def progress() -> Iterator[Quiet]:
    """Give what shows a run on stderr: nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield Quiet()
        return
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        yield Lines(sys.stderr)
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        yield Display(live, draw)


def draw(tally: Tally, balance: float | None) -> Any:
    """Draw how a run goes."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    finished = tally.total - tally.left
    head = Table.grid(padding=(0, 2))
    head.add_row(
        ProgressBar(total=max(tally.total, 1), completed=finished, width=40),
        f"{finished:,} of {tally.total:,}",
        f"{tally.a_minute:,.0f} a minute",
        "" if tally.seconds_left is None else f"{format_time(tally.seconds_left)} to go",
    )
    facts = Table.grid(padding=(0, 2))
    projected = "" if tally.projected is None else f"of {format_money(tally.projected)} projected"
    facts.add_row("done", f"{tally.done:,}", "spent", format_money(_spent(tally)), projected)
    left = "unknown" if balance is None else format_money(balance)
    facts.add_row("failed", f"{tally.failed:,}", "balance", left, "")
    facts.add_row("unknown", f"{tally.unknown:,}")
    return Group(head, facts)


def _spent(tally: Tally) -> float:
    return tally.spent_before + tally.spent
