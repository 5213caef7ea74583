"""`langchain-segmind batch`: from a file of requests to a file of answers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, aclosing, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from textwrap import TextWrapper
from typing import TYPE_CHECKING

from pydantic import ValidationError

from langchain_segmind import batch
from langchain_segmind._batch import report
from langchain_segmind._batch.budget import Budget, BudgetReachedError
from langchain_segmind._batch.history import History, read_history
from langchain_segmind._batch.output import OutputFile, count_answers
from langchain_segmind._batch.progress import show_progress
from langchain_segmind._batch.reading import RequestFile
from langchain_segmind._batch.runner import Runner, Sample, prepare
from langchain_segmind._batch.schemas import AnswerSchema, load_schema
from langchain_segmind.chat_models import nearest_model
from langchain_segmind.cli.batch_options import model_of
from langchain_segmind.cli.setup_checks import describe_faults
from langchain_segmind.exceptions import (
    SegmindAuthenticationError,
    SegmindError,
    SegmindInsufficientCreditsError,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from langchain_segmind._batch.reading import Check
    from langchain_segmind._batch.results import BatchResult
    from langchain_segmind._journals.entries import Journal
    from langchain_segmind._protocol.account import Ledger
    from langchain_segmind.chat_models import ChatSegmindLlama

ALL_ANSWERED, SOME_FAILED, BAD_INPUT, NO_MONEY, INTERRUPTED = 0, 1, 2, 3, 130
FIRST_ANSWERS, PILOT = 20, 80
"""How many answers the second estimate is made from, and how many calls are begun before it: it
comes before the first hundred are paid."""
LONG_WAIT = 2.0
"""Seconds: shorter ones are not told."""
MUCH_MORE = 1.5
"""How many times the first estimate the second has to be for another question."""


def run_batch(options: argparse.Namespace) -> int:
    """Run the command; give its exit code."""
    logger = logging.getLogger("langchain_segmind")
    logger.setLevel(logging.INFO)
    logger.addHandler(_LogHandler())
    try:
        with ExitStack() as stack:
            return _Command(options, stack).run()
    except ValidationError as error:
        _say(describe_faults(error))
    except OSError as error:
        _say(f"{error.strerror}: {error.filename}" if error.filename else f"{error}")
    except (SegmindError, ValueError) as error:
        _say(f"{error}")
    return BAD_INPUT


class _LogHandler(logging.Handler):
    """Tells errors, and a long wait that Segmind asked for, once for all calls that it holds.

    What else goes wrong is in the files and in the bill, and a job that is left is in the journal.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._waits_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or self._starts_wait(record):
            _say(record.getMessage())

    def _starts_wait(self, record: logging.LogRecord) -> bool:
        seconds, now = getattr(record, "wait_seconds", 0.0), time.monotonic()
        if seconds < LONG_WAIT or now < self._waits_until:
            return False
        self._waits_until = now + seconds
        return True


class _Command:
    """One run of the command, up to where calls are made."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._llm = model_of(options)
        self._journal: Journal = self._llm.journal
        self._journal_path: str | None = getattr(self._journal, "path", None)
        schema = None if options.schema is None else load_schema(options.schema)
        self._schema = None if schema is None else AnswerSchema(self._llm, schema)
        self._requests = RequestFile(options.requests, options.system)
        stack.callback(self._requests.close)

    def run(self) -> int:
        """Check, ask, answer, and tell the bill."""
        options = self._options
        files = options.requests, options.answers, options.errors, self._journal_path
        paths = [Path(name).resolve() for name in files if name]
        if len(set(paths)) < len(paths):
            raise ValueError(
                "REQUESTS, ANSWERS, --errors and --journal have to be different files."
            )
        check = self._requests.check(lambda request: prepare(self._llm, request, self._schema))
        if check.problem_count:
            _say(report.describe_problems(self._requests.name, check))
            return BAD_INPUT
        self._stack.callback(self._journal.close)
        return self._tell_status(check) if options.status else self._answer(check)

    def _tell_status(self, check: Check) -> int:
        samples, history = self._options.samples, History()
        path = self._journal_path  # Nothing is written, not even an empty journal.
        if path is None or Path(path).exists():
            history = read_history(self._journal, check.ids, samples)
        written = count_answers(self._options.answers)
        sys.stdout.write(report.describe_history(history, check.count * samples, written))
        return ALL_ANSWERED

    def _answer(self, check: Check) -> int:
        options = self._options
        output = errors = self._stack.enter_context(closing(OutputFile(options.answers)))
        if options.errors is not None:
            errors = self._stack.enter_context(closing(OutputFile(options.errors)))
            errors.clear()
        history = read_history(self._journal, check.ids, options.samples)
        states, total = history.states, check.count * options.samples
        known = states["answered"] + states["submitted"]
        if not options.retry_unknown:
            known += states["unknown"]
        left = max(total - max(known, len(output.answered)), 0)
        guess, plan = report.estimate(
            check, options.samples, left, states["answered"], options.max_tokens
        )
        if not total:
            _say(f"There are no requests in {self._requests.name}.")
        if left and not self._is_agreed(plan):
            return INTERRUPTED
        ledger = self._llm._connected().account.ledger  # noqa: SLF001 - of this package.
        runner = self._runner(history, output, ledger)
        tally = report.Tally(total, history.spent)
        run = _Run(self._llm, options, output, errors, tally, runner, ledger, guess)
        return asyncio.run(run.answer_all(has_to_pay=left > 0))

    def _is_agreed(self, plan: str) -> bool:
        """Tell what is to be paid, and ask where a person is there."""
        _say(plan)
        if meant := nearest_model(self._llm.model):
            _say(f"The model {self._llm.model} is not known here. Did you mean {meant}?")
        if _is_asked(self._options) and not _is_yes():
            _say("Nothing was sent.")
            return False
        return True

    def _runner(self, history: History, output: OutputFile, ledger: Ledger) -> Runner:
        options = self._options
        return Runner(
            self._llm,
            self._samples(history.sent),
            in_flight=options.in_flight or max(batch.IN_FLIGHT, options.requests_per_minute or 0),
            budget=Budget(
                options.budget,
                spent=history.spent,
                min_credits=options.min_credits,
                balance=lambda: ledger.balance,
            ),
            schema=self._schema,
            schema_retries=options.schema_retries,
            is_written=output.answered.__contains__,
            pilot=PILOT,
        )

    def _samples(self, order: Mapping[str, int]) -> Iterator[Sample]:
        """Give what is to be answered: first, the oldest ahead, what earlier runs have sent."""
        if order:
            early = [each for each in self._all_samples() if each.key in order]
            yield from sorted(early, key=lambda each: order[each.key])
        yield from (each for each in self._all_samples() if each.key not in order)

    def _all_samples(self) -> Iterator[Sample]:
        numbers = range(self._options.samples)
        return (Sample(each, n) for each in self._requests.requests() for n in numbers)


@dataclass(slots=True)
class _Run:
    """The calls, and what is done with results as they come."""

    llm: ChatSegmindLlama
    options: argparse.Namespace
    output: OutputFile
    errors: OutputFile
    tally: report.Tally
    runner: Runner
    ledger: Ledger
    guess: float
    """Credits that the rest was estimated to cost before the first answer."""
    interrupts: int = 0
    failure: Exception | None = None
    """What ended it, if not the runner."""

    async def answer_all(self, *, has_to_pay: bool) -> int:
        """Answer all of it, tell the bill, and give the exit code."""
        started = time.monotonic()
        async with self.llm:
            if has_to_pay:
                try:
                    await self.llm.aget_credits()
                except (SegmindAuthenticationError, SegmindInsufficientCreditsError) as error:
                    self.failure = error
                except SegmindError:
                    pass  # The calls will tell.
            if self.failure is None:
                self._catch_signals()
                await self._write_all()
        if self.tally.total:
            _say(report.bill(self.tally, self.ledger.balance, time.monotonic() - started))
        return self._exit_code(self.failure or self.runner.failure)

    async def _write_all(self) -> None:
        estimate: asyncio.Task[None] | None = None
        with show_progress(self.tally, lambda: self.ledger.balance) as pause:
            try:
                async with aclosing(self.runner.results()) as results:
                    async for result in results:
                        self.tally.count(result)
                        self._write(result)
                        if self.runner.finished >= FIRST_ANSWERS and estimate is None:
                            estimate = asyncio.create_task(self._estimate_again(pause))
            finally:
                if estimate is not None:
                    estimate.cancel()
                    await asyncio.wait([estimate])

    def _write(self, result: BatchResult) -> None:
        if self.failure is not None:
            return
        if result.error is None and (result.raw is None or result.key in self.output.answered):
            return  # It is written already.
        file = self.output if result.error is None else self.errors
        try:
            file.write(result.as_line(with_sample=self.options.samples > 1))
        except OSError as error:
            self.failure = error
            self.runner.stop()

    async def _estimate_again(self, pause: AbstractContextManager[object]) -> None:
        """Tell what the first answers say of the rest, and ask again where it is much more."""
        tally = self.tally
        try:
            if not tally.paid or not tally.left:
                return
            cost = tally.projected or 0.0
            with pause:
                money = report.format_money(cost)
                _say(f"By the first answers, all of it will cost {money} credits.")
                is_much_more = cost - tally.spent_before > MUCH_MORE * self.guess
                if is_much_more and _is_asked(self.options) and not await _is_yes_meanwhile():
                    self.interrupts += 1
                    self.runner.stop()
        finally:
            self.runner.go_on.set()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(name, self._interrupt)
            except NotImplementedError:  # Windows.
                signal.signal(name, lambda *_: loop.call_soon_threadsafe(self._interrupt))

    def _interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            self.runner.abort()
            return
        self.runner.stop()
        count, seconds = self.runner.sending, self.runner.grace
        _say(
            f"\nStopping: what is on its way ({count:,}) is waited for, {seconds:g} s at most. "
            "Once more stops at once, and leaves it unknown."
        )

    def _exit_code(self, failure: Exception | None) -> int:
        tally = self.tally
        left = f"{tally.left:,} are left to do"
        if self.interrupts:
            _say(f"Interrupted: {left}. The same command goes on.")
            return INTERRUPTED
        if isinstance(failure, BudgetReachedError):
            more = "a top-up" if self.options.budget is None else "a larger budget"
            _say(f"{failure} {left}; {more} goes on.")
            return NO_MONEY
        if failure is not None:
            _say(f"{_describe(failure)} {left}; the same command goes on.")
            if isinstance(failure, SegmindInsufficientCreditsError):
                return NO_MONEY
            return BAD_INPUT if isinstance(failure, SegmindAuthenticationError) else SOME_FAILED
        return SOME_FAILED if tally.failed or tally.unknown or tally.left else ALL_ANSWERED


def _describe(failure: Exception) -> str:
    if isinstance(failure, OSError):
        return (
            f"The answers cannot be written ({failure.strerror or failure}). What was paid for is "
            "in the journal, and is written by the next run for nothing."
        )
    is_ours = isinstance(failure, SegmindError)
    return str(failure) if is_ours else f"{type(failure).__name__}: {failure}."


def _is_asked(options: argparse.Namespace) -> bool:
    """Tell whether a person is there to be asked."""
    return not options.yes and sys.stdin.isatty() and sys.stderr.isatty()


def _is_yes() -> bool:
    """Ask, and read past Python's buffer, whose lock would hold up the end of the process."""
    sys.stderr.write("Go on? [y/N] ")
    sys.stderr.flush()
    return os.read(sys.stdin.fileno(), 1024).strip().lower() in {b"y", b"yes"}


async def _is_yes_meanwhile() -> bool:
    """Ask in a thread that nobody waits for at the end: what is in flight goes on."""
    loop, answers = asyncio.get_running_loop(), asyncio.Queue[bool]()

    def ask() -> None:
        answer = _is_yes()
        with suppress(RuntimeError):  # It has ended.
            loop.call_soon_threadsafe(answers.put_nowait, answer)

    threading.Thread(target=ask, daemon=True).start()
    return await answers.get()


def _say(text: str) -> None:
    """Write to stderr, where a person watches in lines that end between words."""
    if sys.stderr.isatty():
        wrapper = TextWrapper(
            get_terminal_size().columns, break_long_words=False, break_on_hyphens=False
        )
        text = "\n".join(wrapper.fill(line) for line in text.split("\n"))
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
