"""Blotting out the key, however a server spells it when it echoes it."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import replace
from functools import cache, cached_property
from html.entities import html5
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakValueDictionary

from langchain_segmind._protocol.types import Response, TransportFailure

if TYPE_CHECKING:
    from collections.abc import Generator

MASK = "**********"

Outcomes = TypeVar("Outcomes", bound=Response | TransportFailure)


class KeyRedactor:
    """Finds one key in what came: plain, or escaped for JSON, HTML, a URL or UTF-16."""

    def __init__(self, key: str) -> None:
        """Remember the key in either form; patterns of its other spellings come when needed."""
        self._key = key
        self._key_in_bytes = key.encode()

    # Each takes some ten milliseconds to compile: most answers do without.

    @cached_property
    def _in_text(self) -> re.Pattern[str]:
        return re.compile(_pattern(self._key))

    @cached_property
    def _in_bytes(self) -> re.Pattern[bytes]:
        return re.compile(_pattern(self._key).encode())

    def text(self, text: str) -> str:
        """Blot a text."""
        return self._in_text.sub(MASK, text) if self._may_be_in(text) else text

    def body(self, data: bytes) -> bytes:
        """Blot a body."""
        return self._in_bytes.sub(MASK.encode(), data) if self._may_be_in_bytes(data) else data

    # One of these signs is in every spelling of a key but the plain one. A loop over them would
    # take longer than they do, and every answer passes here.

    def _may_be_in(self, text: str) -> bool:
        return "%" in text or "&" in text or "u00" in text or "\x00" in text or self._key in text

    def _may_be_in_bytes(self, data: bytes) -> bool:
        return (
            b"%" in data
            or b"&" in data
            or b"u00" in data
            or b"\x00" in data
            or self._key_in_bytes in data
        )

    def outcome(self, outcome: Outcomes) -> Outcomes:
        """Blot an answer, or what is known of one that did not come."""
        redacted = self._reply(outcome) if isinstance(outcome, Response) else self._failure(outcome)
        return cast("Outcomes", redacted)

    def _failure(self, failure: TransportFailure) -> TransportFailure:
        head = None if failure.head is None else self._reply(failure.head)
        return replace(failure, detail=self.text(failure.detail), head=head)

    def _reply(self, reply: Response) -> Response:
        headers, chunks = reply.headers, reply.chunks
        if self._may_be_in("\n".join(headers.values())):
            headers = {name: self.text(value) for name, value in headers.items()}
        if isinstance(chunks, AsyncGenerator):
            chunks = self._alines(chunks)
        elif chunks is not None:
            chunks = self._lines(chunks)
        body = self.body(reply.body)
        if headers is reply.headers and body == reply.body and chunks is None:
            return reply
        return replace(reply, headers=headers, body=body, chunks=chunks)

    def _lines(self, chunks: Generator[bytes]) -> Generator[bytes]:
        held = _Held()
        with closing(chunks):
            for chunk in chunks:
                if lines := held.feed(chunk):
                    yield self.body(lines)
        yield self.body(held.rest())

    async def _alines(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        held = _Held()
        async with aclosing(chunks):
            async for chunk in chunks:
                if lines := held.feed(chunk):
                    yield self.body(lines)
        yield self.body(held.rest())


class _Held:
    """Holds an unfinished line back, since half a key could not be found."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> bytes:
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not end:
            self._parts.append(chunk)
            return b""
        lines = b"".join([*self._parts, chunk[:end]])
        self._parts = [chunk[end:]]
        return lines

    def rest(self) -> bytes:
        # Not every server ends its last event with a blank line.
        return b"".join(self._parts) + b"\n\n"


def _pattern(key: str) -> str:
    return "\x00{0,3}".join(map(_spellings, key))


@cache
def _spellings(character: str) -> str:
    # Each begins with a literal, which lets `re` skip from candidate to candidate.
    code = ord(character)
    lowercase_headers = [re.escape(name) for name, means in html5.items() if means == character]
    entity = "|".join([f"#0{{0,6}}{code};?", f"#[xX]0{{0,6}}{_hex(code)};?", *lowercase_headers])
    return rf"(?:{re.escape(character)}|\\\\{{0,7}}u00{_hex(code)}|%{_hex(code)}|&(?:{entity}))"


def _hex(code: int) -> str:
    return "".join(f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")


_REDACTORS: WeakValueDictionary[str, KeyRedactor] = WeakValueDictionary()


def redactor_for(key: str) -> KeyRedactor:
    """Give the blotter of a key: models with the same one share it."""
    redactor = _REDACTORS.get(key)
    if redactor is None:
        redactor = _REDACTORS[key] = KeyRedactor(key)
    return redactor


def _redact_record(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    for reference in _REDACTORS.valuerefs():
        if (redactor := reference()) is not None and redactor.text(text) != text:
            text = redactor.text(text)
            record.msg, record.args = text, ()
    return True


# At DEBUG, the HTTP libraries log an answer's status line and headers as they came, and hpack, for
# HTTP/2 clients of the user's, a request's headers too.
for _name in ("httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpx", "hpack.hpack"):
    logging.getLogger(_name).addFilter(_redact_record)
