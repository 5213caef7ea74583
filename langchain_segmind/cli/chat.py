"""A conversation in the terminal, with what it costs and what is left after every answer."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from langchain_segmind.chat_models import ChatSegmindLlama
from langchain_segmind.cli.screen import Screen
from langchain_segmind.cli.session import Session
from langchain_segmind.cli.setup_checks import CONSOLE, describe_faults, how_to_set
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 300.0
"""Seconds: a slow machine takes its time for a long answer, and nobody else waits for it."""

NO_KEY = f"""There is no API key. Get one at {CONSOLE} and set it:

  {how_to_set("SEGMIND_API_KEY", "SG_...")}

Or try it without an account, with a small model on this machine:

  pip install "langchain-segmind[llama]"
  langchain-segmind chat --local"""


def chat_locally(settings: Mapping[str, Any]) -> int:
    """Talk to a small model on this machine, fetched if need be; give the exit code."""
    from langchain_segmind.gateway import EngineUnavailableError, Settings, serve
    from langchain_segmind.gateway.engines import choose_engine, lacks_small_model
    from langchain_segmind.gateway.models import TITLE, ModelFetchError, fetch_model

    screen = Screen()
    local = Settings(engine="llama", v1_limit=TIMEOUT)
    with ExitStack() as stack:
        try:
            if lacks_small_model(local):
                with redirect_stdout(sys.stderr):  # What is piped on is the answer alone.
                    fetch_model()
            segmind = stack.enter_context(serve(local, choose_engine(local)))
        except (EngineUnavailableError, ModelFetchError, OSError) as error:
            screen.say(str(error), "red")
            return 1
        screen.say(f"{TITLE} answers, on this machine: nothing leaves it or costs.", "dim")
        return _chat(screen, settings, api_key=segmind.api_key, base_url=segmind.url)


def chat(settings: Mapping[str, Any]) -> int:
    """Talk until the person leaves, or answer what is piped in; give the exit code."""
    screen = Screen()
    if not os.environ.get("SEGMIND_API_KEY", "").strip():
        screen.say(NO_KEY)
        return 1
    return _chat(screen, settings)


def _chat(screen: Screen, settings: Mapping[str, Any], **own: Any) -> int:
    submitted: list[str] = []

    def note(request_id: str) -> None:
        submitted.append(request_id)
        screen.say(f"queued as {request_id}", "dim")  # Shown, it outlives this process.

    try:
        with (
            ChatSegmindLlama(**settings, **own, on_submit=note) as llm,
            screen.log("langchain_segmind"),
        ):
            session = Session(llm, screen, submitted)
            if screen.is_interactive:
                return session.talk()
            return session.answer_once(sys.stdin.read())
    except ValidationError as error:
        screen.say(describe_faults(error), "red")
    except SegmindError as error:
        screen.say(str(error), "red")
    return 1
