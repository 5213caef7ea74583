"""A journal on SQL: its calls as steps, and what is stored of them."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar, Unpack

from langchain_segmind._journals import steps
from langchain_segmind._journals.entries import Change, Claim, Journal, JournalEntry, State
from langchain_segmind._journals.holders import this_process
from langchain_segmind._journals.steps import Row, Task
from langchain_segmind.exceptions import SegmindJournalError

T = TypeVar("T")
Cipher: TypeAlias = Callable[[bytes], bytes]


class SqlJournal(Journal):
    """What `SqliteJournal` and `PostgresJournal` share: all but how a statement is run."""

    def __init__(self, *, encrypt: Cipher | None, decrypt: Cipher | None) -> None:
        if (encrypt is None) != (decrypt is None):
            raise ValueError("encrypt and decrypt go together: give both, or neither")
        self.encrypt = encrypt
        self.decrypt = decrypt

    @abstractmethod
    def _run(self, task: Task[T]) -> T:
        """Run the task's steps."""

    @abstractmethod
    async def _arun(self, task: Task[T]) -> T:
        """Run them without blocking the loop, and to their end if the caller is cancelled."""

    def claim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Take a key that nobody has taken, or give its entry as it stands."""
        task = _claim(key, fingerprint, lease_seconds, replace_unknown=replace_unknown)
        row, is_new = self._run(task)
        return Claim(self._entry(row), is_new)

    async def aclaim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Do as `claim`; a caller who is cancelled meanwhile leaves no claim behind."""
        task = _claim(key, fingerprint, lease_seconds, replace_unknown=replace_unknown)
        row, is_new = await self._arun(task)
        return Claim(self._entry(row), is_new)

    def update(self, entry: JournalEntry, **change: Unpack[Change]) -> JournalEntry | None:
        """Move an entry on, if it still has the claim and the state it was read with."""
        return _moved(entry, change, self._run(self._update(entry, change)))

    async def aupdate(self, entry: JournalEntry, **change: Unpack[Change]) -> JournalEntry | None:
        """Do as `update`; it is written even if the caller is cancelled meanwhile."""
        return _moved(entry, change, await self._arun(self._update(entry, change)))

    def release(self, entry: JournalEntry) -> bool:
        """Delete an entry that came to nothing, if it is as it was read."""
        return self._run(_release(entry))

    async def arelease(self, entry: JournalEntry) -> bool:
        """Do as `release`."""
        return await self._arun(_release(entry))

    def get(self, key: str) -> JournalEntry | None:
        """Give the entry of a key."""
        return self._found(self._run(Task(partial(steps.read, key))))

    async def aget(self, key: str) -> JournalEntry | None:
        """Do as `get`."""
        return self._found(await self._arun(Task(partial(steps.read, key))))

    def get_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        """Give the entries of those keys that have one."""
        pages = (self._run(Task(partial(steps.read_many, page))) for page in _pages(keys))
        return {row.key: self._entry(row) for page in pages for row in page}

    async def aget_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        """Do as `get_many`."""
        found: dict[str, JournalEntry] = {}
        for page in _pages(keys):
            rows = await self._arun(Task(partial(steps.read_many, page)))
            found.update((row.key, self._entry(row)) for row in rows)
        return found

    def entries(
        self, state: State | None = None, *, answers: bool = False
    ) -> Iterator[JournalEntry]:
        """Give every entry, or those of one state, in the order in which they were made."""
        last = 0
        while page := self._run(Task(partial(steps.read_page, last, answers=answers))):
            last = page[-1].id
            yield from (self._entry(row) for row in page if state in {None, row.state})

    async def aentries(
        self, state: State | None = None, *, answers: bool = False
    ) -> AsyncIterator[JournalEntry]:
        """Do as `entries`."""
        last = 0
        while page := await self._arun(Task(partial(steps.read_page, last, answers=answers))):
            last = page[-1].id
            for row in page:
                if state in {None, row.state}:
                    yield self._entry(row)

    def forget(self, key: str) -> bool:
        """Delete the entry of a key, whatever its state."""
        return self._run(Task(partial(steps.forget, key), durable=False))

    async def aforget(self, key: str) -> bool:
        """Do as `forget`."""
        return await self._arun(Task(partial(steps.forget, key), durable=False))

    def purge(self, *, older_than: timedelta | float) -> int:
        """Delete what has not changed for so long."""
        # Page by page, so that those who have to write in between need not wait for all of it.
        task, purged = _purge(older_than), 0
        while page := self._run(task):
            purged += page
        return purged

    async def apurge(self, *, older_than: timedelta | float) -> int:
        """Do as `purge`."""
        task, purged = _purge(older_than), 0
        while page := await self._arun(task):
            purged += page
        return purged

    def _update(self, entry: JournalEntry, change: Change) -> Task[float | None]:
        state, accounting, error = change["state"], change.get("accounting"), change.get("error")
        kept = (
            change.get("request_id"),
            self._seal(change.get("answer")),
            None if accounting is None else json.dumps(dict(accounting)),
            self._seal(None if error is None else error.encode("utf-8", "replace")),
        )
        # Without these it would not be known what was paid for; an answer with a request id would
        # only be fetched again.
        durable = state == "submitted" or (state == "answered" and entry.state == "sending")
        first = partial(steps.update, entry, state, kept)
        return Task(first, durable, partial(first, is_second=True))

    def _seal(self, content: bytes | None) -> bytes | None:
        return content if content is None or self.encrypt is None else self.encrypt(content)

    def _unseal(self, content: bytes | None) -> bytes | None:
        if content is None or self.decrypt is None:
            return content
        try:
            return self.decrypt(content)
        except Exception as error:
            raise SegmindJournalError(
                f"{self!r} cannot be read: decrypt raised {type(error).__name__}. Give the "
                "encrypt and decrypt that it was written with."
            ) from error

    def _found(self, row: Row | None) -> JournalEntry | None:
        return None if row is None else self._entry(row)

    def _entry(self, row: Row) -> JournalEntry:
        accounting, error = row.accounting, self._unseal(row.error)
        return JournalEntry(
            *row[:6],
            self._unseal(row.answer),
            None if accounting is None else json.loads(accounting),
            None if error is None else error.decode("utf-8", "replace"),
            *row[9:12],
        )


def _moved(entry: JournalEntry, change: Change, at: float | None) -> JournalEntry | None:
    """Give the entry as it is now, if it was written."""
    if at is None:
        return None
    new: dict[str, Any] = {name: value for name, value in change.items() if value is not None}
    return entry._replace(updated_at=at, **new)


def _claim(
    key: str, fingerprint: str, lease_seconds: float, *, replace_unknown: bool
) -> Task[tuple[Row, bool]]:
    claim_id = os.urandom(16).hex()
    who = key, fingerprint, claim_id, this_process(), float(lease_seconds)
    return Task(
        partial(steps.claim, *who, replace_unknown=replace_unknown),
        durable=True,
        # Nobody is left to send it, and until its lease has passed nobody else could.
        undo=partial(steps.release, key, claim_id, "sending"),
    )


def _release(entry: JournalEntry) -> Task[bool]:
    first = partial(steps.release, entry.key, entry.claim_id, entry.state)
    return Task(first, durable=False, second=partial(first, is_second=True))


def _pages(keys: Iterable[str]) -> Generator[list[str], None, None]:
    """Cut keys into lists of a page each."""
    others = iter(keys)
    while page := list(islice(others, steps.PAGE)):
        yield page


def _purge(span: timedelta | float) -> Task[int]:
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    return Task(partial(steps.purge_page, seconds), durable=False)
