"""How far earlier runs came, by what the journal says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_segmind._batch.requests import place_of

if TYPE_CHECKING:
    from langchain_segmind._batch.ids import IdSet
    from langchain_segmind._journals.entries import Journal


@dataclass(slots=True)
class History:
    """The journal's entries of one batch, counted."""

    states: Counter[str] = field(default_factory=Counter)
    """How many answers are in each state; those of a schema's retries are left out."""
    spent: float = 0.0
    """Credits that its answers cost."""
    sent: dict[str, int] = field(default_factory=dict)
    """The keys that may be paid for and have no answer yet, numbered from the oldest."""


def read_history(journal: Journal, ids: IdSet, samples: int) -> History:
    """Count the entries of the samples of those ids, page by page."""
    history = History()
    for entry in journal.entries():
        place = place_of(entry.key)
        if place is None or place.sample >= samples or place.custom_id not in ids:
            continue
        history.spent += entry.cost or 0.0
        if not place.retry:
            history.states[entry.state] += 1
            if entry.state in {"submitted", "unknown"}:
                history.sent[entry.key] = len(history.sent)
    return history
