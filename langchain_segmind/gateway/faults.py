"""What goes wrong, drawn repeatably."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_segmind.gateway.settings import Faults

Variant = TypeVar("Variant")


class FaultSource:
    """Draws the fate of one request after the other."""

    def __init__(self, faults: Faults, seed: int) -> None:
        """Start the draws that belong to a seed."""
        self.faults = faults
        self._random = Random(seed)  # noqa: S311  Repeatable is what is wanted here.

    def draw(self) -> str | None:
        """Say what goes wrong with the next request, if anything."""
        drawn = self._random.random()
        for kind, share in self.faults.shares().items():
            if drawn < share:
                return kind
            drawn -= share
        return None

    def happens(self, rate: float) -> bool:
        """Say whether something that happens at this rate happens now."""
        return self._random.random() < rate

    def pick(self, variants: Sequence[Variant]) -> Variant:
        """Choose a variant."""
        return self._random.choice(variants)
