"""Masking the key, and a proxy's password, in what errors and metadata repeat of others' words."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from langchain_segmind.exceptions import SegmindError

    Error = TypeVar("Error", bound=SegmindError)

MASK = "**********"
SHORTEST_SECRET = 8
"""Characters: Segmind's keys have 19. A shorter one, as for a gateway at home, is part of words: it
is masked where it stands for itself, quoted, behind `=` or a colon, or named a key."""
_FOR_ITSELF = r"(?:(?<=[\"'`=])|(?<=: )|(?<=[kK]ey )|(?<=[kK]ey:)|(?<=request ))"


class KeyRedactor:
    """Masks one key: plain, JSON-escaped or percent-encoded, each character in its own way."""

    def __init__(self, key: str, *, before: str = _FOR_ITSELF) -> None:
        """Keep the key, and a pattern of what stands before one so short that words may hold it.

        What finds the key is built when a text first may hold it.
        """
        self._key = key
        self._before = before
        self._is_secret = len(key) >= SHORTEST_SECRET
        self._others: list[KeyRedactor] = []

    def mask_passwords(self, *passwords: str) -> None:
        """Mask these as well, from now on."""
        self._others = [KeyRedactor(word, before=r"(?<![\w-])") for word in passwords if word]

    def text(self, text: str) -> str:
        """Mask the key in a text."""
        for other in self._others:
            text = other.text(text)
        if not (self._key in text or (self._is_secret and ("u00" in text or "%" in text))):
            return text
        return self._pattern.sub(MASK, text)

    def error(self, error: Error) -> Error:
        """Mask the key in what an error says and holds."""
        error.message = self.text(error.message)
        error.args = (error.message,)
        if error.request_id is not None:
            is_key = error.request_id == self._key
            error.request_id = MASK if is_key else self.text(error.request_id)
        return error

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if not self._is_secret:
            return re.compile(rf"{self._before}{re.escape(self._key)}(?![\w-])")
        return re.compile("".join(map(_spellings, self._key)), re.IGNORECASE)


def _spellings(character: str) -> str:
    code = f"{ord(character):02x}"
    plain = re.escape(character)
    return rf"(?:(?-i:{plain})|\\{{1,8}}u00{code}|%{code})"
