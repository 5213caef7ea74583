"""A file of requests, read twice: once to check all of it, once to send it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from array import array
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from langchain_segmind._batch.ids import IdSet
from langchain_segmind._batch.requests import BadRequestError, BatchRequest, plain_id
from langchain_segmind._messages.tokens import PER_MESSAGE, PER_PROMPT, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUFFER = 1 << 20
MOST_PROBLEMS = 20
COUNTED = 2_000
"""Requests whose tokens are counted; for the others, their bytes tell."""
_DECODE = json.JSONDecoder().raw_decode
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Check:
    """What the check of a file found."""

    count: int = 0
    ids: IdSet = field(default_factory=IdSet)
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Line numbers, and what is wrong there; the first ones."""
    problem_count: int = 0
    prompt_tokens: float = 0.0
    """An estimate for all prompts together."""

    def note(self, number: int, problem: str) -> None:
        """Note what is wrong with a line."""
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((number, problem))


class RequestFile:
    """A file with a request on each line; what cannot be read twice is copied first."""

    def __init__(self, path: str, system: str | None = None) -> None:
        """Open it.

        Args:
            path: Of the file; `-` is standard input.
            system: A message for lines that have none.

        Raises:
            OSError: It cannot be read.
        """
        self.name = "standard input" if path == "-" else path
        self._system = system
        self._size = 0
        self._file: IO[bytes]
        if path == "-":
            self._file = _copy(sys.stdin.buffer)
        else:
            self._file = Path(path).open("rb", buffering=BUFFER)  # noqa: SIM115 - see `close`.
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                with self._file as once:
                    self._file = _copy(once)

    def close(self) -> None:
        """Close it; a copy is deleted."""
        self._file.close()

    def check(self, validate: Callable[[BatchRequest], object]) -> Check:
        """Read every line; what is not plainly right is judged by `validate`, which may raise."""
        check = Check()
        add = check.ids.add
        tokens = counted = size = 0
        for number, line in self._lines():
            try:
                record = _decode(line)
                # No half of a surrogate pair.
                is_plain = b"\\" not in line or (b"\\ud" not in line and b"\\uD" not in line)
                custom_id = plain_id(record) if is_plain else None
                if custom_id is None:
                    request = BatchRequest.from_record(record)
                    custom_id = request.custom_id
                    validate(request)
            except ValueError as error:
                why = str(error).partition("\n")[0]
                check.note(number, why.removesuffix(" Nothing was sent."))
                continue
            add(custom_id)
            check.count += 1
            size += len(line)
            if check.count <= COUNTED:
                counted = size
                tokens += tokens_of(BatchRequest.from_record(record))
        check.prompt_tokens = tokens * size / max(counted, 1)
        if repeats := check.ids.count_repeats():
            problems = islice(self._find_repeats(check.ids), MOST_PROBLEMS)
            check.problems = sorted([*check.problems, *problems])[:MOST_PROBLEMS]
            check.problem_count += repeats
        return check

    def requests(self) -> Iterator[BatchRequest]:
        """Read the lines that were checked, with the system message where they have none."""
        for _, line in self._lines(self._size):
            request = _parse(line)
            if self._system is not None and not any(
                message.get("role") in {"system", "developer"} for message in request.messages
            ):
                system = {"role": "system", "content": self._system}
                request = replace(request, messages=[system, *request.messages])
            yield request

    def _lines(self, size: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Give the lines that are not blank with their numbers, to where the check came."""
        self._file.seek(0)
        read = 0
        for number, line in enumerate(self._file, 1):
            read += len(line)
            if size is not None and read > size:
                return  # It was added since the check.
            if number == 1:
                line = line.removeprefix(_BOM)  # noqa: PLW2901 - of the first line alone.
            if not line.isspace():
                yield number, line
        self._size = read

    def _find_repeats(self, ids: IdSet) -> Iterator[tuple[int, str]]:
        """Read the lines again, for those whose id was there before; a number a line is kept."""
        first = array("q", bytes(8 * len(ids)))
        for number, line in self._lines():
            try:
                custom_id = _parse(line).custom_id
            except ValueError:
                continue
            if (place := ids.index(custom_id)) is None:
                continue
            if before := first[place]:
                yield number, f"custom_id {custom_id!r} was on line {before} already"
            else:
                first[place] = number


def tokens_of(request: BatchRequest) -> int:
    """Estimate the tokens of a prompt as a line has it."""
    contents = (message.get("content") for message in request.messages)
    texts = (text if isinstance(text, str) else str(text) for text in contents)
    return PER_PROMPT + sum(PER_MESSAGE + estimate_tokens(text) for text in texts)


def _parse(line: bytes) -> BatchRequest:
    return BatchRequest.from_record(_decode(line))


def _decode(line: bytes) -> object:
    try:
        text = line.decode().strip()
        record, end = _DECODE(text)
    except UnicodeDecodeError:
        raise BadRequestError("it is no UTF-8") from None
    except ValueError as error:
        raise BadRequestError(f"it is no JSON: {error}") from None
    except RecursionError:
        raise BadRequestError("it is nested too deeply") from None
    if end != len(text):
        raise BadRequestError("it is more than one JSON object")
    return record


def _copy(source: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile(buffering=BUFFER)  # noqa: SIM115 - closed by `close`.
    shutil.copyfileobj(source, copy, BUFFER)
    return copy
