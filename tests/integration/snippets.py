"""Runs the Python snippets of a page in order, and compares what they print with what it shows.

A block of text right behind a snippet is what the snippet prints; `…` in it stands for anything
on that line.
"""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.validation import text_of
from tests.integration import scripted_llama

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(
    r"^(?P<indent> *)```python\n(?P<source>.*?)^(?P=indent)```$"
    r"(?:\n\n(?P=indent)```text\n(?P<shown>.*?)^(?P=indent)```$)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Snippet:
    """A piece of a page that a reader may type."""

    source: str
    line: int
    shown: str | None
    """What the page says that it prints; None where it says nothing."""


def snippets_of(page: str) -> Iterator[Snippet]:
    """Cut the snippets out of Markdown."""
    for found in _BLOCK.finditer(page):
        shown = found["shown"]
        yield Snippet(
            textwrap.dedent(found["source"]),
            page.count("\n", 0, found.start("source")),
            None if shown is None else textwrap.dedent(shown),
        )


def run(page: str, name: str) -> str:
    """Run a page's snippets in one namespace and give all that they print.

    Raises:
        AssertionError: One prints something else than the page shows.
    """
    names: dict[str, Any] = {"__name__": name}
    everything = ""
    for snippet in snippets_of(page):
        # The blank lines let a traceback show the line of the page.
        code = compile("\n" * snippet.line + snippet.source, name, "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        _compare(printed.getvalue(), snippet, name)
        everything += printed.getvalue()
    return everything


def _compare(printed: str, snippet: Snippet, name: str) -> None:
    if snippet.shown is None:
        return
    pattern = "[^\n]*".join(re.escape(part) for part in snippet.shown.split("…"))
    assert re.fullmatch(pattern, printed), f"{name}:{snippet.line} prints:\n{printed}"


# --- What the local Segmind answers to them ----------------------------------------------------

_SAID = {
    "I love programming.": "J'aime la programmation.",
    "Tell me a joke on cats": "Why did the cat sit? Because it could.",
    "Tell me a joke on dogs": "Why did the dog run? Because the cat did.",
    "Say half a call": '{"name": "get_weather", "parameters": {"location": "San Fr',
    "Hello": "Hello! How can I help you?",
}
_MOON = "Is the Moon made of cheese? Answer in prose."
_ROCK = "No, it is made of rock."
_CITY = '{"name": "Paris", "country": "France", "inhabitants": 2100000}'


def answer(body: dict[str, Any]) -> str:
    """Answer as a large Llama would, to what the pages ask."""
    last = text_of(body["messages"][-1]["content"], image="[image]")
    system = str(body["messages"][0]["content"])
    asked = last.rpartition("\n\n")[2]
    if asked in _SAID and "response_format" not in body:
        return "Ich liebe Programmieren." if "German" in system else _SAID[asked]
    if asked in (_MOON, _ROCK) or last.startswith(_MOON):
        return _ROCK  # Whatever form was asked for.
    if asked == "What is my name?":
        told = any("My name is Ada." in str(message["content"]) for message in body["messages"])
        return "Your name is Ada." if told else "You have not told me."
    match last.partition("\n")[0]:
        case "What is in this picture?[image]" | "What is in this picture?":
            return "A cat on a sofa."
        case "Tell me about Paris.":
            return _CITY
        case first if first.startswith("The reply does not fit"):
            return '{"holds": false, "why": "It is made of rock."}'
        case first if first.startswith('Result of the tool "get_weather"'):
            return "It is sunny in San Francisco."
    return scripted_llama.answer(body)
