"""What the package shows."""

from __future__ import annotations

from pathlib import Path

from langchain_core.language_models import BaseChatModel

import langchain_segmind
from langchain_segmind import ChatSegmindLlama, SegmindRateLimiter
from langchain_segmind._messages.arguments import Arguments
from langchain_segmind._messages.parameters import ALIASES


def test_all_is_sorted_and_true() -> None:
    """Every public name exists, and the list is in order."""
    names = langchain_segmind.__all__
    assert names == sorted(names)
    assert all(hasattr(langchain_segmind, name) for name in names)


def test_type_checkers_are_told_every_argument() -> None:
    """The constructor's types name each field and alias, and nothing that is neither."""
    fields = ChatSegmindLlama.model_fields
    known = set(fields) | set(ALIASES)
    told = set(Arguments.__annotations__)
    assert told <= known
    assert known - told <= set(BaseChatModel.model_fields)  # A later langchain-core may have more.


def test_a_model_shows_itself_in_a_line() -> None:
    """Its slug, and what was set; no default, no key, no address in memory."""
    limiter = SegmindRateLimiter(requests_per_minute=50)
    llm = ChatSegmindLlama(
        api_key="SG_0123456789abcdef",
        temperature=0,
        rate_limiter=limiter,
        journal="run.sqlite",
        min_credits=1e-6,
        default_headers={"authorization": "secret"},
    )
    assert repr(llm) == (
        "ChatSegmindLlama(model='llama-v3p1-70b-instruct', "
        "rate_limiter=SegmindRateLimiter(requests_per_minute=50), "
        "api_key=SecretStr('**********'), temperature=0.0, "
        f"journal=SqliteJournal({str(Path('run.sqlite').absolute())!r}), "
        "min_credits=0.000001)"
    )
