"""An agent that survives `kill -9`: run again, it goes on where it was, and pays each step once.

`python examples/durable_agent.py "Which of my packages read TOML?"`, killed at any moment and run
again with the same question. LangGraph keeps the finished steps, and the journal each call's job:
one that was paid for before the kill is fetched, not bought again.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_segmind import ChatSegmindLlama, SegmindError, get_credits_callback

QUESTION = "Which three of the installed packages take the most space, and what are they for?"
ROLE = "You answer questions on the Python packages installed here. Look everything up."


def measure_packages(most: int = 10) -> str:
    """List the installed packages that take the most space, with their sizes in bytes."""
    sizes = {d.name: sum(file.size or 0 for file in d.files or ()) for d in distributions()}
    largest = sorted(sizes.items(), key=lambda size: -size[1])[:most]
    return "\n".join(f"{name}: {size}" for name, size in largest)


def describe_package(name: str) -> str:
    """Tell what an installed package is for."""
    try:
        return str(distribution(name).metadata["Summary"])
    except (PackageNotFoundError, ValueError):
        return f"No package {name!r} is installed."


def main() -> None:
    """Begin, or go on, or show the answer that is there."""
    question = " ".join(sys.argv[1:]) or QUESTION
    llm = ChatSegmindLlama(journal="agent.journal.sqlite", temperature=0, max_tokens=300)
    with SqliteSaver.from_conn_string("agent.sqlite") as saver, get_credits_callback() as spent:
        tools: list[Any] = [measure_packages, describe_package]
        agent = create_agent(llm, tools, system_prompt=ROLE, checkpointer=saver)
        thread: Any = {"configurable": {"thread_id": question}}
        state = agent.get_state(thread)
        if state.next or not state.values:
            given: Any = None if state.next else {"messages": [HumanMessage(question)]}
            agent.invoke(given, thread, durability="sync")  # Each step is on disk before the next.
        agent.get_state(thread).values["messages"][-1].pretty_print()
    print(f"\nThis time: {spent.calls} calls, {spent.cost:.6f} credits.")


if __name__ == "__main__":
    try:
        main()
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
