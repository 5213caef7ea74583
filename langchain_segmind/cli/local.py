"""A local Segmind with a small model, for a chat without an account."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from langchain_segmind.gateway import EngineUnavailableError, Settings, serve
from langchain_segmind.gateway.engines import choose_engine, lacks_small_model
from langchain_segmind.gateway.models import TITLE, ModelFetchError, fetch_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_segmind.gateway import RunningGateway

__all__ = ["TITLE", "NoLocalModelError", "run_local_segmind"]

PATIENCE = 300.0
"""Seconds: a slow machine takes its time for a long answer, and nobody else waits for it."""


class NoLocalModelError(Exception):
    """There is no model to run here; the message says what is missing."""


@contextmanager
def run_local_segmind() -> Iterator[RunningGateway]:
    """Fetch the small model unless it is here, and serve it in this process.

    Raises:
        NoLocalModelError: It cannot be fetched, or run.
    """
    settings = Settings(engine="llama", v1_limit=PATIENCE)
    with ExitStack() as stack:
        try:
            if lacks_small_model(settings):
                with redirect_stdout(sys.stderr):  # What is piped on is the answer alone.
                    fetch_model()
            running = stack.enter_context(serve(settings, choose_engine(settings)))
        except (EngineUnavailableError, ModelFetchError, OSError) as error:
            raise NoLocalModelError(str(error)) from None
        yield running
