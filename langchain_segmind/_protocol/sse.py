"""Server-sent events out of bytes that may be cut anywhere (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """What one event says."""

    data: str
    name: str


class EventDecoder:
    """Decodes one stream: it is fed bytes as they come, whoever fetches them."""

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []
        self._is_after_cr = False
        self._is_at_start = True
        self._data: list[bytes] = []
        self._name = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take some bytes; give the events that they complete."""
        for line in self._lines(chunk):
            if line:
                self._take(line)
            else:
                if self._data:
                    data = b"\n".join(self._data).decode("utf-8", "replace")
                    yield Event(data, self._name.decode("utf-8", "replace") or "message")
                self._data, self._name = [], b""

    def finish(self) -> Iterator[Event]:
        """Give the last event, which not every server ends with a blank line."""
        yield from self.feed(b"\n\n")

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Give the lines that have come to their end, at LF, CR or CRLF."""
        if self._is_after_cr:
            chunk = chunk.removeprefix(b"\n")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._is_after_cr = self._is_after_cr and not chunk
            self._unfinished.append(chunk)
            return []
        self._is_after_cr = chunk.endswith(b"\r")
        is_whole = self._is_after_cr or chunk.endswith(b"\n")
        lines = b"".join([*self._unfinished, chunk]).splitlines()
        self._unfinished = [] if is_whole else [lines.pop()]
        if self._is_at_start:
            self._is_at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        return lines

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ")
