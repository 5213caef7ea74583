"""What `langchain-segmind batch` is told."""

from __future__ import annotations

import argparse
import sys
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_segmind.chat_models import ChatSegmindLlama

DESCRIPTION = """Answer a file of requests: each is paid for once, whatever stops the run, and the
next run goes on where it stopped."""
EPILOG = """A line of REQUESTS is OpenAI's batch line (custom_id and body), or {"id", "messages"},
or {"id", "prompt"}. All of it is checked before anything is paid. A line of ANSWERS is that of
OpenAI's batch output. What was paid for is in the journal, so that ANSWERS can be deleted and is
written again for nothing. Exit codes: 0 all answered, 1 some failed or unknown, 2 bad input,
3 budget or credits, 130 interrupted. The key comes from SEGMIND_API_KEY."""
JOB_SECONDS = 3300.0
"""How long an answer is waited for: Segmind keeps it for an hour."""
RETRIES = 5


def batch(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        from langchain_segmind.cli.batch import run_batch

        return run_batch(options)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(
        prog="langchain-segmind batch", description=DESCRIPTION, epilog=EPILOG
    )
    for title, options in _OPTIONS.items():
        group = parser.add_argument_group(title) if title else parser
        for name, facts in options.items():
            group.add_argument(name, **facts)
    return parser


def _number(kind: type[int | float], least: int, most: float = 1e12) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = kind(text)
        if not isfinite(number):
            raise ValueError
        if not least <= number <= most:
            bound = f"less than {least}" if number < least else f"more than {most:,.0f}"
            raise argparse.ArgumentTypeError(f"{text} is {bound}")
        return number

    # What argparse calls it: "invalid whole number value: '1.5'".
    read.__name__ = "number" if kind is float else "whole number"
    return read


def _flag(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


def _option(metavar: str, text: str, **facts: Any) -> dict[str, Any]:
    return {"metavar": metavar, "help": text, **facts}


_CREDITS, _COUNT = _number(float, 0), _number(int, 1)
_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "": {
        "requests": _option("REQUESTS", "a JSONL file; - reads standard input"),
        "answers": _option("ANSWERS", "where the answers are added, a line each"),
        "--errors": _option("FILE", "where those that failed go instead of ANSWERS"),
        "--journal": _option("PATH", "what was paid for (default: ANSWERS.sqlite)"),
        "--no-queue": _flag("call v1 instead of Segmind's queue"),
        "--base-url": _option("URL", "instead of SEGMIND_BASE_URL"),
    },
    "for lines that do not say": {
        "--model": _option("SLUG", "the model, by its name on segmind.com"),
        "--temperature": _option("X", "0 to 2", type=_number(float, 0, 2)),
        "--max-tokens": _option("N", "the longest answer, in tokens", type=_COUNT),
        "--system": _option("TEXT", "a system message"),
    },
    "money and pace": {
        "--budget": _option(
            "CREDITS", "never spend more on this file, earlier runs included", type=_CREDITS
        ),
        "--min-credits": _option("X", "leave so many on the account", type=_CREDITS),
        "--requests-per-minute": _option("N", "what the plan allows", type=_COUNT),
        "--in-flight": _option(
            "N",
            "calls under way at most (default: 64, or the requests a minute where they are more)",
            type=_COUNT,
        ),
        "--yes": _flag("do not ask before anything is paid"),
    },
    "answers": {
        "--samples": _option("N", "answers to each line", type=_COUNT, default=1),
        "--schema": _option("FILE", "a JSON schema, or module:Class of a pydantic model"),
        "--schema-retries": _option(
            "N",
            "ask again, for money, where an answer does not fit (default: 0)",
            type=_number(int, 0),
            default=0,
        ),
    },
    "instead of a plain run": {
        "--status": _flag("tell what stands how; sends nothing"),
        "--retry-unknown": _flag(
            "send again what may have been paid for, and so perhaps pay twice"
        ),
    },
}


def model_of(options: argparse.Namespace) -> ChatSegmindLlama:
    """Build the model that answers, with its journal.

    Raises:
        ValueError: There is no key, or an option makes no sense for a model.
    """
    from langchain_segmind import ChatSegmindLlama, SegmindRateLimiter
    from langchain_segmind.journals import PostgresJournal, SqliteJournal

    place = options.journal or f"{options.answers}.sqlite"
    pace = options.requests_per_minute
    settings = {
        "model": options.model,
        "base_url": options.base_url,
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "min_credits": options.min_credits,
        "rate_limiter": None if pace is None else SegmindRateLimiter(requests_per_minute=pace),
        # What is only looked at needs no account.
        "api_key": "none" if options.status else None,
    }
    return ChatSegmindLlama(
        journal=PostgresJournal(place) if "://" in place else SqliteJournal(place),
        queue=not options.no_queue,
        queue_timeout=JOB_SECONDS,
        max_retries=RETRIES,
        retry_unknown_outcome=options.retry_unknown,
        **{name: value for name, value in settings.items() if value is not None},
    )
