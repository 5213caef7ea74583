"""Thousands of prompts, none paid for twice: `python examples/bulk.py 2000 50`."""

import sys
from pydoc_data.topics import topics

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter, batch

TEXTS = [text for page in topics.values() for text in page.split("\n\n") if text[-1:] == "."]


def main(count: int = 20, per_minute: int = 50) -> None:
    """Ask a question on each text; those that were answered before cost nothing."""
    rows = [{"id": n, "prompt": f"Ask one question on this:\n\n{t}"} for n, t in enumerate(TEXTS)]
    pace = SegmindRateLimiter(requests_per_minute=per_minute)
    llm = ChatSegmindLlama(journal="questions.sqlite", max_tokens=100, rate_limiter=pace)
    for result in batch.run_sync(rows[:count], llm, budget=1.0):
        print(result.custom_id, result.error or result.text)


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
