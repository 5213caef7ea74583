"""The main job, shown: conversation, chain, batch, tools, structure and queue, with every credit.

With SEGMIND_API_KEY it talks to Segmind and costs a fraction of a cent; without, to a local
gateway with a real small model, which answers as well as 135 million parameters can.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field

from langchain_segmind import ChatSegmindLlama, SegmindError, gateway, get_credits_callback
from langchain_segmind.gateway.models import model_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ
WIDTH = min(shutil.get_terminal_size().columns - 1, 76)


def main() -> None:
    """Run every part against whichever Segmind there is."""
    with connected() as llm:
        say(f"Balance: {llm.get_credits().total:.2f} credits", "dim")
        with get_credits_callback() as spent:
            for title, part in PARTS:
                heading(title)
                with get_credits_callback() as here:
                    part(llm)
                say(str(here), "dim")
        heading("Bill")
        say(str(spent))


@contextmanager
def connected() -> Iterator[ChatSegmindLlama]:
    """Give a model on Segmind where there is a key, else on a local gateway."""
    if os.environ.get("SEGMIND_API_KEY"):
        with ChatSegmindLlama(max_tokens=200) as llm:
            say(f"Talking to {llm.model} at {llm.base_url}.")
            yield llm
        return
    paragraph(
        "No SEGMIND_API_KEY: starting a local Segmind with SmolLM2-135M-Instruct, a small model "
        "of Llama's architecture. Do not judge Llama 3.1 70B by its answers."
    )
    settings = gateway.Settings(credits=1.0, v1_limit=300)
    with (
        gateway.serve(settings, gateway.LlamaEngine(model_file())) as running,
        ChatSegmindLlama(
            api_key=running.api_key, base_url=running.url, max_tokens=120, temperature=0.6, seed=3
        ) as llm,
    ):
        yield llm


# --- The parts ---


def conversation(llm: ChatSegmindLlama) -> None:
    """Have the conversation of Segmind's own example."""
    messages = [
        ("human", "tell me a joke on cats"),
        ("ai", "here is a joke about cats..."),
        ("human", "now a joke on dogs"),
    ]
    for role, text in messages:
        turn(role, text)
    turn("ai", llm.invoke(messages).text)


def chain(llm: ChatSegmindLlama) -> None:
    """Pipe a prompt into the model and its answer into a parser."""
    prompt = ChatPromptTemplate.from_template("Name one fact about {topic}, in one sentence.")
    joined = prompt | llm | StrOutputParser()
    say('from_template("Name one fact about {topic} …") | llm | StrOutputParser()')
    turn("ai", joined.invoke({"topic": "the Moon"}))


def batch(llm: ChatSegmindLlama) -> None:
    """Answer several prompts at once."""
    show_batch(llm, ["Say hello in French.", "What colour is the sky?", "What is 2 + 2?"])


def queue(llm: ChatSegmindLlama) -> None:
    """Do the same through the queue: no call is lost, however long it takes."""
    queued = llm.model_copy(update={"queue": True, "poll_interval": 0.5})
    show_batch(queued, ["Name a planet.", "Name a river.", "Name a colour."])


def structure(llm: ChatSegmindLlama) -> None:
    """Get an object, not a text."""

    class City(BaseModel):
        """A city."""

        name: str = Field(description="the city's name", max_length=40)
        country: str = Field(description="the country it is in", max_length=40)

    say("llm.with_structured_output(City)")
    turn("ai", repr(llm.with_structured_output(City).invoke("Tell me about Paris, in France.")))


def agent(llm: ChatSegmindLlama) -> None:
    """Let an agent call a tool and answer from its result."""

    def get_population(city: str) -> str:
        """Look up how many people live in a city."""
        return f"{city} has 2.1 million inhabitants."

    @wrap_model_call
    def look_up_first(request: Any, handler: Callable[[Any], Any]) -> Any:
        """Force a call in the first turn: a small model would guess."""
        answered = any(message.type == "tool" for message in request.messages)
        return handler(request.override(tool_choice="none" if answered else "any"))

    made = create_agent(llm, [get_population], middleware=[look_up_first])
    question = "How many people live in Paris?"
    for message in made.invoke({"messages": [HumanMessage(question)]})["messages"]:
        for call in getattr(message, "tool_calls", []):
            turn(
                "call",
                f"{call['name']}({', '.join(f'{k}={v!r}' for k, v in call['args'].items())})",
            )
        if message.text:
            turn(message.type, message.text)


PARTS: list[tuple[str, Callable[[ChatSegmindLlama], None]]] = [
    ("A conversation", conversation),
    ("A chain", chain),
    ("A batch", batch),
    ("A batch through the queue", queue),
    ("A structured answer", structure),
    ("An agent with a tool", agent),
]

# --- Printing ---

STYLES = {"dim": "2", "bold": "1", "human": "36", "ai": "32", "call": "33", "tool": "35"}


def styled(text: str, style: str) -> str:
    """Colour a text where a person watches."""
    return f"\033[{STYLES[style]}m{text}\033[0m" if COLOURS else text


def say(text: str, style: str | None = None) -> None:
    """Print a line."""
    print(styled(text, style) if style else text)


def heading(text: str) -> None:
    """Start a part."""
    say(f"\n── {text} {'─' * (WIDTH - 4 - len(text))}", "bold")


def paragraph(text: str) -> None:
    """Print a text, wrapped."""
    say(textwrap.fill(text, WIDTH))


def turn(role: str, text: str) -> None:
    """Print what somebody said, wrapped, under their name."""
    lines = textwrap.wrap(" ".join(text.split()), WIDTH - 7) or ["(nothing)"]
    for index, line in enumerate(lines):
        say(f"{styled(f'{role:>5}' if index == 0 else '     ', role)}  {line}")


def show_batch(llm: ChatSegmindLlama, prompts: list[str]) -> None:
    """Run prompts together and print each with its answer."""
    for prompt, answer in zip(prompts, llm.batch([*prompts]), strict=True):
        turn("human", prompt)
        turn("ai", answer.text)


if __name__ == "__main__":
    try:
        main()
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
