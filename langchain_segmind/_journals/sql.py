"""A journal on SQL: its calls as steps, and what is stored of them."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

from langchain_segmind._journals import steps
from langchain_segmind._journals.entries import Claim, Journal, JournalEntry, State
from langchain_segmind._journals.holders import this_process
from langchain_segmind.exceptions import SegmindJournalError

T = TypeVar("T")
Cipher: TypeAlias = Callable[[bytes], bytes]


class SqlJournal(Journal):
    """What `SqliteJournal` and `PostgresJournal` share: all but how a statement is run."""

    def __init__(self, *, encrypt: Cipher | None, decrypt: Cipher | None) -> None:
        """Keep what the answers and errors are sealed with."""
        if (encrypt is None) != (decrypt is None):
            raise ValueError("encrypt and decrypt go together: give both, or neither")
        self.encrypt = encrypt
        self.decrypt = decrypt

    @abstractmethod
    def _run(self, operation: steps.Operation[T], *, durable: bool = False) -> T:
        """Run the steps; what is durable outlives the machine once this returns."""

    @abstractmethod
    async def _arun(self, operation: steps.Operation[T], *, durable: bool = False) -> T:
        """Run the steps without blocking the loop, and to their end if the caller is cancelled."""

    @abstractmethod
    def _undo(self, operation: steps.Operation[Any]) -> None:
        """Run the steps some time after those that were begun before."""

    def claim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Take a key that nobody has taken, or give its entry as it stands."""
        operation = _claim_of(key, fingerprint, uuid4().hex, lease_seconds, replace_unknown)
        row, is_new = self._run(operation, durable=True)
        return Claim(self._entry(row), is_new)

    async def aclaim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Do as `claim`; a caller who is cancelled meanwhile leaves no claim behind."""
        claim_id = uuid4().hex
        operation = _claim_of(key, fingerprint, claim_id, lease_seconds, replace_unknown)
        try:
            row, is_new = await self._arun(operation, durable=True)
        except asyncio.CancelledError:
            # Nobody is there to send it, and until its lease has passed nobody else could.
            self._undo(partial(steps.release, key, claim_id, "sending"))
            raise
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
        operation = self._update_of(entry, state, request_id, answer, accounting, error)
        row = self._run(operation, durable=_is_durable(entry, state))
        return None if row is None else self._entry(row)

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
        operation = self._update_of(entry, state, request_id, answer, accounting, error)
        row = await self._arun(operation, durable=_is_durable(entry, state))
        return None if row is None else self._entry(row)

    def release(self, entry: JournalEntry) -> bool:
        """Delete an entry that came to nothing, if it is as it was read."""
        return self._run(partial(steps.release, entry.key, entry.claim_id, entry.state))

    async def arelease(self, entry: JournalEntry) -> bool:
        """Do as `release`."""
        return await self._arun(partial(steps.release, entry.key, entry.claim_id, entry.state))

    def get(self, key: str) -> JournalEntry | None:
        """Give the entry of a key."""
        row = self._run(partial(steps.read, key))
        return None if row is None else self._entry(row)

    async def aget(self, key: str) -> JournalEntry | None:
        """Do as `get`."""
        row = await self._arun(partial(steps.read, key))
        return None if row is None else self._entry(row)

    def get_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        """Give the entries of those keys that have one."""
        pages = (self._run(partial(steps.read_many, page)) for page in _pages(keys))
        return {row.key: self._entry(row) for page in pages for row in page}

    async def aget_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        """Do as `get_many`."""
        found: dict[str, JournalEntry] = {}
        for page in _pages(keys):
            rows = await self._arun(partial(steps.read_many, page))
            found.update((row.key, self._entry(row)) for row in rows)
        return found

    def entries(
        self, state: State | None = None, *, answers: bool = False
    ) -> Iterator[JournalEntry]:
        """Give every entry, or those of one state, in the order in which they were made."""
        last = 0
        while page := self._run(partial(steps.read_page, last, answers=answers)):
            last = page[-1].id
            yield from (self._entry(row) for row in page if state in {None, row.state})

    async def aentries(
        self, state: State | None = None, *, answers: bool = False
    ) -> AsyncIterator[JournalEntry]:
        """Do as `entries`."""
        last = 0
        while page := await self._arun(partial(steps.read_page, last, answers=answers)):
            last = page[-1].id
            for row in page:
                if state in {None, row.state}:
                    yield self._entry(row)

    def forget(self, key: str) -> bool:
        """Delete the entry of a key, whatever its state."""
        return self._run(partial(steps.forget, key))

    async def aforget(self, key: str) -> bool:
        """Do as `forget`."""
        return await self._arun(partial(steps.forget, key))

    def purge(self, *, older_than: timedelta | float) -> int:
        """Delete what has not changed for so long."""
        # Page by page, so that those who have to write in between need not wait for all of it.
        pages = [self._run(partial(steps.purge_page, _seconds(older_than)))]
        while pages[-1] == steps.PAGE:
            pages.append(self._run(partial(steps.purge_page, _seconds(older_than))))
        return sum(pages)

    async def apurge(self, *, older_than: timedelta | float) -> int:
        """Do as `purge`."""
        pages = [await self._arun(partial(steps.purge_page, _seconds(older_than)))]
        while pages[-1] == steps.PAGE:
            pages.append(await self._arun(partial(steps.purge_page, _seconds(older_than))))
        return sum(pages)

    def _update_of(
        self,
        entry: JournalEntry,
        state: State,
        request_id: str | None,
        answer: bytes | None,
        accounting: Mapping[str, Any] | None,
        error: str | None,
    ) -> steps.Operation[steps.Row | None]:
        kept = (
            request_id,
            self._seal(answer),
            None if accounting is None else json.dumps(dict(accounting)),
            self._seal(None if error is None else error.encode("utf-8", "backslashreplace")),
        )
        return partial(steps.update, entry, state, kept)

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

    def _entry(self, row: steps.Row) -> JournalEntry:
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


def _claim_of(
    key: str,
    fingerprint: str,
    claim_id: str,
    lease_seconds: float,
    replace_unknown: bool,  # noqa: FBT001 - The caller's keyword.
) -> steps.Operation[tuple[steps.Row, bool]]:
    return partial(
        steps.claim,
        key,
        fingerprint,
        claim_id,
        this_process(),
        float(lease_seconds),
        replace_unknown=replace_unknown,
    )


def _is_durable(entry: JournalEntry, state: State) -> bool:
    """Tell whether losing this write in a power cut would lose what was paid for.

    An answer with a request id would only be fetched again.
    """
    return state == "submitted" or (state == "answered" and entry.state == "sending")


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
