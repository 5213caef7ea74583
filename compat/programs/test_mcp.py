"""Tools of a real MCP server, over its standard input and output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_segmind.gateway import Script

SERVER = """
from mcp.server.fastmcp import FastMCP, Image

server = FastMCP("sums")


@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b


@server.tool()
def draw() -> Image:
    "Draw a sum."
    return Image(data=b"pixels", format="png")


server.run("stdio")
"""


async def test_an_agent_calls_tools_of_a_server(scripted_segmind: Script, tmp_path: Path) -> None:
    """A number given as text fits; an image becomes a sentence for a model that reads text."""
    file = tmp_path / "server.py"
    file.write_text(SERVER)
    client = MultiServerMCPClient(
        {"sums": {"command": sys.executable, "args": [str(file)], "transport": "stdio"}}
    )
    agent = create_agent(ChatSegmindLlama(), await client.get_tools())
    scripted_segmind.will_say(
        json.dumps({"name": "add", "parameters": {"a": "1", "b": 2}}),
        json.dumps({"name": "draw", "parameters": {}}),
        "It is 3.",
    )
    messages = (await agent.ainvoke({"messages": [("user", "1 + 2?")]}))["messages"]
    assert messages[-1].content == "It is 3."
    seen = [body["messages"][-1]["content"] for body in scripted_segmind.bodies[1:]]
    assert "3" in seen[0]
    assert "image" in seen[1]
    assert "cGl4ZWxz" not in seen[1]
