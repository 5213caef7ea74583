"""What the package shows."""

from __future__ import annotations

import langchain_segmind


def test_all_is_sorted_and_true() -> None:
    """Every public name exists, and the list is in order."""
    names = langchain_segmind.__all__
    assert names == sorted(names)
    assert all(hasattr(langchain_segmind, name) for name in names)
