"""A local Segmind: the hosted API's contract, on this machine, without an account.

``python -m langchain_segmind.gateway`` runs it; `serve` runs it inside a test or a demo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_segmind.gateway.account import Account, Charge, Post
    from langchain_segmind.gateway.core import Gateway
    from langchain_segmind.gateway.engines.base import (
        Engine,
        EngineError,
        EngineUnavailableError,
    )
    from langchain_segmind.gateway.engines.echo import EchoEngine
    from langchain_segmind.gateway.engines.llama import LlamaEngine
    from langchain_segmind.gateway.engines.scripted import ScriptedEngine
    from langchain_segmind.gateway.engines.upstream import UpstreamEngine
    from langchain_segmind.gateway.faults import Faults
    from langchain_segmind.gateway.serving import RunningGateway, serve
    from langchain_segmind.gateway.settings import DEFAULT_API_KEY, Settings

__all__ = [
    "DEFAULT_API_KEY",
    "Account",
    "Charge",
    "EchoEngine",
    "Engine",
    "EngineError",
    "EngineUnavailableError",
    "Faults",
    "Gateway",
    "LlamaEngine",
    "Post",
    "RunningGateway",
    "ScriptedEngine",
    "Settings",
    "UpstreamEngine",
    "serve",
]

# Loaded on first use, so that a missing extra can be explained by `__main__` in one sentence.
_HOMES = {
    "DEFAULT_API_KEY": "settings",
    "Account": "account",
    "Charge": "account",
    "EchoEngine": "engines.echo",
    "Engine": "engines.base",
    "EngineError": "engines.base",
    "EngineUnavailableError": "engines.base",
    "Faults": "faults",
    "Gateway": "core",
    "LlamaEngine": "engines.llama",
    "Post": "account",
    "RunningGateway": "serving",
    "ScriptedEngine": "engines.scripted",
    "Settings": "settings",
    "UpstreamEngine": "engines.upstream",
    "serve": "serving",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
