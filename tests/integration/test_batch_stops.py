"""`langchain-segmind batch` is killed, interrupted, starved and crowded, and goes on."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import Faults, ScriptedEngine, Settings, serve
from langchain_segmind.journals import SqliteJournal
from tests.integration.batches import Batch, echoed
from tests.servers import PATIENCE, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_segmind.gateway import RunningGateway

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its signals are others")


@pytest.fixture
def batch(tmp_path: Path, gateway: RunningGateway) -> Batch:
    """Give the command in a folder of its own."""
    return Batch(tmp_path, gateway)


def slow(seconds: float) -> ScriptedEngine:
    """Echo after a while."""

    async def answer(body: dict[str, Any]) -> str:
        await asyncio.sleep(seconds)
        return f"You said: {body['messages'][-1]['content']}"

    return ScriptedEngine(answer)


def states(batch: Batch) -> list[str]:
    return [entry.state for entry in SqliteJournal(batch.journal).entries()]


# --- Kills ----------------------------------------------------------------------------------------


def test_killed_six_times_no_row_is_paid_twice_and_few_are_unknown(tmp_path: Path) -> None:
    """Each kill may leave four submits in doubt; all the other rows are written."""
    chance = random.Random(14)
    latency = Settings(post_faults=Faults(latency=0.05))
    with serve(latency, slow(0.1)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(600)
        for kill in range(6):
            process = batch.start("--in-flight", "32")
            posts = gateway.account.post_count + chance.randrange(10, 90)
            wait_for(lambda most=posts: gateway.account.post_count >= most)  # type: ignore[misc]
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL, kill
        code, _, err = batch.run()
        batch.check_bill()
        assert gateway.account.post_count <= 600
    unknown = {line["custom_id"] for line in batch.lines() if line["error"]}
    assert len(unknown) <= 24
    assert code == (1 if unknown else 0), err
    assert batch.texts() == {
        name: text for name, text in echoed(600).items() if name not in unknown
    }


def test_an_answer_that_expired_meanwhile_is_unknown(tmp_path: Path) -> None:
    """Segmind has forgotten the job, so nobody knows whether it was paid for."""
    clock = [time.time()]
    with serve(engine=slow(0.2), clock=lambda: clock[0]) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(4)
        process = batch.start()
        wait_for(lambda: gateway.account.post_count == 4)
        wait_for(lambda: states(batch).count("submitted") == 4)
        process.kill()
        process.communicate()
        clock[0] += 3601
        code, _, err = batch.run()
        assert code == 1
        assert "4 unknown" in err
        assert gateway.account.post_count == 4
        assert batch.run("--retry-unknown")[0] == 0
        assert gateway.account.post_count == 8
    assert batch.texts() == echoed(4)


def test_what_was_submitted_is_fetched_first_the_oldest_ahead(tmp_path: Path) -> None:
    with serve(engine=slow(0.3)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(40)
        lines = batch.requests.read_text("utf-8").splitlines()
        process = batch.start("--in-flight", "8")
        wait_for(lambda: states(batch).count("submitted") >= 8)
        process.kill()
        process.communicate()
        left = [entry.key for entry in SqliteJournal(batch.journal).entries("submitted")]
        before = batch.answers.read_bytes().count(b"\n")
        batch.requests.write_text("".join(f"{line}\n" for line in reversed(lines)), "utf-8")
        assert batch.run("--in-flight", "1")[0] == 0
        new = [line["custom_id"] for line in batch.lines()[before:]]
        assert new[: len(left)] == left
        assert gateway.account.post_count == 40
    assert batch.texts() == echoed(40)


# --- Signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_in_order_within_seconds(name: str, tmp_path: Path) -> None:
    """What was submitted is noted, what came is written, and the next run pays for the rest."""
    with serve(Settings(post_faults=Faults(latency=0.2)), slow(30)) as gateway:
        gateway.engine = slow(0.1)
        batch = Batch(tmp_path, gateway)
        batch.ask(100)
        process = batch.start()
        wait_for(lambda: batch.answers.exists() and batch.answers.stat().st_size > 0)
        gateway.engine = slow(30)
        posts = gateway.account.post_count
        wait_for(lambda: gateway.account.post_count > posts + 8)
        process.send_signal(getattr(signal, name))
        sent = time.monotonic()
        _, err = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - sent < 8
        assert process.returncode == 130
        assert "The same command goes on." in err
        assert "Traceback" not in err
        assert set(states(batch)) <= {"submitted", "answered"}
        assert len(states(batch)) == gateway.account.post_count
        assert len(batch.texts()) == states(batch).count("answered")


def test_the_last_submits_of_a_run_are_waited_for_like_any(tmp_path: Path) -> None:
    """They were dropped at once, and unknown, where no row was left to begin."""
    with serve(Settings(post_faults=Faults(latency=1.5)), slow(30)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(4)
        process = batch.start()
        wait_for(lambda: gateway.account.post_count == 4)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert states(batch) == ["submitted"] * 4


@pytest.mark.parametrize(
    ("options", "count"), [((), 4), (("--no-queue", "--in-flight", "8"), 8)], ids=["queue", "v1"]
)
def test_a_second_signal_ends_what_hangs_at_once_and_tells_it(
    options: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    """Of a gateway that takes everything and answers nothing."""
    with serve(Settings(post_faults=Faults(latency=60))) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(40)
        process = batch.start(*options)
        wait_for(lambda: gateway.account.post_count == count)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        stopping = next(line for line in process.stderr if line.startswith("Stopping"))
        assert f"({count}) is waited for" in stopping
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, err = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - sent < 5
        assert process.returncode == 130
        assert f"{count} unknown, {40 - count} left to do" in err
        assert states(batch) == ["unknown"] * count
        assert [line["error"]["outcome_unknown"] for line in batch.lines()] == [True] * count


def test_submits_that_hang_are_not_waited_for_long(tmp_path: Path) -> None:
    with serve(Settings(post_faults=Faults(latency=60))) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(100)
        process = batch.start()
        wait_for(lambda: gateway.account.post_count == 4)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, err = process.communicate(timeout=PATIENCE)
        assert 5 <= time.monotonic() - sent < 10
        assert process.returncode == 130
        assert "4 unknown, 96 left to do" in err


def test_an_interrupted_run_goes_on_and_pays_for_the_rest(tmp_path: Path) -> None:
    with serve(engine=slow(0.1)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(120)
        process = batch.start("--in-flight", "16")
        wait_for(lambda: gateway.account.post_count > 30)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert batch.run()[0] == 0
        assert gateway.account.post_count == 120
        batch.check_bill()
    assert batch.texts() == echoed(120)


# --- Two at once, a full disk ---------------------------------------------------------------------


def test_a_second_run_on_one_output_is_refused(tmp_path: Path) -> None:
    go_on = threading.Event()

    async def answer(body: dict[str, Any]) -> str:
        await asyncio.to_thread(go_on.wait)
        return f"You said: {body['messages'][-1]['content']}"

    with serve(engine=ScriptedEngine(answer)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(60)
        first = batch.start("--in-flight", "4")
        wait_for(lambda: gateway.account.post_count > 0)
        code, _, err = batch.run()
        go_on.set()
        assert code == 2
        assert "Another run writes" in err
        first.communicate(timeout=PATIENCE)
        assert first.returncode == 0
        assert gateway.account.post_count == 60
    assert batch.texts() == echoed(60)


def test_two_outputs_on_one_journal_pay_once(tmp_path: Path) -> None:
    with serve(engine=slow(0.05)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(150)
        other = Batch(tmp_path, gateway)
        other.answers = tmp_path / "other.jsonl"
        running = [each.start("--journal", "one.sqlite") for each in (batch, other)]
        for process in running:
            process.communicate(timeout=PATIENCE)
        assert [process.returncode for process in running] == [0, 0]
        assert gateway.account.post_count == 150
    assert batch.texts() == other.texts() == echoed(150)


def test_a_full_disk_tears_no_line(batch: Batch) -> None:
    """Nothing is left for the answers; the journal has them all."""
    batch.gateway.engine = ScriptedEngine(lambda _: "word " * 400)
    batch.ask(60)
    batch.run()
    batch.answers.unlink()
    code, _, err = batch.run(largest_file=50_000)
    assert code == 1
    assert "The answers cannot be written" in err
    assert 0 < len(batch.texts()) < 60
    assert batch.run()[0] == 0
    assert len(batch.texts()) == 60
    assert batch.gateway.account.post_count == 60


def test_a_disk_that_fills_up_while_it_pays_ends_the_run(batch: Batch) -> None:
    """What the journal could not note any more may be unknown; the rest is there."""
    batch.gateway.engine = ScriptedEngine(lambda _: "word " * 400)
    batch.ask(100)
    code, _, err = batch.run("--in-flight", "8", largest_file=100_000)
    assert code == 1
    assert "Traceback" not in err
    code = batch.run("--errors", str(batch.errors))[0]
    unknown = batch.lines(batch.errors)
    assert len(unknown) <= 8
    assert code == (1 if unknown else 0)
    assert len(batch.texts()) == 100 - len(unknown)
    assert batch.gateway.account.post_count <= 100


# --- Money ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--max-tokens", "10")])
def test_a_budget_is_never_passed_and_a_larger_one_goes_on(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """Answers are of very different lengths, and the budget is used but for some calls."""
    chance = random.Random(3)
    lengths = [chance.choice((1, 2, 3, 9, 10)) for _ in range(200)]

    def answer(body: dict[str, Any]) -> str:
        return "word " * lengths[int(body["messages"][-1]["content"].split()[-1])]

    with serve(Settings(completion_price=5e-6), ScriptedEngine(answer)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(200)
        code, _, err = batch.run("--budget", "0.003", *options)
        spent = 10.0 - gateway.account.remaining
        assert code == 3
        assert "a larger budget goes on" in err
        assert 0.0015 < spent <= 0.003
        assert batch.run("--budget", "0.003", *options)[0] == 3
        assert 10.0 - gateway.account.remaining <= 0.003
        assert batch.run("--budget", "1", *options)[0] == 0
        assert gateway.account.post_count == 200
        batch.check_bill()
    assert len(batch.texts()) == 200


def test_an_answer_that_is_longer_than_any_before_passes_no_budget(batch: Batch) -> None:
    """Calls say how long their answers may be where their lines do not, and are the same calls."""
    batch.write({"id": n, "prompt": "Say it" if n < 20 else "word " * 3000} for n in range(40))
    code, _, err = batch.run("--budget", "0.03")
    assert code == 3
    assert 10.0 - batch.gateway.account.remaining <= 0.03
    assert re.search(r"\d answers? cut short by max_tokens\n", err)
    assert batch.run("--no-queue")[0] == 0
    assert batch.gateway.account.post_count == 40


def test_the_account_keeps_what_it_is_to_keep(tmp_path: Path) -> None:
    with serve(Settings(credits=0.01)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(250)
        code, _, err = batch.run("--min-credits", "0.009", "--max-tokens", "8")
        assert code == 3
        assert "are to stay" in err
        assert "a top-up goes on" in err
        assert 0.009 <= gateway.account.remaining < 0.0098
        gateway.account.top_up(1)
        assert batch.run("--min-credits", "0.009", "--max-tokens", "8")[0] == 0
    assert batch.texts() == echoed(250)


def test_an_empty_account_ends_the_run(tmp_path: Path) -> None:
    with serve(Settings(credits=0.0002)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(200)
        code, _, err = batch.run()
        assert code == 3
        assert "Top up" in err
        gateway.account.top_up(1)
        while batch.run()[0] == 3:
            pass
        batch.check_bill()
    assert batch.texts() == echoed(200)


def test_status_tells_how_it_stands_and_sends_nothing(batch: Batch) -> None:
    batch.ask(10)
    code, out, _ = batch.run("--status")
    assert code == 0
    assert "0 of 10 answered" in out
    assert "10 not sent" in out
    assert [path.name for path in batch.folder.iterdir()] == ["prompts.jsonl"]
    batch.run("--samples", "2")
    code, out, _ = batch.run("--status", "--samples", "3")
    assert "20 of 30 answered, for 0.00" in out
    assert "10 not sent" in out
    assert batch.gateway.account.post_count == 20
