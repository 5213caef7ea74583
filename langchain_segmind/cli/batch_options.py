"""What `langchain-segmind batch` is told."""

from __future__ import annotations

import argparse
import sys
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
    add = parser.add_argument
    add("requests", metavar="REQUESTS", help="a JSONL file; - reads standard input")
    add("answers", metavar="ANSWERS", help="where the answers are added, a line each")
    add("--errors", metavar="FILE", help="where those that failed go instead of ANSWERS")
    add("--journal", metavar="PATH", help="what was paid for (default: ANSWERS.sqlite)")
    add("--no-queue", action="store_true", help="call v1 instead of Segmind's queue")
    add("--base-url", metavar="URL", help="instead of SEGMIND_BASE_URL")
    _add_defaults(parser.add_argument_group("for lines that do not say"))
    _add_money(parser.add_argument_group("money and pace"))
    _add_answers(parser.add_argument_group("answers"))
    _add_ways(parser.add_argument_group("instead of a plain run"))
    return parser


def _add_defaults(group: Any) -> None:
    add = group.add_argument
    add("--model", metavar="SLUG", help="the model, by its name on segmind.com")
    add("--temperature", type=_number(0, 2), metavar="X", help="0 to 2")
    add("--max-tokens", type=_count(1), metavar="N", help="the longest answer, in tokens")
    add("--system", metavar="TEXT", help="a system message")


def _add_money(group: Any) -> None:
    add = group.add_argument
    add(
        "--budget",
        type=_number(0),
        metavar="CREDITS",
        help="never spend more on this file, earlier runs included",
    )
    add("--min-credits", type=_number(0), metavar="X", help="leave so many on the account")
    add("--requests-per-minute", type=_count(1), metavar="N", help="what the plan allows")
    add(
        "--in-flight",
        type=_count(1),
        metavar="N",
        help="calls under way at most (default: 64, or the requests a minute where they are more)",
    )
    add("--yes", action="store_true", help="do not ask before anything is paid")


def _add_answers(group: Any) -> None:
    add = group.add_argument
    add("--samples", type=_count(1), default=1, metavar="N", help="answers to each line")
    add("--schema", metavar="FILE", help="a JSON schema, or module:Class of a pydantic model")
    add(
        "--schema-retries",
        type=_count(0),
        default=0,
        metavar="N",
        help="ask again, for money, where an answer does not fit (default: 0)",
    )


def _add_ways(group: Any) -> None:
    add = group.add_argument
    add("--status", action="store_true", help="tell what stands how; sends nothing")
    add(
        "--retry-unknown",
        action="store_true",
        help="send again what may have been paid for, and so perhaps pay twice",
    )


def _number(least: float, most: float = 1e12) -> Callable[[str], float]:
    def check(text: str) -> float:
        number = float(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return number

    check.__name__ = "number"
    return check


def _count(least: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return number

    check.__name__ = "number"
    return check


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
