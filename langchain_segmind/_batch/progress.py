"""What a person sees of a run: a display where rich is there, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_segmind._batch.tally import Tally, format_money, format_time, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        yield Progress(in_words, _NEVER)
        return
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        yield Progress(
            lambda *state: sys.stderr.write(f"{in_words(*state)}\n"), SECONDS_BETWEEN_LINES
        )
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        yield Progress(
            lambda *state: live.update(draw(*state), refresh=True), SECONDS_BETWEEN_PICTURES, live
        )


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
    facts.add_row("done", f"{tally.done:,}", "spent", format_money(tally.spent_in_all), projected)
    left = "unknown" if balance is None else format_money(balance)
    facts.add_row("failed", f"{tally.failed:,}", "balance", left, "")
    facts.add_row("unknown", f"{tally.unknown:,}")
    return Group(head, facts)
