"""What a person sees of a run: a display where rich is there, else a line now and then."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, nullcontext
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
        from rich.live import Live
    except ImportError:
        shown = _lines(tally, balance)
    else:
        shown = _display(Live, tally, balance)
    with shown as turn:
        yield turn


@contextmanager
def _display(
    live: Any, tally: Tally, balance: Callable[[], float | None]
) -> Iterator[AbstractContextManager[object]]:
    """Draw what changes in its place; give what takes it away for a while."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)

    def show() -> Any:
        shown = live(
            console=console,
            get_renderable=lambda: draw(tally, balance()),
            refresh_per_second=FRAMES_A_SECOND,
        )
        shown.start(refresh=True)
        return shown

    shown = show()

    @contextmanager
    def pause() -> Iterator[None]:
        nonlocal shown
        shown.transient = True
        shown.stop()
        try:
            yield
        finally:
            shown = show()  # The one before would draw over what was said meanwhile.

    try:
        yield pause()
    finally:
        shown.stop()


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
