"""What goes wrong, drawn repeatably."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_segmind.gateway.settings import Faults


class FaultSource:
    """Draws the fate of one request after the other."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self.random = Random(seed)  # noqa: S311  Repeatable is what is wanted here.

    def draw(self) -> str | None:
        """Say what goes wrong with the next request, if anything."""
        drawn = self.random.random()
        for kind, share in self.faults.shares().items():
            if drawn < share:
                return kind
            drawn -= share
        return None
