"""What a person sees of a run: a display where rich is there, else a line now and then."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from langchain_segmind._batch.report import Tally

SECONDS_BETWEEN_LINES, FRAMES_A_SECOND = 5.0, 5.0


@contextmanager
def show_progress(
    tally: Tally, balance: Callable[[], float | None]
) -> Iterator[AbstractContextManager[object]]:
    """Show on stderr how a run goes, where that is a terminal; give what makes room for a question.

    Args:
        tally: What is shown.
        balance: Gives what the account was last seen to hold.
    """
    if not sys.stderr.isatty():
        yield nullcontext()
        return
    try:
        display = _Display(tally, balance)
    except ImportError:
        with _lines(tally, balance) as turn:
            yield turn
        return
    try:
        yield display.pause()
    finally:
        display.stop()


class _Display:
    """What changes is drawn in its place, with rich."""

    def __init__(self, tally: Tally, balance: Callable[[], float | None]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._make = partial(
            Live,
            console=Console(stderr=True, highlight=False),
            get_renderable=lambda: draw(tally, balance()),
            refresh_per_second=FRAMES_A_SECOND,
        )
        self._start()

    def _start(self) -> None:
        self._live = self._make()
        self._live.start(refresh=True)

    def stop(self) -> None:
        """Leave what was drawn last."""
        self._live.stop()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Take it away for a while; then begin anew: the old one would draw over what was said."""
        self._live.transient = True
        self.stop()
        try:
            yield
        finally:
            self._start()


@contextmanager
def _lines(
    tally: Tally, balance: Callable[[], float | None]
) -> Iterator[AbstractContextManager[object]]:
    """Write a line now and then, in a thread; give the lock that it takes for each."""
    turn, ended = threading.Lock(), threading.Event()

    def write() -> None:
        while not ended.wait(SECONDS_BETWEEN_LINES):
            facts = ", ".join(f"{value} {name}" for name, value in tally.facts(balance()).items())
            with turn:
                sys.stderr.write(f"{facts}\n")
                sys.stderr.flush()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield turn
    finally:
        ended.set()
        thread.join()


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
