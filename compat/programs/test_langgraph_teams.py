"""Agents that hand over to each other: langgraph-supervisor and langgraph-swarm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from langchain_segmind.gateway import Script


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama does."""
    return json.dumps({"name": name, "parameters": parameters})


def test_a_supervisor_hands_over_and_takes_back(scripted_segmind: Script) -> None:
    """The expert's result is in the supervisor's next prompt."""
    expert = create_agent(ChatSegmindLlama(), [add], name="math_expert")
    team = create_supervisor([expert], model=ChatSegmindLlama()).compile()
    scripted_segmind.will_say(
        call("transfer_to_math_expert"), call("add", a=1, b=2), "1 + 2 = 3", "The team says 3."
    )
    state = team.invoke({"messages": [("user", "1 + 2?")]})
    assert state["messages"][-1].content == "The team says 3."
    assert "1 + 2 = 3" in json.dumps(scripted_segmind.bodies[-1])


def test_an_agent_of_a_swarm_goes_on_where_it_was_left(scripted_segmind: Script) -> None:
    """The second turn begins with the agent that was handed the first."""
    llm = ChatSegmindLlama()
    alice = create_agent(llm, [add, create_handoff_tool(agent_name="bob")], name="alice")
    bob = create_agent(llm, [create_handoff_tool(agent_name="alice")], name="bob")
    swarm = create_swarm([alice, bob], default_active_agent="alice").compile(InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    scripted_segmind.will_say(call("transfer_to_bob"), "Bob here.", "Still Bob.")
    swarm.invoke({"messages": [("user", "Bob, please.")]}, thread)
    state = swarm.invoke({"messages": [("user", "Who is it?")]}, thread)
    assert state["active_agent"] == "bob"
    assert state["messages"][-1].content == "Still Bob."
