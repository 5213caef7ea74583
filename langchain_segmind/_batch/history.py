"""How far earlier runs came, by what the journal says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_segmind._batch.requests import Place, place_of

if TYPE_CHECKING:
    from langchain_segmind._batch.ids import IdSet
    from langchain_segmind._journals.entries import Journal, JournalEntry


@dataclass(slots=True)
class History:
    """The journal's entries of one batch, counted."""

    states: Counter[str] = field(default_factory=Counter)
    """How many answers are in each state; those of a schema's retries are left out."""
    spent: float = 0.0
    """Credits that its answers cost."""
    dearest: float = 0.0
    """What the dearest of them cost."""
    submitted: dict[str, int] = field(default_factory=dict)
    """The keys whose answers are to be fetched, numbered from the oldest."""

    @property
    def may_be_spent(self) -> float:
        """Credits, with what is unknown counted like the dearest answer."""
        return self.spent + self.states["unknown"] * self.dearest

    def count(self, entry: JournalEntry, place: Place) -> None:
        """Count an entry."""
        cost = (entry.accounting or {}).get("cost") or 0.0
        self.spent += cost
        self.dearest = max(self.dearest, cost)
        if place.retry:
            return
        self.states[entry.state] += 1
        if entry.state == "submitted":
            self.submitted[entry.key] = len(self.submitted)


def read_history(journal: Journal, ids: IdSet, samples: int) -> History:
    """Count the entries of the samples of those ids, page by page."""
    history = History()
    for entry in journal.entries():
        place = place_of(entry.key)
        if place is not None and place.sample < samples and place.custom_id in ids:
            history.count(entry, place)
    return history
