"""Everything about the local Segmind that can be chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from langchain_segmind.gateway.faults import Faults

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_API_KEY = "SG_0123456789abcdef"
"""The key a gateway accepts unless it is given another one."""

HIGHEST_PORT = 65535

EngineName = Literal["llama", "upstream", "echo"]

VISION_SLUGS = frozenset({"llama-v3p2-11b-vision-instruct", "llama-v3p2-90b-vision-instruct"})
TEXT_SLUGS = frozenset(
    {
        "llama-v3-8b-instruct",
        "llama-v3-70b-instruct",
        "llama-v3p1-8b-instruct",
        "llama-v3p1-70b-instruct",
        "llama-v3p1-405b-instruct",
    }
)


@dataclass(frozen=True)
class Settings:
    """How one gateway behaves."""

    host: str = "127.0.0.1"
    """The address to listen on; `serve` takes 127.0.0.1 in any case."""
    port: int = 8765
    """The port to listen on; 0 picks a free one. `serve` has a parameter of its own for it."""
    allow_hosts: frozenset[str] = frozenset()
    """Names, beside this machine's own and `host`, by which a client may call it."""
    page: bool = True
    """Whether `/` shows a page to this machine's browser."""
    api_key: str = field(default=DEFAULT_API_KEY, repr=False)
    """The only key that is accepted, in the header `x-api-key`."""

    credits: float = 10.0
    """What the account holds at the start."""
    free_credits: float = 0.0
    """Spent before `credits`."""
    prompt_price: float = 0.9e-6
    """Credits per prompt token; 0.9 per million is what hosted 70B models cost."""
    completion_price: float = 0.9e-6
    """Credits per generated token."""

    rpm: int = 0
    """Requests a minute; 0 is no limit."""
    rate_window: float = 60.0
    """Seconds in that minute, so that a test need not wait for one."""
    rate_polls: bool = False
    """Whether the GETs of v2 count as requests."""

    engine: EngineName | None = None
    """None: `llama` where it can run, else `echo`."""
    gguf: Path | None = None
    """A GGUF file for `llama`, instead of the fetched small model."""
    slots: int = 4
    """Generations that `llama` runs side by side."""
    context: int = 4096
    """Tokens of context for each of them."""
    threads: int = 0
    """Threads that `llama` computes with; 0 is half of the cores."""
    upstream_url: str | None = None
    """An OpenAI-compatible server, with its `/v1`."""
    upstream_model: str | None = None
    """The model name it knows; None sends Segmind's slug."""
    upstream_key: str | None = field(default=None, repr=False)
    """Its key, sent as a bearer token."""

    v1_limit: float = 60.0
    """Seconds after which a call on v1 fails, as on Segmind."""
    job_ttl: float = 3600.0
    """Seconds after its submission at which a job is forgotten."""
    workers: int = 64
    """Jobs of v2 that run at once; the others are QUEUED."""

    slugs: frozenset[str] = TEXT_SLUGS | VISION_SLUGS
    """Models that are served; another slug is answered with 404."""
    vision_slugs: frozenset[str] = VISION_SLUGS
    """Those that take images."""
    retired_slugs: frozenset[str] = frozenset({"llama-v2-70b-chat"})
    """Answered with 410."""
    forbidden_slugs: frozenset[str] = frozenset({"llama-v3p1-405b-instruct-team"})
    """Answered with 403."""

    post_faults: Faults = field(default_factory=Faults)
    """What goes wrong with the POSTs of v1 and v2."""
    poll_faults: Faults = field(default_factory=Faults)
    """What goes wrong with the GETs of v2."""
    failing_jobs_rate: float = 0.0
    """The share of v2's jobs that FAIL."""
    fault_seed: int = 0
    """The same seed breaks the same requests, in order of arrival."""

    verbose: bool = False
    """Whether each request is reported on stderr."""

    def __post_init__(self) -> None:
        """Refuse what can't work."""
        if not 0 <= self.port <= HIGHEST_PORT:
            raise ValueError(f"The port {self.port} does not exist.")
        if not self.api_key:
            raise ValueError("The API key must not be empty.")
        if not (math.isfinite(self.credits) and math.isfinite(self.free_credits)):
            raise ValueError("Credits must be a finite number.")
        if min(self.slots, self.workers, self.context) < 1:
            raise ValueError("Slots, workers and context must be at least 1.")
