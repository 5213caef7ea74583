"""Response bodies, decompressed within bounds: a hostile one must not fill the memory."""

from __future__ import annotations

import zlib

MAX_BODY = 16 * 1024 * 1024
"""Bytes of one answer, after decompression: some 30 times the text of a full 128k context."""

ACCEPT_ENCODING = "gzip"
"""What `BodyDecoder` can undo with a bound; `deflate` too, but servers disagree on what it is."""

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class UnreadableBodyError(Exception):
    """The body is too large, or not in the encoding it claims; the text says which."""


class BodyDecoder:
    """Undoes one Content-Encoding, chunk by chunk, up to `MAX_BODY` bytes."""

    def __init__(self, content_encoding: str, limit: int = MAX_BODY) -> None:
        """Prepare for an encoding, as named by the header (RFC 9110, section 8.4)."""
        self._left = self._left_to_come = limit
        self._limit = limit
        encoding = content_encoding.strip().lower().replace("x-gzip", "gzip")
        self._inflate = None
        if encoding in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
        elif encoding not in ("", "identity"):
            raise UnreadableBodyError(f"its Content-Encoding {encoding[:40]!r} was not asked for")

    def feed(self, chunk: bytes) -> bytes:
        """Decode one chunk."""
        data = chunk if self._inflate is None else self._decompress(self._inflate, chunk)
        self._left -= len(data)
        self._left_to_come -= len(chunk)
        if self._left < 0 or self._left_to_come < 0:
            raise UnreadableBodyError(f"it is larger than {self._limit} bytes")
        return data

    def finish(self) -> None:
        """Check that a compressed body has come to its end."""
        if self._inflate is not None and not self._inflate.eof and self._left < self._limit:
            raise UnreadableBodyError("its compressed data is cut short")

    def _decompress(self, inflate: zlib._Decompress, chunk: bytes) -> bytes:
        if inflate.eof:
            return b""  # Padding; zlib would collect it.
        try:
            return inflate.decompress(chunk, self._left + 1)
        except zlib.error as error:
            raise UnreadableBodyError("its compressed data is damaged") from error
