"""Stop sequences, enforced on our side too: a model may ignore those it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopCutter:
    """Lets text through up to the first stop sequence, across any split into pieces."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._longest = max((len(sequence) for sequence in stop), default=0)
        self._held = ""
        self.cut = False
        """Whether a stop sequence has come."""

    def feed(self, text: str) -> str:
        """Take a piece; give the text that cannot be part of a stop sequence any more."""
        if not self._stop:
            return text
        if self.cut:
            return ""
        text = self._held + text
        # The one that ends first: a model that minds them stops there, and so does any split.
        found = [(text.find(each) + len(each), -len(each)) for each in self._stop if each in text]
        if found:
            self.cut = True
            self._held = ""
            end, negative_length = min(found)
            return text[: end + negative_length]
        kept = self._possible_start(text)
        self._held = text[kept:]
        return text[:kept]

    def finish(self) -> str:
        """Give what was held back when the text has ended."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Find where a sequence may begin that the next piece completes."""
        first = max(0, len(text) - self._longest + 1)
        for at in range(first, len(text)):
            if any(sequence.startswith(text[at:]) for sequence in self._stop):
                return at
        return len(text)
