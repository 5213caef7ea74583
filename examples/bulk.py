"""Thousands of prompts through the queue, none paid twice: `python examples/bulk.py 2000 50`."""

import asyncio
import json
import sys
from pathlib import Path
from pydoc_data.topics import topics

from langchain_core.runnables import RunnableLambda

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter

DONE, LOG = Path("questions.jsonl"), Path("questions.log.jsonl")
TEXTS = [text for page in topics.values() for text in page.split("\n\n") if text[-1:] == "."]
PROMPTS = sorted({f"Ask one {a} question on this:\n\n{t}" for t in TEXTS for a in ("easy", "hard")})


def read(path: Path) -> dict[str, str | None]:
    """Read which prompts are in a file, and the last job of each."""
    rows = map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()
    return {row["prompt"]: row.get("job") for row in rows}


def append(path: Path, **row: object) -> None:
    """Add a row in one write, of which a kill leaves no half."""
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(row).encode() + b"\n")


async def main(count: int = 20, per_minute: int = 50) -> None:
    """Fetch what was submitted before a kill, ask for the rest, and write down what comes."""
    done, jobs = read(DONE), read(LOG)
    todo = [p for p in PROMPTS[:count] if p not in done and jobs.get(p, "") is not None]
    pace = SegmindRateLimiter(requests_per_minute=per_minute)
    llm = ChatSegmindLlama(queue=True, max_tokens=100, min_credits=0.01)

    async def ask(prompt: str) -> None:
        new = llm.model_copy(update={"on_submit": lambda job: append(LOG, prompt=prompt, job=job)})
        try:
            if not (job := jobs.get(prompt)):
                await pace.aacquire()
                append(LOG, prompt=prompt, job=None)  # From here on it may be paid for.
            answer = await (llm.aresume(job) if job else new.ainvoke(prompt))
            append(DONE, prompt=prompt, answer=answer.text, **answer.response_metadata["credits"])
        except SegmindError as error:  # It is asked anew where it is surely not paid for.
            job = error.request_id if error.outcome_unknown else ""
            append(LOG, prompt=prompt, job=job, error=str(error))

    async with llm:
        print(f"{len(todo)} to do, with {(await llm.aget_credits()).total} credits.")
        await RunnableLambda(ask).abatch(todo, {"max_concurrency": 64})
        print(f"{len(read(DONE))} in {DONE}; {(await llm.aget_credits()).total} credits left.")


if __name__ == "__main__":
    try:
        asyncio.run(main(*map(int, sys.argv[1:])))
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
