"""What answers: a small model in this process, another server, or an echo."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from langchain_segmind.gateway.engines.base import EngineUnavailableError
from langchain_segmind.gateway.engines.echo import EchoEngine
from langchain_segmind.gateway.engines.llama import LlamaEngine
from langchain_segmind.gateway.engines.upstream import UpstreamEngine
from langchain_segmind.gateway.models import FETCH_COMMAND, model_file

if TYPE_CHECKING:
    from langchain_segmind.gateway.engines.base import Engine
    from langchain_segmind.gateway.settings import Settings

INSTALL_LLAMA = "pip install 'langchain-segmind[llama]'"


def choose_engine(settings: Settings) -> Engine:
    """Build the engine that was asked for, or the best one there is."""
    if settings.engine == "echo":
        return EchoEngine()
    if settings.engine == "upstream" or (settings.engine is None and settings.upstream_url):
        return _upstream(settings)
    try:
        return _llama(settings)
    except EngineUnavailableError as error:
        if settings.engine or settings.gguf:
            raise
        sys.stderr.write(f"Answering with an echo. {error}\n")
        return EchoEngine()


def lacks_small_model(settings: Settings) -> bool:
    """Say whether the small model is all that is missing for a real one to answer."""
    is_wanted = settings.engine in {"llama", None} and not (settings.gguf or settings.upstream_url)
    return is_wanted and has_llama() and not model_file().is_file()


def has_llama() -> bool:
    """Say whether llama.cpp is installed."""
    return find_spec("xllamacpp") is not None


def _upstream(settings: Settings) -> Engine:
    if not settings.upstream_url:
        raise EngineUnavailableError(
            "The engine 'upstream' needs --upstream-url, such as http://127.0.0.1:11434/v1."
        )
    return UpstreamEngine(settings.upstream_url, settings.upstream_model, settings.upstream_key)


def _llama(settings: Settings) -> Engine:
    path = settings.gguf or model_file()
    missing = [] if has_llama() else [f"install llama.cpp with: {INSTALL_LLAMA}"]
    if settings.gguf and not path.is_file():
        missing.append(f"name another file than {path} with --gguf: it is missing")
    elif not path.is_file():
        get = f"get the small model (93 MB) with: {FETCH_COMMAND}"
        missing.append(f"{get} (or name another one with --gguf)")
    if missing:
        raise EngineUnavailableError("To run a real model, " + "; ".join(missing))
    return LlamaEngine(
        path, slots=settings.slots, context=settings.context, threads=settings.threads
    )
