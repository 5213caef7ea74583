"""Answers from documents, with their sources: from the reference that every Python carries.

SQLite ranks the passages by BM25: nothing to download or to embed, and exact names are found.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pydoc_data.topics import topics

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from langchain_segmind import ChatSegmindLlama, SegmindError

PROMPT = ChatPromptTemplate.from_template(
    "Answer the question from these passages alone, and name the ones you used, as in [2]. "
    "If they do not hold the answer, say so.\n\n{passages}\n\nQuestion: {question}"
)
INDEX = sqlite3.connect(":memory:", check_same_thread=False)
INDEX.execute("CREATE VIRTUAL TABLE passages USING fts5(page, text, tokenize='porter')")
seen: set[str] = set()  # Long pages hold short ones.
for name, page in sorted(topics.items(), key=lambda topic: len(topic[1])):
    seen |= set(parts := [part for part in page.split("\n\n") if part not in seen])
    rows = [(name, "\n\n".join(parts[at : at + 3])) for at in range(0, len(parts), 2)]
    INDEX.executemany("INSERT INTO passages VALUES (?, ?)", rows)


def search(given: dict[str, str]) -> list[Document]:
    """Find the passages that fit a question best."""
    words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", given["question"])) or '""'
    query = "SELECT page, text FROM passages WHERE text MATCH ? ORDER BY rank LIMIT 4"
    return [Document(text, metadata={"page": page}) for page, text in INDEX.execute(query, [words])]


def numbered(given: dict[str, list[Document]]) -> str:
    """Write what was found so that the model can name it."""
    return "\n\n".join(f"[{n}] {each.page_content}" for n, each in enumerate(given["found"], 1))


def main(question: str) -> None:
    """Answer a question, and say from what."""
    with closing(INDEX), ChatSegmindLlama(temperature=0, max_tokens=200) as llm:
        with_passages = RunnablePassthrough.assign(found=search).assign(passages=numbered)
        given = with_passages.assign(answer=PROMPT | llm).invoke({"question": question})
    print(question, given["answer"].text, given["answer"].response_metadata["credits"], sep="\n\n")
    for number, passage in enumerate(given["found"], 1):
        print(f"[{number}] help({passage.metadata['page']!r}):", *passage.page_content.split()[:12])


if __name__ == "__main__":
    try:
        main(" ".join(sys.argv[1:]) or "When are default parameter values evaluated?")
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
