"""A chain behind LangServe: invoked, batched and streamed over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from langchain_core.prompts import ChatPromptTemplate
from langserve import add_routes

from langchain_segmind import ChatSegmindLlama

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import Script


@pytest.fixture
def client(scripted_segmind: Script) -> Iterator[TestClient]:
    """Serve a chain."""
    app = FastAPI()
    prompt = ChatPromptTemplate.from_template("A joke on {topic}")
    add_routes(app, prompt | ChatSegmindLlama(), path="/joke")
    with TestClient(app) as client:
        yield client


def test_it_is_invoked(client: TestClient, scripted_segmind: Script) -> None:
    """The metadata gets through its serializer."""
    scripted_segmind.will_say("Miaow.")
    answer = client.post("/joke/invoke", json={"input": {"topic": "cats"}}).json()["output"]
    assert answer["content"] == "Miaow."
    assert answer["response_metadata"]["credits"]["remaining"] > 0
    assert scripted_segmind.bodies[0]["messages"][0]["content"] == "A joke on cats"


def test_it_is_batched(client: TestClient, scripted_segmind: Script) -> None:
    """One call each."""
    scripted_segmind.will_say("Miaow.", "Miaow.")
    topics = [{"topic": "cats"}, {"topic": "dogs"}]
    answers = client.post("/joke/batch", json={"inputs": topics}).json()["output"]
    assert [answer["content"] for answer in answers] == ["Miaow.", "Miaow."]


def test_it_is_streamed(client: TestClient, scripted_segmind: Script) -> None:
    """As the one chunk that it is, and an end."""
    scripted_segmind.will_say("Miaow.")
    text = client.post("/joke/stream", json={"input": {"topic": "cats"}}).text
    assert "Miaow." in text
    assert "event: end" in text


def test_its_schema_is_shown(client: TestClient) -> None:
    """The page of the playground asks for it."""
    assert client.get("/joke/input_schema").json()["properties"].keys() == {"topic"}
