"""A chain: prompts, a Llama and a parser, called once, in a batch, and streamed.

The second step reads what the first one wrote, so each input costs two calls.
"""

from __future__ import annotations

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_segmind import ChatSegmindLlama, SegmindError, get_credits_callback

EXPLAIN = ChatPromptTemplate.from_messages(
    [
        ("system", "You explain words to a child of {age}, in two short sentences."),
        ("human", "What is {word}?"),
    ]
)
QUIZ = ChatPromptTemplate.from_template(
    "Write one question that this text answers, and nothing else:\n\n{text}"
)


def main() -> None:
    """Explain some words, and count what it costs."""
    with ChatSegmindLlama(temperature=0.3, max_tokens=100) as llm, get_credits_callback() as spent:
        explain = EXPLAIN | llm | StrOutputParser()
        quiz = {"text": explain} | QUIZ | llm | StrOutputParser()

        print("Once:", quiz.invoke({"word": "a volcano", "age": 8}))

        words = ["an echo", "a shadow"]
        questions = quiz.batch([{"word": word, "age": 8} for word in words])
        for word, question in zip(words, questions, strict=True):
            print(f"Batch, {word}:", question)

        print("Stream: ", end="")
        for piece in explain.stream({"word": "a rainbow", "age": 8}):
            print(piece, end="", flush=True)
        print()
    print(spent)


if __name__ == "__main__":
    try:
        main()
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
