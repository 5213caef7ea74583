"""What a person sees of a run: a display where rich is there, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_segmind._batch.report import Tally

SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_PICTURES = 5.0, 0.2
_NEVER = float("inf")


class Progress:
    """Shows how a run goes, now and then."""

    def __init__(
        self, show: Callable[[Tally, float | None], object], seconds: float, live: Any = None
    ) -> None:
        """Say what shows it.

        Args:
            show: Shows it.
            seconds: From one time to the next.
            live: Rich's display, which gives way to a question.
        """
        self._show, self._seconds, self._live = show, seconds, live
        self._next = time.monotonic() + (0.0 if live else seconds)

    def show(self, tally: Tally, balance: float | None, *, is_last: bool = False) -> None:
        """Show it, if the last time is some time ago; a display shows the end as well."""
        if (now := time.monotonic()) >= self._next or (is_last and self._live):
            self._next = now + self._seconds
            self._show(tally, balance)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question."""
        self._next = _NEVER
        if self._live:
            self._live.stop()
        try:
            yield
        finally:
            if self._live:
                self._live.start()
            self._next = self._seconds if self._seconds == _NEVER else 0.0


@contextmanager
def progress() -> Iterator[Progress]:
    """Give what shows a run on stderr: nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield Progress(_write, _NEVER)
        return
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        yield Progress(_write, SECONDS_BETWEEN_LINES)
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        yield Progress(
            lambda *state: live.update(draw(*state), refresh=True), SECONDS_BETWEEN_PICTURES, live
        )


def _write(tally: Tally, balance: float | None) -> None:
    facts = tally.facts(balance).items()
    sys.stderr.write(", ".join(f"{value} {name}" for name, value in facts) + "\n")
    sys.stderr.flush()


def draw(tally: Tally, balance: float | None) -> Any:
    """Draw how a run goes: a bar, and two columns of facts."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    facts = list(tally.facts(balance).items())
    for left, right in zip_longest(facts[:4], facts[4:], fillvalue=("", "")):
        table.add_row(*left, *right)
    bar = Table.grid()
    bar.add_row(ProgressBar(max(tally.total, 1), tally.total - tally.left, width=60))
    return Group(bar, table)
