"""A local Segmind: the hosted API's contract, on this machine, without an account.

``langchain-segmind gateway`` runs it; `serve` runs it inside a test or a demo.
"""

from langchain_segmind.gateway.account import Account, Charge, Post
from langchain_segmind.gateway.core import Gateway
from langchain_segmind.gateway.engines.base import Engine, EngineError, EngineUnavailableError
from langchain_segmind.gateway.engines.echo import EchoEngine
from langchain_segmind.gateway.engines.llama import LlamaEngine
from langchain_segmind.gateway.engines.scripted import Script, ScriptedEngine
from langchain_segmind.gateway.engines.upstream import UpstreamEngine
from langchain_segmind.gateway.serving import RunningGateway, serve
from langchain_segmind.gateway.settings import DEFAULT_API_KEY, Faults, Settings

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
    "Script",
    "ScriptedEngine",
    "Settings",
    "UpstreamEngine",
    "serve",
]
