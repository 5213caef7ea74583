"""What `ChatSegmindLlama(journal=...)` takes."""

from __future__ import annotations

import os
from importlib import import_module

from langchain_segmind._journals.entries import Journal
from langchain_segmind._journals.sqlite import SqliteJournal


def open_journal(journal: object) -> Journal:
    """Give a journal, or that in the SQLite file of a path.

    Raises:
        ValueError: It is neither.
    """
    import_module("langchain_segmind._protocol.journaled")  # A call is no place for it.
    if isinstance(journal, Journal):
        return journal
    if isinstance(journal, str) and "://" in journal:
        raise ValueError(
            "journal takes the path of a SQLite file or a Journal: for a database server, "
            'PostgresJournal("postgresql://...") of langchain_segmind.journals'
        )
    if isinstance(journal, (str, os.PathLike)) and os.fspath(journal):
        return SqliteJournal(os.fspath(journal))
    raise ValueError(
        "journal takes the path of a SQLite file, or a Journal of langchain_segmind.journals"
    )
