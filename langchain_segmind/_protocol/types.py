"""The vocabulary of a flow: what it asks its driver to do, and what it is told in return.

A flow is a generator that yields commands and is sent their outcome. It does no I/O and never
sees the API key; the drivers in `_transport.driver` perform what it describes.

What every call makes is a tuple, made in less than half the time of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from langchain_segmind._journals.entries import Journal
    from langchain_segmind._protocol.submit_limit import SubmitLimit


class Request(NamedTuple):
    """Send this, and tell what came back."""

    method: Literal["GET", "POST"]
    path: str
    """Below `base_url`, percent-encoded: `/v1/llama-v3p1-70b-instruct`."""
    body: bytes | None = None
    accept_stream: bool = False
    """Leave a `text/event-stream` body to be read by `ReadChunk`, as it comes."""
    deadline: float | None = None
    """The monotonic time by which the whole exchange has to be over."""

    def __repr__(self) -> str:
        """Show no prompt."""
        return f"Request({self.method!r}, {self.path!r}, deadline={self.deadline})"


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let this many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AcquireSlot:
    """Ask the rate limiter for one more request."""

    poll: bool = False
    """Whether it only asks after a job, which not every limiter counts."""


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """Give what came next of the event stream that the last request was answered with.

    The outcome is bytes, None at the end of the stream, or a `TransportFailure`.
    """


class UseJournal(NamedTuple):
    """Call a method of the journal, or its awaitable twin, whose name has an `a` in front.

    The outcome is what the method returns, or a `JournalFailure`.
    """

    journal: Journal
    method: Literal["get", "claim", "update", "release"]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class JournalFailure:
    """The journal could not be read or written."""

    error: Exception


@dataclass(frozen=True, slots=True)
class EnterSubmit:
    """Wait until few enough submits of this process are under way; the flow leaves by itself."""

    submits: SubmitLimit


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand this to the caller, who waits for the pieces of a stream."""

    value: Any


class Response(NamedTuple):
    """An HTTP answer, decompressed and read to its end, unless it is a stream."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""
    is_stream: bool = False
    """Whether the body is an event stream, still to be read."""
    lost_before: int = 0
    """Attempts before it that may have been billed, and whose answers were lost."""

    def __repr__(self) -> str:
        """Show nothing that a server may have echoed."""
        return f"Response({self.status}, is_stream={self.is_stream})"


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No usable answer: what happened, and how far it had got."""

    kind: Literal["unsent", "timeout", "lost", "unreadable"]
    """Not sent at all; too slow; the connection broke; or the body was too large or undecodable."""
    detail: str
    sent: bool = True
    """Whether the request may have reached the server."""
    head: Response | None = None
    """Status and headers, where the answer had begun."""


Command = Request | Sleep | AcquireSlot | ReadChunk | UseJournal | EnterSubmit | Emit
Outcome = Any
"""A `Response` or `TransportFailure` to a `Request`; see the other commands for theirs."""
T = TypeVar("T")
Flow = Generator[Command, Outcome, T]
