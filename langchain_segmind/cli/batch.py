"""`langchain-segmind batch`: from a file of requests to a file of answers."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import ExitStack, aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from langchain_segmind import batch
from langchain_segmind._batch import report
from langchain_segmind._batch.budget import Budget, BudgetReachedError
from langchain_segmind._batch.history import History, read_history
from langchain_segmind._batch.output import (
    ForeignFileError,
    OutputFile,
    OutputInUseError,
    count_answers,
)
from langchain_segmind._batch.progress import progress
from langchain_segmind._batch.reading import Check, Defaults, RequestFile
from langchain_segmind._batch.requests import key_of
from langchain_segmind._batch.runner import Runner, Sample, prepare
from langchain_segmind._batch.schemas import Form, load_schema
from langchain_segmind._batch.tally import Tally, format_money
from langchain_segmind.chat_models import ChatSegmindLlama
from langchain_segmind.exceptions import (
    SegmindAuthenticationError,
    SegmindError,
    SegmindInsufficientCreditsError,
)
from langchain_segmind.rate_limiters import SegmindRateLimiter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from langchain_segmind._batch.progress import Quiet
    from langchain_segmind._batch.results import BatchResult
    from langchain_segmind._journals.entries import Journal

ALL_ANSWERED, SOME_FAILED, BAD_INPUT, NO_MONEY, INTERRUPTED = 0, 1, 2, 3, 130
JOB_SECONDS = 3300.0
"""How long an answer is waited for: Segmind keeps it for an hour."""
RETRIES = 5
FIRST_ANSWERS, PILOT = 20, 80
"""How many answers the second estimate is made from, and how many calls are begun before it: it
comes before the first hundred are paid."""


class UsageError(Exception):
    """The command cannot begin; nothing was sent."""


def run_batch(options: argparse.Namespace) -> int:
    """Run the command; give its exit code."""
    # What goes wrong is in the files and in the bill, and a job that is left is in the journal.
    logging.getLogger("langchain_segmind").setLevel(logging.ERROR)
    try:
        with ExitStack() as stack:
            return _Command(options, stack).run()
    except ValidationError as error:
        for each in error.errors():
            _say(f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}")
    except OutputInUseError as error:
        _say(f"Another run writes {error}. Nothing was sent.")
    except ForeignFileError as error:
        _say(f"{error} holds something else than answers: take another file. Nothing was sent.")
    except (UsageError, SegmindError, OSError, ValueError) as error:
        _say(f"{error}")
    return BAD_INPUT


class _Command:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._journal = _journal_at(options.journal or f"{options.answers}.sqlite")
        self._llm = _model(options, self._journal)
        schema = None if options.schema is None else load_schema(options.schema)
        self._form = None if schema is None else Form(self._llm, schema)
        self._requests = RequestFile(options.requests, Defaults(options.system))
        stack.callback(self._requests.close)
        self._is_interrupted = False

    def run(self) -> int:
        """Check, ask, answer, and tell the bill."""
        options = self._options
        files = [name for name in (options.answers, options.errors) if name is not None]
        if len({Path(name).resolve() for name in files}) < len(files) or any(
            self._requests.is_file(name) for name in files
        ):
            raise UsageError("REQUESTS, ANSWERS and --errors have to be different files.")
        check = self._requests.check(self._doubt)
        if check.problem_count:
            _say(report.describe_problems(self._requests.name, check))
            return BAD_INPUT
        self._stack.callback(self._journal.close)
        if options.status:
            return self._tell_status(check)
        return self._answer(check)

    def _doubt(self, request: Any) -> None:
        prepare(self._llm, request, self._form)

    def _history(self, check: Check) -> History:
        path = getattr(self._journal, "path", None)
        if path is not None and not Path(path).exists():
            return History()
        return read_history(self._journal, check.ids, self._options.samples)

    def _tell_status(self, check: Check) -> int:
        total = check.count * self._options.samples
        written = count_answers(self._options.answers)
        sys.stdout.write(report.describe_history(self._history(check), total, written) + "\n")
        return ALL_ANSWERED

    # --- A run ----------------------------------------------------------------------------------

    def _answer(self, check: Check) -> int:
        options = self._options
        output = self._stack.enter_context(closing(OutputFile(options.answers)))
        errors = output
        if options.errors is not None:
            errors = self._stack.enter_context(closing(OutputFile(options.errors)))
            errors.clear()
        history = self._history(check)
        total = check.count * options.samples
        known = history.states["answered"] + history.states["submitted"]
        left = max(total - max(known, len(output.answered)), 0)
        if left and not self._agree(check, history, left):
            _say("Nothing was sent.")
            return INTERRUPTED
        run = _Run(self._llm, options, output, errors, Tally(total, history.spent))
        ledger = self._llm._connected().account.ledger  # noqa: SLF001 - of this package.
        run.runner = Runner(
            self._llm,
            self._samples(history),
            in_flight=options.in_flight or max(batch.IN_FLIGHT, options.requests_per_minute or 0),
            budget=Budget(
                options.budget,
                spent=history.may_be_spent,
                min_credits=options.min_credits,
                balance=lambda: ledger.balance,
            ),
            form=self._form,
            schema_retries=options.schema_retries,
            is_written=output.answered.__contains__,
            pilot=PILOT,
        )
        return asyncio.run(run.answer_all(is_paid_for=not left))

    def _agree(self, check: Check, history: History, left: int) -> bool:
        """Tell what it may cost, and ask for a yes where there is a person."""
        options = self._options
        guess = report.estimate(check, left, options.max_tokens)
        answered = history.states["answered"]
        _say(report.describe_plan(check, options.samples, left, guess, answered))
        if options.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        sys.stderr.write("Go on? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def _samples(self, history: History) -> Iterator[Sample]:
        """Give what is to be answered: first, the oldest ahead, what was submitted before."""
        submitted = history.submitted
        if submitted:
            early = [each for each in self._all_samples() if _key(each) in submitted]
            yield from sorted(early, key=lambda each: submitted[_key(each)])
        for sample in self._all_samples():
            if not submitted or _key(sample) not in submitted:
                yield sample

    def _all_samples(self) -> Iterator[Sample]:
        for request in self._requests.requests():
            for number in range(self._options.samples):
                yield Sample(request, number)


class _Run:
    """What is done with results as they come."""

    runner: Runner

    def __init__(
        self,
        llm: ChatSegmindLlama,
        options: argparse.Namespace,
        output: OutputFile,
        errors: OutputFile,
        tally: Tally,
    ) -> None:
        self._llm = llm
        self._options = options
        self._output = output
        self._errors = errors
        self._tally = tally
        self._ledger = llm._connected().account.ledger  # noqa: SLF001 - of this package.
        self._interrupts = 0
        self._failure: Exception | None = None

    async def answer_all(self, *, is_paid_for: bool) -> int:
        """Answer all of it, tell the bill, and give the exit code."""
        started = time.monotonic()
        async with self._llm:
            if not is_paid_for:
                try:
                    await self._llm.aget_credits()
                except (SegmindAuthenticationError, SegmindInsufficientCreditsError) as error:
                    self._failure = error
                except SegmindError:
                    pass  # The calls will tell.
            if self._failure is None:
                self._catch_signals()
                with progress() as display:
                    await self._write_all(display)
        if self._tally.paid or self._tally.left or self._tally.total:
            _say(report.bill(self._tally, self._ledger.balance, time.monotonic() - started))
        return self._exit_code(self._failure or self.runner.failure)

    async def _write_all(self, display: Quiet) -> None:
        ticker = asyncio.create_task(self._tick(display))
        try:
            async with aclosing(self.runner.results()) as results:  # type: ignore[type-var]
                async for result in results:
                    self._tally.count(result)
                    self._write(result)
                    display.show(self._tally, self._ledger.balance)
                    if self.runner.finished >= FIRST_ANSWERS and not self.runner.go_on.is_set():
                        self._estimate_again(display)
                        self.runner.go_on.set()
        finally:
            ticker.cancel()
            display.show(self._tally, self._ledger.balance)

    async def _tick(self, display: Quiet) -> None:
        while True:
            display.show(self._tally, self._ledger.balance)
            await asyncio.sleep(0.5)

    def _write(self, result: BatchResult) -> None:
        if self._failure is not None:
            return
        if result.error is None and (result.raw is None or _key(result) in self._output.answered):
            return  # It is written already.
        file = self._output if result.error is None else self._errors
        try:
            file.write(result.as_line(with_sample=self._options.samples > 1))
        except OSError as error:
            self._failure = error
            self.runner.stop()

    def _estimate_again(self, display: Quiet) -> None:
        if not self._tally.paid or not self._tally.left:
            return
        projected = format_money(self._tally.projected or 0.0)
        with display.paused():
            _say(f"By the first answers, all of it will cost {projected} credits.")

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(name, self._interrupt)
            except NotImplementedError:  # Windows.
                signal.signal(name, lambda *_: loop.call_soon_threadsafe(self._interrupt))

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            self.runner.abort()
            return
        _say("\nStopping: what is being submitted is noted first. Once more stops at once.")
        self.runner.stop()

    def _exit_code(self, failure: Exception | None) -> int:
        tally = self._tally
        if self._interrupts:
            _say(f"Interrupted: {tally.left:,} are left to do. The same command goes on.")
            return INTERRUPTED
        if isinstance(failure, BudgetReachedError):
            _say(f"{failure} {tally.left:,} are left to do; a larger budget goes on.")
            return NO_MONEY
        if failure is not None:
            _say(f"{_described(failure)} {tally.left:,} are left to do; the same command goes on.")
            if isinstance(failure, SegmindInsufficientCreditsError):
                return NO_MONEY
            return BAD_INPUT if isinstance(failure, SegmindAuthenticationError) else SOME_FAILED
        return SOME_FAILED if tally.failed or tally.unknown or tally.left else ALL_ANSWERED


def _described(failure: Exception) -> str:
    if isinstance(failure, OSError):
        return (
            f"The answers cannot be written ({failure.strerror or failure}). What was paid for is "
            "in the journal, and is written by the next run for nothing."
        )
    if isinstance(failure, SegmindError):
        return str(failure)
    return f"{type(failure).__name__}: {failure}."


def _key(each: Sample | BatchResult) -> str:
    if isinstance(each, Sample):
        return key_of(each.request.custom_id, each.number)
    return key_of(each.custom_id, each.sample)


def _journal_at(place: str) -> Journal:
    from langchain_segmind.journals import PostgresJournal, SqliteJournal

    return PostgresJournal(place) if "://" in place else SqliteJournal(place)


def _model(options: argparse.Namespace, journal: Journal) -> ChatSegmindLlama:
    pace = options.requests_per_minute
    settings = {
        "model": options.model,
        "base_url": options.base_url,
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "min_credits": options.min_credits,
        "rate_limiter": None if pace is None else SegmindRateLimiter(requests_per_minute=pace),
        # What is only looked at needs no account.
        "api_key": "none" if options.status else None,
    }
    return ChatSegmindLlama(
        journal=journal,
        queue=not options.no_queue,
        queue_timeout=JOB_SECONDS,
        max_retries=RETRIES,
        retry_unknown_outcome=options.retry_unknown,
        **{name: value for name, value in settings.items() if value is not None},
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
