# ruff: noqa: S608 - Statements are put together of constants; what callers give are parameters.
"""What a journal does, as steps of SQL: each is sent rows, whichever store and colour runs it.

Each statement is atomic and expects what the one before saw, so that the steps are right without a
transaction around them, and within one that several share. `?` stands for a parameter, and
`{now}` for the store's clock: those of the callers may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from langchain_segmind._journals.entries import LEASE_MARGIN, JournalEntry, State
from langchain_segmind._journals.holders import is_dead

T = TypeVar("T")
Statement: TypeAlias = tuple[str, Sequence[Any]]
Steps: TypeAlias = Generator[Statement, Sequence[tuple[Any, ...]], T]
Operation: TypeAlias = Callable[[], Steps[T]]
"""Steps that can be begun anew, where a first attempt was undone."""


class Task(NamedTuple, Generic[T]):
    """An operation, and what a store should know of it."""

    operation: Operation[T]
    durable: bool | None = None
    """What it writes should outlive the machine, and not the process alone; None where it reads."""
    second: Operation[T] | None = None
    """Takes its place where a first attempt may have been done unheard."""
    undo: Operation[Any] | None = None
    """Follows it where the one who awaited it was cancelled."""


PAGE = 500
_HOUR = 3600.0  # Segmind forgets a job an hour after its submission.


class Row(NamedTuple):
    """An entry as the store has it: what is sealed, sealed, and accounting as JSON."""

    key: str
    fingerprint: str
    state: State
    claim_id: str
    holder: str
    request_id: str | None
    answer: bytes | None
    accounting: str | None
    error: bytes | None
    created_at: float
    updated_at: float
    lease_until: float
    id: int
    now: float

    def is_given_up(self) -> bool:
        """Tell whether this was sent, or was going to be, by someone who will not tell."""
        return self.state == "sending" and (
            self.now > self.lease_until + LEASE_MARGIN or is_dead(self.holder)
        )


_KNOWN = ", ".join(Row._fields[:6])
_REST = f"{', '.join(Row._fields[7:-1])}, {{now}}"
_ROW = f"{_KNOWN}, answer, {_REST}"
_OF_ENTRY = "WHERE key = ? AND claim_id = ? AND state = ?"
WHEN = " RETURNING {now}"
"""Of a statement that writes: a row with the time for each row that was written."""

INSERT = (
    "INSERT INTO segmind_journal"
    " (key, fingerprint, state, claim_id, holder, created_at, updated_at, lease_until)"
    f" VALUES (?, ?, 'sending', ?, ?, {{now}}, {{now}}, {{now}} + ?) ON CONFLICT DO NOTHING{WHEN}"
)
REPLACE = (
    "UPDATE segmind_journal SET state = 'sending', claim_id = ?, holder = ?, request_id = NULL,"
    " answer = NULL, accounting = NULL, error = NULL, created_at = {now}, updated_at = {now},"
    f" lease_until = {{now}} + ? {_OF_ENTRY}{WHEN}"
)
UPDATE = (
    "UPDATE segmind_journal SET state = ?, request_id = COALESCE(?, request_id),"
    " answer = COALESCE(?, answer), accounting = COALESCE(?, accounting),"
    f" error = COALESCE(?, error), updated_at = {{now}} {_OF_ENTRY}{WHEN}"
)
GIVE_UP = f"UPDATE segmind_journal SET state = 'unknown', updated_at = {{now}} {_OF_ENTRY}{WHEN}"
RELEASE = f"DELETE FROM segmind_journal {_OF_ENTRY}{WHEN}"
SELECT = f"SELECT {_ROW} FROM segmind_journal WHERE key = ?"
SELECT_MANY = f"SELECT {_ROW} FROM segmind_journal WHERE key IN"
FORGET = f"DELETE FROM segmind_journal WHERE key = ?{WHEN}"
_IS_OLD = (
    "updated_at < {now} - ? AND (state IN ('answered', 'unknown')"
    f" OR (updated_at < {{now}} - {_HOUR} AND lease_until < {{now}}))"
)
PURGE = (  # Whether it is old is asked again of what somebody changes meanwhile.
    "DELETE FROM segmind_journal WHERE id IN"
    f" (SELECT id FROM segmind_journal WHERE {_IS_OLD} ORDER BY id LIMIT {PAGE})"
    f" AND {_IS_OLD}{WHEN}"
)
_PAGE = f"FROM segmind_journal WHERE id > ? ORDER BY id LIMIT {PAGE}"
PAGE_WITH_ANSWERS = f"SELECT {_ROW} {_PAGE}"
PAGE_WITHOUT = f"SELECT {_KNOWN}, NULL, {_REST} {_PAGE}"


def claim(
    key: str, fingerprint: str, claim_id: str, holder: str, lease: float, *, replace_unknown: bool
) -> Steps[tuple[Row, bool]]:
    """Insert a claim where there is none, or read the entry that is there."""
    told = yield INSERT, (key, fingerprint, claim_id, holder, lease)
    while not told:
        row = yield from read(key)
        if row is None:  # Deleted in between.
            told = yield INSERT, (key, fingerprint, claim_id, holder, lease)
        elif row.claim_id == claim_id and row.state == "sending":
            return row, True  # It was ours before the connection broke.
        elif replace_unknown and (row.state, row.fingerprint) == ("unknown", fingerprint):
            told = yield REPLACE, (claim_id, holder, lease, key, row.claim_id, row.state)
        else:
            return row, False
    now = told[0][0]
    ours = (key, fingerprint, "sending", claim_id, holder, *[None] * 4, now, now, now + lease)
    return Row._make((*ours, 0, now)), True


def read(key: str) -> Steps[Row | None]:
    """Read the entry of a key."""
    rows = yield SELECT, (key,)
    return (yield from _settle(Row._make(rows[0]))) if rows else None


def read_many(keys: Sequence[str]) -> Steps[list[Row]]:
    """Read the entries of some keys."""
    rows = yield f"{SELECT_MANY} ({', '.join('?' for _ in keys)})", keys
    return (yield from _settle_all(rows))


def read_page(after: int, *, answers: bool) -> Steps[list[Row]]:
    """Read the next entries in the order in which they were made."""
    rows = yield (PAGE_WITH_ANSWERS if answers else PAGE_WITHOUT), (after,)
    return (yield from _settle_all(rows))


def _settle_all(rows: Sequence[tuple[Any, ...]]) -> Steps[list[Row]]:
    settled: list[Row] = []
    for values in rows:
        row = yield from _settle(Row._make(values))
        if row is not None:
            settled.append(row)
    return settled


def _settle(row: Row) -> Steps[Row | None]:
    """Turn what will not be heard of into `unknown`, unless it has just been heard of."""
    if not row.is_given_up():
        return row
    yield GIVE_UP, (row.key, row.claim_id, row.state)
    return (yield from read(row.key))


def update(
    entry: JournalEntry, state: State, kept: Sequence[Any], *, is_second: bool = False
) -> Steps[float | None]:
    """Move an entry on, where it is still as it was read; give when.

    A second attempt, after a connection that broke, also finds what the first one did unheard.
    """
    rows = yield UPDATE, (state, *kept, entry.key, entry.claim_id, entry.state)
    if rows:
        return float(rows[0][0])
    row = (yield from read(entry.key)) if is_second else None
    if row is None or (row.claim_id, row.state) != (entry.claim_id, state):
        return None
    return row.updated_at


def release(key: str, claim_id: str, state: State, *, is_second: bool = False) -> Steps[bool]:
    """Delete an entry, where it is still as it was read."""
    rows = yield RELEASE, (key, claim_id, state)
    return bool(rows) or (is_second and (yield from read(key)) is None)


def forget(key: str) -> Steps[bool]:
    """Delete the entry of a key."""
    return bool((yield FORGET, (key,)))


def purge_page(seconds: float) -> Steps[int]:
    """Delete some of what is old; tell how much."""
    return len((yield PURGE, (seconds, seconds)))
