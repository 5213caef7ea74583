"""A call whose identity a journal keeps: its answer is paid for once, whoever asks for it again.

An entry is written before each POST and moved on after it, so that a kill leaves no more in doubt
than what was on its way. From the moment the journal has a request id, anyone can fetch the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias, Unpack

from langchain_segmind._journals.entries import Change, Journal, JournalEntry
from langchain_segmind._journals.identity import DELIVERIES, fingerprint_of
from langchain_segmind._protocol.answers import Accounting, Finished, read_output, read_response
from langchain_segmind._protocol.calls import may_be_billed
from langchain_segmind._protocol.queue import read_request_id, warn_of_lost_submit
from langchain_segmind._protocol.responses import (
    UnusableAnswerError,
    completion_from,
    decode_json,
    words_of,
)
from langchain_segmind._protocol.submit_limit import SUBMITS, SubmitLimit
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Command,
    EnterSubmit,
    Flow,
    JournalFailure,
    Outcome,
    Request,
    Response,
    Sleep,
    TransportFailure,
    UseJournal,
)
from langchain_segmind.credits import CACHED, Credits
from langchain_segmind.exceptions import (
    SegmindError,
    SegmindIdempotencyError,
    SegmindJobFailedError,
    SegmindJobNotFoundError,
    SegmindJournalError,
    SegmindOutcomeUnknownError,
    SegmindResponseError,
    SegmindTimeoutError,
)

if TYPE_CHECKING:
    from langchain_segmind._journals.identity import Scope
    from langchain_segmind._protocol.calls import Exchanges

Recorded: TypeAlias = Generator[
    Command, Outcome, tuple[Outcome, JournalEntry | None, Finished | None]
]
"""What a POST came to, the entry that says so, and the answer that it keeps."""

logger = logging.getLogger("langchain_segmind")

LEASE = 600.0
"""Seconds that a claim without a deadline of its own is held for."""
LEASE_MARGIN = 10.0
"""Seconds beyond a request's deadline in which its outcome is still being written."""
FIRST_LOOK, LOOK_GROWTH, LONGEST_LOOK = 0.02, 1.5, 1.0
"""Seconds between two looks at an entry that someone else is sending."""


def answer_once(
    exchanges: Exchanges,
    model: str,
    body: bytes,
    journal: Journal,
    scope: Scope,
    *,
    account: tuple[str, ...],
) -> Flow[Finished]:
    """Answer a call under its identity, see `Exchanges.complete_once`."""
    fingerprint = fingerprint_of(*account, model, body)
    submits = SUBMITS.get() if exchanges.through_queue else None
    with DELIVERIES.get().reserve(scope, fingerprint) as key:
        call = JournaledCall(exchanges, model, body, journal, key, fingerprint, submits)
        return (yield from call.answer())


@dataclass(slots=True)
class JournaledCall:
    """One call, and what it may do to be answered."""

    exchanges: Exchanges
    model: str
    body: bytes
    journal: Journal
    key: str
    fingerprint: str
    submits: SubmitLimit | None
    """Bounds the submits under way; None where calls do not go through the queue."""
    doubt: str | None = field(default=None, init=False)
    """Why an earlier attempt may have been billed; one that cost nothing does not end that."""
    lost: int = field(default=0, init=False)
    """Attempts of this call of which that is true."""
    has_turn: bool = field(default=False, init=False)
    """Whether it is counted among the submits under way."""

    def answer(self) -> Flow[Finished]:
        """Give the answer that the journal has, or that is fetched, or that is paid for now.

        Raises:
            SegmindIdempotencyError: The key was used for something else.
            SegmindOutcomeUnknownError: It may have been paid for, and cannot be fetched.
            SegmindJournalError: The journal cannot be used; nothing was sent.
            SegmindError: What the exchange came to.
        """
        asked, looks = self.exchanges, 0
        timeout = asked.queue_timeout if asked.through_queue else asked.timeout
        deadline = None if timeout is None else asked.clock.monotonic() + timeout
        while True:
            entry = yield from self._look_up()
            if entry is None:
                finished = yield from self._send_or_give_way()
            elif entry.state == "answered":
                return _read(entry)
            elif entry.state == "submitted":
                finished = yield from self._fetch(entry)
            elif entry.state == "sending":
                yield from self._wait(looks, deadline)
                looks += 1
                continue
            elif asked.retry_unknown_outcome:
                self.doubt = entry.error or ""
                finished = yield from self._send_or_give_way()
            else:
                raise _describe_unknown(self.key, entry)
            if finished is not None:
                return finished

    def _look_up(self) -> Flow[JournalEntry | None]:
        entry = yield UseJournal(self.journal, "get", (self.key,))
        _check(entry)
        if entry is not None and entry.fingerprint != self.fingerprint:
            raise SegmindIdempotencyError(
                f"The idempotency key {self.key!r} was first used with another prompt, model, "
                "host, account or parameter. Nothing was sent. Use another key for another call, "
                f"or journal.forget({self.key!r})."
            )
        return entry  # type: ignore[no-any-return]

    def _wait(self, looks: int, deadline: float | None) -> Flow[None]:
        seconds = min(FIRST_LOOK * LOOK_GROWTH ** min(looks, 40), LONGEST_LOOK)
        if deadline is not None and self.exchanges.clock.monotonic() + seconds > deadline:
            raise SegmindTimeoutError(
                f"Another call with the idempotency key {self.key!r} is being sent, and was not "
                "answered in time. Nothing was sent by this one; ask again with the same key.",
                outcome_unknown=True,
            )
        yield Sleep(seconds)

    def _fetch(self, entry: JournalEntry) -> Flow[Finished | None]:
        """Fetch the answer of a job; None where the entry has to be looked at anew."""
        try:
            finished = yield from self.exchanges.fetch(entry.request_id or "")
        except SegmindJobNotFoundError as error:
            lost = {"state": "unknown", "error": error.message}
            _check((yield UseJournal(self.journal, "update", (entry,), lost)))
            return None
        except SegmindJobFailedError:
            # It was not billed: this call is sent like a new one.
            _check((yield UseJournal(self.journal, "release", (entry,))))
            return None
        except SegmindResponseError as error:
            yield from self._keep_unusable(entry, error)
            raise
        yield from self._move(entry, **_to_keep(finished.raw, finished.accounting))
        return finished

    # --- Sending --------------------------------------------------------------------------------

    def _send_or_give_way(self) -> Flow[Finished | None]:
        """Send, and write down each POST before and after; None where someone else was faster."""
        flow = self.exchanges.complete(self.model, self.body)
        outcome, entry, finished = None, None, None
        try:
            while True:
                command = flow.send(outcome)
                if isinstance(command, Request) and command.method == "POST":
                    outcome, entry, finished = yield from self._record(command)
                    self._end_turn()
                    continue
                if isinstance(command, AcquireSlot) and not command.poll:
                    yield from self._take_turn()
                outcome = yield command
        except StopIteration as stop:
            answer: Response | Finished = finished or stop.value
        except _OvertakenError:
            return None
        except SegmindJobFailedError:
            yield from self._drop(entry)
            raise
        except SegmindResponseError as error:
            yield from self._keep_unusable(entry, error)
            raise
        finally:
            self._end_turn()
            # Thrown, and not closed: it warns of what it is made to forget, and the journal has it.
            with suppress(_OvertakenError):
                flow.throw(_OvertakenError())
        if isinstance(answer, Response):
            return read_response(answer)  # Raises: it was no answer before, either.
        if entry is not None and finished is None:
            yield from self._move(entry, **_to_keep(answer.raw, answer.accounting))
        return answer

    def _take_turn(self) -> Flow[None]:
        """Wait until few submits are under way: a slot is taken when one may go, and none before.

        What the limiter lets go is then sent at once, and counts in the minute in which it goes.
        """
        if self.submits is not None and not self.has_turn:
            yield EnterSubmit(self.submits)
            self.has_turn = True

    def _end_turn(self) -> None:
        if self.submits is not None and self.has_turn:
            self.has_turn = False
            self.submits.release()

    def _record(self, request: Request) -> Recorded:
        entry = yield from self._claim(request)
        try:
            outcome = yield request
        except GeneratorExit:
            if self.submits is not None:
                warn_of_lost_submit()
            self._note_cancelled(entry)
            raise
        if isinstance(outcome, Response) and outcome.status == HTTPStatus.OK:
            change, finished = self._read_paid(outcome._replace(lost_before=self.lost))
            return outcome, (yield from self._move(entry, **change)), finished
        if may_be_billed(outcome):
            error = (
                outcome.detail if isinstance(outcome, TransportFailure) else words_of(outcome.body)
            )
            self.doubt = error
            self.lost += 1
            return outcome, (yield from self._move(entry, state="unknown", error=error)), None
        yield from self._drop(entry)
        return outcome, None, None

    def _claim(self, request: Request) -> Flow[JournalEntry]:
        lease = LEASE
        if request.deadline is not None:
            lease = max(request.deadline - self.exchanges.clock.monotonic(), 0.0) + LEASE_MARGIN
        claim = yield UseJournal(
            self.journal,
            "claim",
            (self.key, self.fingerprint),
            {
                "lease_seconds": lease,
                "replace_unknown": self.exchanges.retry_unknown_outcome,
            },
        )
        _check(claim)
        if not claim.is_new:
            raise _OvertakenError
        return claim.entry  # type: ignore[no-any-return]

    def _read_paid(self, response: Response) -> tuple[Change, Finished | None]:
        """Say what a 200 came to: an id of the queue, or an answer of v1, readable or not."""
        try:
            if self.submits is not None:
                return {"state": "submitted", "request_id": read_request_id(response)}, None
            finished = read_response(response)
        except SegmindResponseError as error:
            if self.submits is not None:
                return {"state": "unknown", "error": error.message}, None
            return _to_keep_unusable(response.body, error), None
        return _to_keep(finished.raw, finished.accounting), finished

    # --- Writing --------------------------------------------------------------------------------

    def _keep_unusable(self, entry: JournalEntry | None, error: SegmindResponseError) -> Flow[None]:
        """Keep what a queued job came to and cannot be read, for it was paid for."""
        if entry is not None and error.answer is not None:
            yield from self._move(entry, **_to_keep_unusable(error.answer, error))

    def _move(self, entry: JournalEntry, **change: Unpack[Change]) -> Flow[JournalEntry | None]:
        """Move an entry on; what is paid for is not lost where that fails."""
        moved = yield UseJournal(self.journal, "update", (entry,), change)
        if moved is None and change["state"] != "unknown":
            # Its lease may have passed meanwhile, on a laptop that slept, and others gave it up.
            current = yield UseJournal(self.journal, "get", (self.key,))
            if isinstance(current, JournalFailure):
                moved = current
            elif current and (current.claim_id, current.state) == (entry.claim_id, "unknown"):
                moved = yield UseJournal(self.journal, "update", (current,), change)
        if isinstance(moved, JournalFailure):
            kept = change.get("accounting") or {}
            self._warn(
                moved, kept.get("request_id") or change.get("request_id") or entry.request_id
            )
            return None
        return moved  # type: ignore[no-any-return]

    def _note_cancelled(self, entry: JournalEntry) -> None:
        """Write of a request that was cancelled on its way; this blocks for a moment.

        Nobody is left to await it, or to be told of an error in place of the cancellation.
        """
        try:
            self.journal.update(entry, state="unknown", error="The call was cancelled.")
        except Exception as error:  # noqa: BLE001 - of any store.
            self._warn(JournalFailure(error), None)

    def _drop(self, entry: JournalEntry | None) -> Flow[None]:
        """Delete the entry of what was not billed: the next call is sent like a new one."""
        if entry is None:
            return
        if self.doubt is not None:
            yield from self._move(entry, state="unknown", error=self.doubt)
            return
        dropped = yield UseJournal(self.journal, "release", (entry,))
        if isinstance(dropped, JournalFailure):
            self._warn(dropped, entry.request_id)

    def _warn(self, failure: JournalFailure, request_id: str | None) -> None:
        logger.error(
            "The journal could not be written for %r (request id %s), and the call goes on: %s",
            self.key,
            request_id,
            failure.error,
        )


class _OvertakenError(Exception):
    """Someone else has claimed the key since it was looked up."""


def _check(outcome: object) -> None:
    """Raise what the journal could not do before anything was sent."""
    if isinstance(outcome, JournalFailure):
        if isinstance(outcome.error, SegmindError):
            raise outcome.error
        raise SegmindJournalError(
            f"The journal cannot be used ({type(outcome.error).__name__}: {outcome.error}). "
            f"{SegmindJournalError.advice}"
        )


def _describe_unknown(key: str, entry: JournalEntry) -> SegmindOutcomeUnknownError:
    job = (
        f", as the job {entry.request_id}, which Segmind no longer knows"
        if entry.request_id
        else ""
    )
    return SegmindOutcomeUnknownError(
        f"The call {key!r} was sent before{job}, and its answer was lost. It may have been billed. "
        f"{SegmindOutcomeUnknownError.advice}",
        request_id=entry.request_id,
        outcome_unknown=True,
    )


def _to_keep(answer: bytes, accounting: Accounting) -> Change:
    """Say what an entry keeps of an answer."""
    kept = {**accounting.credits.as_dict(), "request_id": accounting.request_id}
    kept["extra"] = dict(accounting.extra)
    return {"state": "answered", "answer": answer, "accounting": kept}


def _to_keep_unusable(answer: bytes, error: SegmindResponseError) -> Change:
    """Say the same of what a later version may be able to read."""
    accounting = Accounting(error.credits or Credits(), error.request_id, {})
    return {**_to_keep(answer, accounting), "error": error.message}


def _read(entry: JournalEntry) -> Finished:
    """Read the answer that was kept; it costs nothing now."""
    kept = entry.accounting or {}
    extra = {**(kept.get("extra") or {}), "replayed": True}
    try:
        data = decode_json(entry.answer or b"")
        is_whole = isinstance(data, dict) and "choices" in data
        completion = completion_from(data) if is_whole else read_output(data)[0]
    except UnusableAnswerError as error:
        why = str(error)
    else:
        accounting = Accounting(CACHED, kept.get("request_id"), extra)
        return Finished(completion, accounting, entry.answer or b"")
    raise SegmindResponseError(
        f"The answer that the journal keeps for {entry.key!r} cannot be used: {why}. It was "
        f"paid for; journal.forget({entry.key!r}) lets the call be paid for anew.",
        request_id=kept.get("request_id"),
        outcome_unknown=True,
    )
