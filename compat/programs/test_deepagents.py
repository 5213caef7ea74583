"""`create_deep_agent`: todos, files and a sub-agent, all of them tools of one Llama."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from deepagents import create_deep_agent

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from langchain_segmind.gateway import Script


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama does."""
    return json.dumps({"name": name, "parameters": parameters})


def test_a_file_is_written_and_read(scripted_segmind: Script) -> None:
    """What was written comes back as a result."""
    scripted_segmind.will_say(
        call("write_file", file_path="/plan.md", content="Buy milk."),
        call("read_file", file_path="/plan.md"),
        "It says: buy milk.",
    )
    state = create_deep_agent(ChatSegmindLlama()).invoke({"messages": [("user", "Plan.")]})
    assert state["messages"][-1].content == "It says: buy milk."
    assert "Buy milk." in scripted_segmind.bodies[-1]["messages"][-1]["content"]


async def test_a_sub_agent_does_a_task(scripted_segmind: Script) -> None:
    """Its answer is the result of the call."""
    worker = {"name": "worker", "description": "Works.", "system_prompt": "You work."}
    agent = create_deep_agent(ChatSegmindLlama(), subagents=[worker])  # type: ignore[list-item]
    scripted_segmind.will_say(
        call("task", description="Work.", subagent_type="worker"), "I worked.", "It is done."
    )
    state = await agent.ainvoke({"messages": [("user", "Have it done.")]})
    assert state["messages"][-1].content == "It is done."
    assert "I worked." in scripted_segmind.bodies[-1]["messages"][-1]["content"]
    assert scripted_segmind.bodies[1]["messages"][0]["content"].startswith("You work.")
