"""`langchain-segmind batch` in a terminal: what a person is asked, sees and types."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import RunningGateway, ScriptedEngine, serve
from tests.integration.batches import Batch, echoed
from tests.integration.test_terminal_chat import Terminal
from tests.servers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="there are no pseudo-terminals of this kind"
)


@contextmanager
def terminal(batch: Batch, *options: str, **variables: str) -> Iterator[Terminal]:
    """Run the command where a person sits."""
    files = (str(batch.requests), str(batch.answers))
    given = {"PYTHONPATH": batch.environment["PYTHONPATH"], **variables}
    opened = Terminal(batch.gateway, "batch", *files, *options, **given)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def batch(tmp_path: Path, gateway: RunningGateway) -> Batch:
    """Give the command in a folder of its own."""
    return Batch(tmp_path, gateway)


def test_a_person_is_asked_before_anything_is_paid(batch: Batch) -> None:
    batch.ask(30)
    with terminal(batch) as person:
        shown = person.see("Go on? [y/N] ")
        assert "30 answers; 30 to pay for." in shown
        assert batch.gateway.account.post_count == 0
        person.type("n\n")
        assert person.leave()[0] == 130
    assert batch.gateway.account.post_count == 0
    with terminal(batch) as person:
        person.see("Go on? [y/N] ")
        person.type("y\n")
        code, shown = person.leave()
    assert code == 0
    assert "By the first answers, all of it will cost" in shown
    assert "30 answers paid with" in shown
    assert batch.texts() == echoed(30)


def test_the_second_estimate_stays_on_the_screen(batch: Batch) -> None:
    """The display that follows does not go back over it."""
    batch.ask(30)
    with terminal(batch, "--yes") as person:
        person.leave()
        _, _, after = person.raw.partition("By the first answers")
    assert "\x1b[1A" not in after[: after.index("done")]


@pytest.mark.parametrize(
    ("word", "code", "paid"), [("y\n", 0, 120), ("n\n", 130, 80), ("\x03", 130, 80)]
)
def test_a_person_is_asked_again_where_it_costs_much_more(
    word: str, code: int, paid: int, batch: Batch
) -> None:
    """Yes, no and Ctrl-C are answers."""
    batch.gateway.engine = ScriptedEngine(lambda _: "word " * 900)
    batch.ask(120)
    with terminal(batch) as person:
        person.see("Go on? [y/N] ")
        person.type("y\n")
        assert "By the first answers" in person.see("Go on? [y/N] ")
        wait_for(lambda: batch.gateway.account.post_count == 80)
        person.type(word)
        assert person.leave()[0] == code
    assert batch.gateway.account.post_count == paid


def test_what_is_told_is_broken_between_words(batch: Batch) -> None:
    batch.ask(30)
    with terminal(batch, COLUMNS="60") as person:
        told = person.see("Go on? [y/N] ").splitlines()
    assert max(map(len, told)) <= 60
    assert told[0].startswith("30 answers; 30 to pay for.")


def test_the_display_shows_how_it_goes(batch: Batch) -> None:
    batch.ask(40)
    with terminal(batch, "--yes") as person:
        code, shown = person.leave()
    assert code == 0
    words = ("40 of 40", "rows a minute", "to go", "failed", "credits spent", "projected")
    assert [word for word in words if word not in shown] == []
    assert "left on the account  9.99" in shown


def test_without_rich_lines_are_shown(batch: Batch) -> None:
    async def answer(body: dict[str, Any]) -> str:
        await asyncio.sleep(1.5)
        return f"You said: {body['messages'][-1]['content']}"

    batch.gateway.engine = ScriptedEngine(answer)
    batch.ask(8)
    stub = batch.folder / "rich"
    stub.mkdir()
    (stub / "__init__.py").write_text("raise ImportError('no rich')\n", "utf-8")
    path = f"{batch.folder}:{batch.environment['PYTHONPATH']}"
    with terminal(batch, "--yes", "--in-flight", "1", PYTHONPATH=path) as person:
        person.see(" of 8 done, 0 failed, 0 unknown, ")
        code, _ = person.leave()
    assert code == 0


def test_ctrl_c_ends_it_in_order_and_the_next_run_goes_on(tmp_path: Path) -> None:
    async def answer(body: dict[str, Any]) -> str:
        await asyncio.sleep(0.2)
        return f"You said: {body['messages'][-1]['content']}"

    with serve(engine=ScriptedEngine(answer)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(150)
        with terminal(batch, "--yes", "--in-flight", "10") as person:
            person.see("rows a minute")
            person.interrupt("Stopping")
            code, shown = person.leave()
        assert code == 130
        assert "The same command goes on." in shown
        with terminal(batch, "--yes") as person:
            assert person.leave()[0] == 0
        assert gateway.account.post_count == 150
    assert batch.texts() == echoed(150)


def test_the_second_estimate_comes_before_the_first_hundred_are_paid(tmp_path: Path) -> None:
    """However many may be in flight, the first answers are waited for."""
    go_on = asyncio.Event()

    async def answer(_: dict[str, Any]) -> str:
        await go_on.wait()
        return "word " * 50

    with serve(engine=ScriptedEngine(answer)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(300)
        with terminal(batch, "--yes", "--in-flight", "300") as person:
            wait_for(lambda: gateway.account.post_count == 80)
            gateway.engine = ScriptedEngine(lambda _: "word " * 50)
            go_on._loop.call_soon_threadsafe(go_on.set)  # type: ignore[attr-defined]
            person.see("By the first answers, all of it will cost 0.01")
            assert person.leave()[0] == 0
        assert gateway.account.post_count == 300
