"""An agent with tools over real data: the packages that are installed beside it.

`python examples/agent.py "Which packages need httpx?"` asks something else. The tools only read,
and the number of calls is limited, and with it the bill, should the model never come to an end.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.messages import HumanMessage

from langchain_segmind import ChatSegmindLlama, SegmindError, get_credits_callback

QUESTION = "Which version of httpx is installed, and is it one that langchain-segmind can use?"
ROLE = (
    "You answer questions about the Python packages that are installed here. Look everything up "
    "with your tools, one step at a time; never guess a version."
)


def describe_package(name: str) -> str:
    """Tell an installed package's version, what it is, and which other packages it needs."""
    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        return f"No package {name!r} is installed."
    needs = "; ".join(need for need in found.requires or [] if "extra ==" not in need)
    about = found.metadata.json.get("summary", "")
    return f"{found.metadata['Name']} {found.version}: {about} Needs: {needs or 'nothing'}."


def find_packages(word: str) -> str:
    """List installed packages whose name or summary contains a word."""
    about = {f"{d.name}: {d.metadata.json.get('summary', '')}" for d in distributions()}
    found = sorted(line for line in about if word.lower() in line.lower())
    return "\n".join(found[:20]) or f"No installed package mentions {word!r}."


def main() -> None:
    """Ask, and show each step of the way to the answer."""
    question = " ".join(sys.argv[1:]) or QUESTION
    with ChatSegmindLlama(temperature=0, max_tokens=300) as llm, get_credits_callback() as spent:
        limit = ModelCallLimitMiddleware(run_limit=6)
        tools = [describe_package, find_packages]
        agent = create_agent(llm, tools, system_prompt=ROLE, middleware=[limit])
        for message in agent.invoke({"messages": [HumanMessage(question)]})["messages"]:
            message.pretty_print()
    print(f"\n{spent}")


if __name__ == "__main__":
    try:
        main()
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
