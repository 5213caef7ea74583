"""What a journal knows of a call, and what every journal can do."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Required, TypeAlias, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from datetime import timedelta

State: TypeAlias = Literal["sending", "submitted", "answered", "unknown"]
"""How far a call has come.

- `sending`: claimed; its request may be on its way.
- `submitted`: Segmind gave it a request id; anyone can fetch its answer.
- `answered`: its answer is kept.
- `unknown`: it was sent and nothing was heard, so it may have been billed.
"""

LEASE_MARGIN = 5.0
"""Seconds after the end of its lease until a claim is given up: clocks are stepped, too."""


class JournalEntry(NamedTuple):
    """What is known of one call."""

    key: str
    """The identity of the call."""
    fingerprint: str
    """A hash of what is sent; the prompt itself is not kept."""
    state: State
    claim_id: str
    """Random: it tells one claim of this key from the next."""
    holder: str
    """The process that claimed it, see `this_process`."""
    request_id: str | None = None
    """Segmind's id of the queued job."""
    answer: bytes | None = None
    """What Segmind answered, as it came."""
    accounting: Mapping[str, Any] | None = None
    """What it cost, and the like."""
    error: str | None = None
    created_at: float = 0.0
    """Unix seconds by the store's clock, as the two below."""
    updated_at: float = 0.0
    lease_until: float = 0.0
    """Until then the claimer may send; after that, and a margin, the outcome is unknown."""

    @property
    def cost(self) -> float | None:
        """Credits that the answer cost; None where there is none, or it does not say."""
        cost = (self.accounting or {}).get("cost")
        return cost if isinstance(cost, (float, int)) else None

    def __repr__(self) -> str:
        """Show all but the answer."""
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "answer")
        return f"JournalEntry({', '.join(shown)})"


class Change(TypedDict, total=False):
    """How an entry moves on; what is left out, or None, stays as it is."""

    state: Required[State]
    request_id: str | None
    """Segmind's id of it."""
    answer: bytes | None
    """What Segmind answered."""
    accounting: Mapping[str, Any] | None
    """What it cost, and the like; as JSON has it."""
    error: str | None
    """What went wrong."""


class Claim(NamedTuple):
    """The entry of a key, and whether it is the caller's to send."""

    entry: JournalEntry
    is_new: bool


class Journal(ABC):
    """What was sent, and what came of it, outside of the process.

    A store implements the plain methods; the awaitable ones run them in a thread unless it knows
    better. Each of them raises `SegmindJournalError` where the store cannot be read or written.
    `langchain_segmind.testing.JournalContract` holds the tests that a store has to pass.

    A claim that is not heard of again becomes `unknown` for every reader: once its lease has
    passed by the store's clock, or at once where its holder is seen to be dead.
    """

    @abstractmethod
    def claim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Take a key that nobody has taken, or give its entry as it stands: atomic, and durable.

        Args:
            key: The identity of the call.
            fingerprint: A hash of what is sent.
            lease_seconds: How long the caller may take until it has sent and heard; whoever is
                slower must not send.
            replace_unknown: Take a key of the same fingerprint whose outcome is unknown, too.
        """

    @abstractmethod
    def update(self, entry: JournalEntry, **change: Unpack[Change]) -> JournalEntry | None:
        """Move an entry on, if it still has the claim and the state it was read with.

        Args:
            entry: What was read or claimed, by whomever.
            change: `state`, where it moves to, and what is new of `request_id`, `answer`,
                `accounting` (as JSON has it) and `error`; what is left out stays as it is.

        Returns:
            The entry as it is now, or nothing where someone else was faster.
        """

    @abstractmethod
    def release(self, entry: JournalEntry) -> bool:
        """Delete an entry that came to nothing, if it is as it was read; tell whether it was."""

    @abstractmethod
    def get(self, key: str) -> JournalEntry | None:
        """Give the entry of a key."""

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        """Give the entries of those keys that have one."""

    @abstractmethod
    def entries(
        self, state: State | None = None, *, answers: bool = False
    ) -> Iterator[JournalEntry]:
        """Give every entry, or those of one state, in the order in which they were made.

        They are read page by page: memory stays flat, and nobody has to wait meanwhile.

        Args:
            state: Only those.
            answers: Read the answers, too.
        """

    @abstractmethod
    def forget(self, key: str) -> bool:
        """Delete the entry of a key, whatever its state; tell whether there was one."""

    @abstractmethod
    def purge(self, *, older_than: timedelta | float) -> int:
        """Delete what has not changed for so long (seconds, or a timedelta); give their number.

        What is sent or queued stays for an hour at least, which is how long Segmind knows a job.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the next call opens it again."""

    async def aclaim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        """Do as `claim`."""
        claim = partial(self.claim, key, fingerprint, lease_seconds=lease_seconds)
        return await asyncio.to_thread(claim, replace_unknown=replace_unknown)

    async def aupdate(self, entry: JournalEntry, **change: Unpack[Change]) -> JournalEntry | None:
        """Do as `update`."""
        return await asyncio.to_thread(self.update, entry, **change)

    async def arelease(self, entry: JournalEntry) -> bool:
        """Do as `release`."""
        return await asyncio.to_thread(self.release, entry)

    async def aget(self, key: str) -> JournalEntry | None:
        """Do as `get`."""
        return await asyncio.to_thread(self.get, key)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        """Do as `get_many`."""
        return await asyncio.to_thread(self.get_many, keys)

    async def aentries(
        self, state: State | None = None, *, answers: bool = False
    ) -> AsyncIterator[JournalEntry]:
        """Do as `entries`."""
        entries = self.entries(state, answers=answers)
        while entry := await asyncio.to_thread(next, entries, None):
            yield entry

    async def aforget(self, key: str) -> bool:
        """Do as `forget`."""
        return await asyncio.to_thread(self.forget, key)

    async def apurge(self, *, older_than: timedelta | float) -> int:
        """Do as `purge`."""
        return await asyncio.to_thread(self.purge, older_than=older_than)

    async def aclose(self) -> None:
        """Do as `close`."""
        await asyncio.to_thread(self.close)
