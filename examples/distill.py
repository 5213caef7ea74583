"""Topics to a fine-tuning file, each call paid for once: `python examples/distill.py FILE`."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter, batch

TOPICS = "cheese making\nthe tides\nknots for sailors\nhow a refrigerator works\nthe Silk Road"
PEOPLE, BUDGET = ("a child", "a student", "an expert"), 0.5


class Questions(BaseModel):
    """Questions on a topic."""

    questions: list[str] = Field(min_length=1, max_length=5)


def wanted(topics: list[str]) -> Iterator[dict[str, str]]:
    """Ask for questions on each topic, of each kind of person."""
    for topic in topics:
        for who in PEOPLE:
            ask = f"Write five different questions that {who} may ask on {topic}."
            yield {"id": f"{topic}/{who}", "prompt": ask}


def main(topics: list[str], out: Path) -> None:
    """Write a line for each question and its answer."""
    pace = SegmindRateLimiter(requests_per_minute=50)
    llm = ChatSegmindLlama(journal=out.with_suffix(".sqlite"), max_tokens=400, rate_limiter=pace)
    spent, asked, texts = 0.0, dict[str, str](), set[str]()
    for result in batch.run_sync(wanted(topics), llm, budget=BUDGET, schema=Questions):
        spent += result.cost or 0.0
        for question in result.parsed.questions if result.parsed else ():
            name = re.sub(r"\W+", " ", question).strip().lower()[:190]
            asked[name] = min(question, asked.get(name, question))  # Whatever came first.
    rows = ({"id": f"answer/{name}", "prompt": asked[name]} for name in sorted(asked))
    with out.open("w", encoding="utf-8") as file:
        for result in batch.run_sync(rows, llm, budget=BUDGET - spent):
            spent += result.cost or 0.0
            if result.error is None and result.text not in texts:
                texts.add(result.text)
                question = asked[result.custom_id.removeprefix("answer/")]
                turns = zip(("user", "assistant"), (question, result.text), strict=True)
                messages = [{"role": role, "content": text} for role, text in turns]
                file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    print(f"{len(texts)} pairs on {len(topics)} topics in {out}; {spent:.6f} credits spent now.")


if __name__ == "__main__":
    given = Path(sys.argv[1]).read_text("utf-8") if sys.argv[1:] else TOPICS
    try:
        main(given.split("\n"), Path("distilled.jsonl"))
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
