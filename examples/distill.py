"""Topics to a fine-tuning file, each call paid for once: `python examples/distill.py FILE`."""

import json
import re
import sys
from pathlib import Path

from pydantic import BaseModel, Field

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter, batch

TOPICS = "cheese making\nthe tides\nknots for sailors\nhow a refrigerator works\nthe Silk Road"
ASK = "Write five different questions that {} may ask on {}."
PEOPLE, BUDGET = ("a child", "a student", "an expert"), 0.5


class Questions(BaseModel):
    """Questions on a topic."""

    questions: list[str] = Field(min_length=1, max_length=5)


def paid(llm: ChatSegmindLlama, kind: str = "") -> float:
    """Count the credits that calls of a kind, or all, have cost: in earlier runs, too."""
    return sum(e.cost or 0.0 for e in llm.journal.entries() if e.key.startswith(kind))


def main(topics: list[str], out: Path) -> None:
    """Write a line for each question and its answer."""
    pace = SegmindRateLimiter(requests_per_minute=50)
    llm = ChatSegmindLlama(journal=out.with_suffix(".sqlite"), max_tokens=400, rate_limiter=pace)
    asks = [(topic, who) for topic in topics for who in PEOPLE]
    rows = ({"id": f"ask/{topic}/{who}", "prompt": ASK.format(who, topic)} for topic, who in asks)
    left = BUDGET - paid(llm, "answer/")
    asked, texts = dict[str, str](), set[str]()
    for result in batch.run_sync(rows, llm, budget=left, schema=Questions):
        for question in result.parsed.questions if result.parsed else ():
            name = "answer/" + re.sub(r"\W+", " ", question).strip().lower()[:190]
            asked[name] = min(question, asked.get(name, question))  # Whatever came first.
    rows = ({"id": name, "prompt": question} for name, question in sorted(asked.items()))
    with out.open("w", encoding="utf-8") as file:
        for result in batch.run_sync(rows, llm, budget=BUDGET - paid(llm, "ask/")):
            if result.error is None and result.text not in texts:
                texts.add(result.text)
                pair = {"user": asked[result.custom_id], "assistant": result.text}
                messages = [{"role": role, "content": text} for role, text in pair.items()]
                file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    print(f"{len(texts)} pairs on {len(topics)} topics in {out}; {paid(llm):.6f} credits in all.")


if __name__ == "__main__":
    given = Path(sys.argv[1]).read_text("utf-8") if sys.argv[1:] else TOPICS
    try:
        main(given.split("\n"), Path("distilled.jsonl"))
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
