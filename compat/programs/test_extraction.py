"""trustcall and langmem: both force a call, check it, and patch what does not fit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langgraph.prebuilt import create_react_agent
from langgraph.store.memory import InMemoryStore
from langmem import create_manage_memory_tool, create_memory_manager
from pydantic import BaseModel, Field
from trustcall import create_extractor

from langchain_segmind import ChatSegmindLlama
from langchain_segmind.gateway import ScriptedEngine

if TYPE_CHECKING:
    from langchain_segmind.gateway import RunningGateway, Script


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int = Field(ge=18)


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama does."""
    return json.dumps({"name": name, "parameters": parameters})


def test_trustcall_extracts(scripted_segmind: Script) -> None:
    """The call is forced."""
    scripted_segmind.will_say(call("Person", name="Ada", age=36))
    extractor = create_extractor(ChatSegmindLlama(), tools=[Person], tool_choice="Person")
    assert extractor.invoke("Ada is 36.")["responses"] == [Person(name="Ada", age=36)]
    assert scripted_segmind.bodies[0]["response_format"]["type"] == "json_schema"


def test_trustcall_has_a_misfit_patched(segmind: RunningGateway) -> None:
    """It asks for a JSON patch of the call, which it names by its id."""

    def answer(body: dict[str, Any]) -> str:
        asked = re.findall(r"json_doc_id=\[(.+?)\]", body["messages"][-1]["content"])
        if not asked:
            return call("Person", name="Ada", age=6)
        patches = [{"op": "replace", "path": "/age", "value": 36}]
        return call(
            "PatchFunctionErrors", json_doc_id=asked[-1], planned_edits="Age.", patches=patches
        )

    segmind.engine = ScriptedEngine(answer)
    extractor = create_extractor(ChatSegmindLlama(), tools=[Person], tool_choice="Person")
    assert extractor.invoke("Ada is 36.")["responses"] == [Person(name="Ada", age=36)]
    assert segmind.account.charge_count == 2


def test_langmem_keeps_what_was_said(scripted_segmind: Script) -> None:
    """A memory is a forced call of its schema."""
    scripted_segmind.will_say(call("Person", name="Ada", age=36), "Nothing more.")
    manager = create_memory_manager(ChatSegmindLlama(), schemas=[Person])
    talk = [{"role": "user", "content": "I am Ada, 36."}]
    memories = manager.invoke({"messages": talk})  # type: ignore[typeddict-item]
    assert [memory.content for memory in memories] == [Person(name="Ada", age=36)]


def test_langmem_stores_what_an_agent_wants_kept(scripted_segmind: Script) -> None:
    """In LangGraph's store."""
    store = InMemoryStore()
    tool = create_manage_memory_tool(namespace=("memories",))
    agent = create_react_agent(ChatSegmindLlama(), [tool], store=store)
    scripted_segmind.will_say(
        call("manage_memory", action="create", content="Likes tea."), "I will remember."
    )
    agent.invoke({"messages": [("user", "I like tea.")]})
    assert [item.value["content"] for item in store.search(("memories",))] == ["Likes tea."]
