"""The file of answers: one line each, in one write, by one run at a time."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_segmind._batch.ids import IdSet
from langchain_segmind._batch.requests import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_MODE = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_LOCKED_BYTE = 1 << 62
"""Windows locks bytes, which nobody else can read then: one that no file has."""


class OutputError(ValueError):
    """The file of answers cannot be taken."""


class OutputFile:
    """A file that lines are added to, and whose earlier lines count."""

    def __init__(self, path: str) -> None:
        """Open it for this run alone, mend it, and note what is in it.

        A last line that a kill has torn is cut off. Errors of earlier runs are taken out: each run
        tells those that are left.

        Raises:
            OutputError: Another run has it, or it holds something else.
            OSError: It cannot be read or written.
        """
        self.path = path
        self.answered = IdSet()
        self._fd = _open_and_lock(path)
        try:
            self._size = os.fstat(self._fd).st_size
            if self._look_through():
                self._take_errors_out()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, line: bytes) -> None:
        """Add a line, or nothing at all.

        Raises:
            OSError: The disk is full, or broken.
        """
        written = os.write(self._fd, line)
        if written < len(line):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._size += written

    def clear(self) -> None:
        """Take every line out."""
        os.ftruncate(self._fd, 0)
        self._size = 0

    def _look_through(self) -> bool:
        """Note the answers, cut a torn end off, and tell whether there are errors to take out."""
        whole, has_errors = 0, False
        for line in self._lines():
            if not line.endswith(b"\n") and (line.startswith(_START) or _START.startswith(line)):
                break  # It is torn.
            whole += len(line)
            if (key := _answered_key(line, self.path)) is None:
                has_errors = True
            else:
                self.answered.add(key)
        if whole < self._size:
            os.ftruncate(self._fd, whole)
            self._size = whole
        return has_errors

    def _take_errors_out(self) -> None:
        """Write the answers into a new file, and put that in the place of the old one."""
        new = f"{self.path}.{os.getpid()}.new"
        try:
            with Path(new).open("wb") as file:
                file.writelines(line for line in self._lines() if _answered_key(line, self.path))
            os.chmod(new, os.fstat(self._fd).st_mode & 0o7777)
            self.close()  # Windows replaces no open file.
            os.replace(new, self.path)
        finally:
            Path(new).unlink(missing_ok=True)
        self._fd = _open_and_lock(self.path)
        self._size = os.fstat(self._fd).st_size

    def _lines(self) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            yield from file


def count_answers(path: str) -> int:
    """Count the answers in a file, if it is there.

    Raises:
        OutputError: It holds something else.
    """
    _require_file(path)
    try:
        with Path(path).open("rb") as file:
            whole = (line for line in file if line.endswith(b"\n"))
            return sum(_answered_key(line, path) is not None for line in whole)
    except FileNotFoundError:
        return 0


def _answered_key(line: bytes, path: str) -> str | None:
    """Give whose answer a line holds; None where it tells an error."""
    if (found := _HEAD.match(line)) is not None:
        is_error = not line.endswith(b'"error":null}\n')
        return None if is_error else key_of(json.loads(found[1]), int(found[2] or 0))
    try:
        record = json.loads(line)
        is_error = record["error"] is not None or "response" not in record
        return None if is_error else key_of(record["custom_id"], record.get("sample", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(
            f"{path} holds something else than answers: take another file. Nothing was sent."
        ) from None


_START = b'{"id":"batch_req_'
_HEAD = re.compile(
    rb'\{"id":"batch_req_[0-9a-f]+","custom_id":("(?:[^"\\]|\\.)*")(?:,"sample":(\d+))?,"response":'
)


def _require_file(path: str) -> None:
    """Refuse what has no end, or cannot be read again: the answers that are there count."""
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        raise OutputError(f"{path} is no file: answers are added to one. Nothing was sent.")


def _open_and_lock(path: str) -> int:
    """Open and lock a file, and make sure that it is still the one of that name."""
    _require_file(path)
    while True:
        fd = os.open(path, _MODE, 0o666)
        try:
            _lock(fd)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except OSError as error:
            os.close(fd)
            if error.errno in {errno.EAGAIN, errno.EACCES, errno.EDEADLK}:
                raise OutputError(f"Another run writes {path}. Nothing was sent.") from None
            if not isinstance(error, FileNotFoundError):
                raise
        else:
            os.close(fd)


def _lock(fd: int) -> None:
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
    msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
