"""A GGUF model in this process, on llama.cpp."""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.engines.base import Engine, EngineError, EngineUnavailableError
from langchain_segmind.gateway.models import FETCH_COMMAND, SMOLLM2
from langchain_segmind.gateway.validation import text_of

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = {
    # Small models ramble; a caller who wants more says so.
    "max_tokens": 256,
    # They also repeat themselves without an end, and nothing stops them in a JSON string.
    "dry_multiplier": 1.0,
    "dry_allowed_length": 4,
    "dry_penalty_last_n": 128,
    # By default punctuation ends a repetition, and so lets it pass.
    "dry_sequence_breakers": ["\n\n\n"],
}
"""What a call gets that does not say otherwise."""

LOG_NOTHING = -1
"""The level at which llama.cpp logs nothing."""


class LlamaEngine(Engine):
    """Runs several generations side by side, off the event loop."""

    name = "llama"

    def __init__(
        self, path: Path, *, slots: int = 4, context: int = 4096, threads: int = 0
    ) -> None:
        """Serve the model in a file, with `context` tokens for each of `slots` generations.

        `threads` compute for all of them; 0 takes half of the cores.
        """
        self._path = path
        self._defaults = DEFAULTS | (SMOLLM2.sampling if path.name == SMOLLM2.name else {})
        self._slots = slots
        self._context = context
        # They spin while they wait for each other, so one that gets no core holds up all.
        self._cores = threads or max((os.cpu_count() or 1) // 2, 1)
        self._threads = ThreadPoolExecutor(slots, "llama")
        self._server: Any = None

    async def start(self) -> None:
        """Load the model."""
        loop = asyncio.get_running_loop()
        self._server = await loop.run_in_executor(self._threads, self._load)

    async def close(self) -> None:
        """Drop what waits for a slot; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._server = None

    async def complete(self, body: dict[str, Any]) -> Any:
        """Generate, as soon as a slot is free."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._generate, self._server, body)

    def _load(self) -> Any:
        if not self._path.is_file():
            raise EngineUnavailableError(
                f"The model file {self._path} is missing; {FETCH_COMMAND} gets the small model."
            )
        try:
            import xllamacpp

            return xllamacpp.Server(self._parameters(xllamacpp))
        except ImportError as error:
            raise EngineUnavailableError(f"llama.cpp can't be loaded: {error}") from error
        except RuntimeError as error:
            raise EngineUnavailableError(f"{self._path} is no model that runs here") from error

    def _parameters(self, xllamacpp: Any) -> Any:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._path)
        parameters.n_parallel = self._slots
        parameters.n_ctx = self._slots * self._context
        parameters.warmup = False
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = self._cores
        parameters.verbosity = LOG_NOTHING
        parameters.cache_ram_mib = 0
        # The library opens a port of its own, which nobody else is to use.
        parameters.api_keys = [secrets.token_hex()]
        return parameters

    def _generate(self, server: Any, body: dict[str, Any]) -> Any:
        messages = [
            {**message, "content": text_of(message["content"], image="[image]")}
            for message in body["messages"]
        ]
        asked = {**self._defaults, **body, "messages": messages, "stream": False}
        try:
            result = server.handle_chat_completions(asked)
        except (TypeError, ValueError) as error:
            raise EngineError(400, str(error)) from error
        if "error" in result:
            raise _engine_error(result["error"])
        result.pop("timings", None)
        return {**result, "model": body["model"]}


def _engine_error(error: dict[str, Any]) -> EngineError:
    if error.get("type") == "exceed_context_size_error":
        return EngineError(
            400,
            f"This model's maximum context length is {error['n_ctx']} tokens. However, "
            f"your messages resulted in {error['n_prompt_tokens']} tokens.",
        )
    status = 400 if error.get("type") == "invalid_request_error" else 500
    return EngineError(status, str(error.get("message")))
