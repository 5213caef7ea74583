"""Retrieval from Chroma, as a chain and as a tool of an agent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from langchain.agents import create_agent
from langchain_chroma import Chroma
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import create_retriever_tool

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_segmind.gateway import Script

FACTS = ["Ada wrote the first program.", "Water boils at 100 degrees."]


def store(folder: Path) -> Chroma:
    """Make a store of two facts; equal texts are near each other, and no more is needed here."""
    embedding = DeterministicFakeEmbedding(size=16)
    return Chroma.from_texts(FACTS, embedding, persist_directory=str(folder))


def test_a_chain_answers_from_what_was_found(scripted_segmind: Script, tmp_path: Path) -> None:
    """The passage is in the prompt."""
    retriever = store(tmp_path).as_retriever(search_kwargs={"k": 1})
    prompt = ChatPromptTemplate.from_template("From {passages}: {question}")
    given = {"passages": retriever, "question": RunnablePassthrough()}
    chain = given | prompt | ChatSegmindLlama() | StrOutputParser()
    scripted_segmind.will_say("Ada.")
    assert "".join(chain.stream(FACTS[0])) == "Ada."
    assert FACTS[0] in scripted_segmind.bodies[0]["messages"][0]["content"]


async def test_an_agent_looks_things_up(scripted_segmind: Script, tmp_path: Path) -> None:
    """The passage is the result of its call."""
    retriever = store(tmp_path).as_retriever(search_kwargs={"k": 1})
    tool = create_retriever_tool(retriever, "look_up", "Looks up facts.")
    agent = create_agent(ChatSegmindLlama(), [tool])
    query = json.dumps({"name": "look_up", "parameters": {"query": FACTS[1]}})
    scripted_segmind.will_say(query, "At 100 degrees.")
    state = await agent.ainvoke({"messages": [("user", "When does water boil?")]})
    assert state["messages"][-1].content == "At 100 degrees."
    assert FACTS[1] in scripted_segmind.bodies[1]["messages"][-1]["content"]
