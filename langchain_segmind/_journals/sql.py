"""A journal on SQL: its calls as steps, and what is stored of them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar
from uuid import uuid4

from langchain_segmind._journals import steps
from langchain_segmind._journals.entries import Claim, Journal, JournalEntry, State
from langchain_segmind._journals.holders import this_process
from langchain_segmind._journals.steps import Row, Task
from langchain_segmind.exceptions import SegmindJournalError

T = TypeVar("T")
Cipher: TypeAlias = Callable[[bytes], bytes]
Kept: TypeAlias = tuple[str | None, bytes | None, str | None, bytes | None]
"""What an update may add: request id, answer, accounting, error."""


class News(NamedTuple):
    """What an update brings."""

    state: State
    request_id: str | None
    answer: bytes | None
    accounting: Mapping[str, Any] | None
    error: str | None

    def joined_to(self, entry: JournalEntry, updated_at: float | None) -> JournalEntry | None:
        """Give the entry as it is now, if it was written."""
        if updated_at is None:
            return None
        return JournalEntry(  # dataclasses.replace takes a fifth of the whole call.
            key=entry.key,
            fingerprint=entry.fingerprint,
            state=self.state,
            claim_id=entry.claim_id,
            holder=entry.holder,
            request_id=entry.request_id if self.request_id is None else self.request_id,
            answer=entry.answer if self.answer is None else self.answer,
            accounting=entry.accounting if self.accounting is None else self.accounting,
            error=entry.error if self.error is None else self.error,
            created_at=entry.created_at,
            updated_at=updated_at,
            lease_until=entry.lease_until,
        )


class SqlJournal(Journal):
    """What `SqliteJournal` and `PostgresJournal` share: all but how a statement is run."""

    def __init__(self, *, encrypt: Cipher | None, decrypt: Cipher | None) -> None:
        """Keep what the answers and errors are sealed with."""
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
        row, is_new = self._run(
            _claim(key, fingerprint, lease_seconds, replace_unknown=replace_unknown)
        )
        return Claim(self._entry(row), is_new)

    async def aclaim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Do as `claim`; a caller who is cancelled meanwhile leaves no claim behind."""
        row, is_new = await self._arun(
            _claim(key, fingerprint, lease_seconds, replace_unknown=replace_unknown)
        )
        return Claim(self._entry(row), is_new)

    def update(
        self,
        entry: JournalEntry,
        *,
        state: State,
        request_id: str | None = None,
        answer: bytes | None = None,
        accounting: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> JournalEntry | None:
        """Move an entry on, if it still has the claim and the state it was read with."""
        new = News(state, request_id, answer, accounting, error)
        return new.joined_to(entry, self._run(_update(entry, state, self._sealed(new))))

    async def aupdate(
        self,
        entry: JournalEntry,
        *,
        state: State,
        request_id: str | None = None,
        answer: bytes | None = None,
        accounting: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> JournalEntry | None:
        """Do as `update`; it is written even if the caller is cancelled meanwhile."""
        new = News(state, request_id, answer, accounting, error)
        return new.joined_to(entry, await self._arun(_update(entry, state, self._sealed(new))))

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
        return self._run(Task(partial(steps.forget, key)))

    async def aforget(self, key: str) -> bool:
        """Do as `forget`."""
        return await self._arun(Task(partial(steps.forget, key)))

    def purge(self, *, older_than: timedelta | float) -> int:
        """Delete what has not changed for so long."""
        # Page by page, so that those who have to write in between need not wait for all of it.
        pages = [self._run(Task(partial(steps.purge_page, _seconds(older_than))))]
        while pages[-1] == steps.PAGE:
            pages.append(self._run(Task(partial(steps.purge_page, _seconds(older_than)))))
        return sum(pages)

    async def apurge(self, *, older_than: timedelta | float) -> int:
        """Do as `purge`."""
        pages = [await self._arun(Task(partial(steps.purge_page, _seconds(older_than))))]
        while pages[-1] == steps.PAGE:
            pages.append(await self._arun(Task(partial(steps.purge_page, _seconds(older_than)))))
        return sum(pages)

    def _sealed(self, new: News) -> Kept:
        return (
            new.request_id,
            self._seal(new.answer),
            None if new.accounting is None else json.dumps(dict(new.accounting)),
            self._seal(None if new.error is None else new.error.encode("utf-8", "replace")),
        )

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
        error = self._unseal(row.error)
        return JournalEntry(
            key=row.key,
            fingerprint=row.fingerprint,
            state=row.state,
            claim_id=row.claim_id,
            holder=row.holder,
            request_id=row.request_id,
            answer=self._unseal(row.answer),
            accounting=None if row.accounting is None else json.loads(row.accounting),
            error=None if error is None else error.decode("utf-8", "replace"),
            created_at=row.created_at,
            updated_at=row.updated_at,
            lease_until=row.lease_until,
        )


def _claim(
    key: str,
    fingerprint: str,
    lease_seconds: float,
    *,
    replace_unknown: bool,
) -> Task[tuple[Row, bool]]:
    claim_id = uuid4().hex
    who = key, fingerprint, claim_id, this_process(), float(lease_seconds)
    return Task(
        partial(steps.claim, *who, replace_unknown=replace_unknown),
        durable=True,
        # Nobody is left to send it, and until its lease has passed nobody else could.
        undo=partial(steps.release, key, claim_id, "sending"),
    )


def _update(entry: JournalEntry, state: State, kept: Kept) -> Task[float | None]:
    # Losing these in a power cut would lose what was paid for; an answer with a request id would
    # only be fetched again.
    durable = state == "submitted" or (state == "answered" and entry.state == "sending")
    first = partial(steps.update, entry, state, kept)
    return Task(first, durable, partial(first, is_second=True))


def _release(entry: JournalEntry) -> Task[bool]:
    first = partial(steps.release, entry.key, entry.claim_id, entry.state)
    return Task(first, second=partial(first, is_second=True))


def _pages(keys: Iterable[str]) -> Generator[list[str], None, None]:
    """Cut keys into lists of a page each."""
    page: list[str] = []
    for key in keys:
        page.append(key)
        if len(page) == steps.PAGE:
            yield page
            page = []
    if page:
        yield page


def _seconds(span: timedelta | float) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else float(span)
