"""Journals: what was sent, and what came of it, kept outside of the process.

`SqliteJournal` serves the processes of one machine, `PostgresJournal` those of several; a store of
your own derives from `Journal`, and `langchain_segmind.testing.JournalContract` tests it.
"""

from langchain_segmind._journals.entries import Change, Claim, Journal, JournalEntry, State
from langchain_segmind._journals.holders import is_dead, this_process
from langchain_segmind._journals.postgres import PostgresJournal
from langchain_segmind._journals.sqlite import SqliteJournal

__all__ = [
    "Change",
    "Claim",
    "Journal",
    "JournalEntry",
    "PostgresJournal",
    "SqliteJournal",
    "State",
    "is_dead",
    "this_process",
]
