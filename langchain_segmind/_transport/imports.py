"""What calls import, so that a fork during the first of them does no harm.

A child has no other thread of its parent. If one of those was importing a module, the module stays
locked in the child for ever, and so does whoever imports it there.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING
from uuid import UUID

from langchain_core.callbacks import CallbackManager
from langchain_core.messages import HumanMessage
from langchain_core.outputs import RunInfo

if TYPE_CHECKING:
    from langchain_segmind._transport.aiohttp import AiohttpTransport


@cache
def import_for_calls() -> None:
    """Import what blocking calls need, once, when a model is built: then calls import nothing.

    Not when the package is imported, which is to take no longer than langchain-core does.
    """
    import_module("langchain_segmind._transport.httpcore")
    # langchain-core imports its tracers and a translator of messages when it first needs them.
    CallbackManager.configure()
    _ = HumanMessage("").content_blocks
    # pydantic imports UUID with the first value it validates, under a lock that Python cannot see.
    RunInfo(run_id=UUID(int=0))


_importing_process: int | None = None
_aiohttp_transport: type[AiohttpTransport] | None = None


def import_aiohttp_transport() -> type[AiohttpTransport] | None:
    """Import aiohttp, which takes too long for a model whose calls may all be blocking.

    It is None in a process that was forked while its parent was importing it.
    """
    global _aiohttp_transport, _importing_process  # noqa: PLW0603 - one import, one memory of it.
    if _aiohttp_transport is None:
        if _importing_process not in (None, os.getpid()):
            return None
        _importing_process = os.getpid()
        from langchain_segmind._transport.aiohttp import AiohttpTransport

        _aiohttp_transport = AiohttpTransport
    return _aiohttp_transport
