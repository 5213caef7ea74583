"""Everything about the local Segmind that can be chosen.

The text beside a type is what `--help` says of it, and so annotations are read while it runs.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

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
class Faults:
    """The share of requests that break, by kind; together at most 1."""

    error_rate: Annotated[float, "answered with a 500, 502 or 503 in Segmind's JSON"] = 0.0
    drop_before_rate: Annotated[float, "dropped before processing"] = 0.0
    drop_after_rate: Annotated[float, "dropped after processing, billed"] = 0.0
    half_body_rate: Annotated[float, "cut off mid-answer, billed"] = 0.0
    malformed_rate: Annotated[float, "answered with junk, billed"] = 0.0
    proxy_timeout_rate: Annotated[float, "given up by a proxy, with 504 and the like; billed"] = 0.0
    latency: Annotated[float, "seconds added to every answer"] = 0.0

    def __post_init__(self) -> None:
        """Refuse shares that make no sense."""
        rates = self.shares().values()
        if min(rates) < 0 or sum(rates) > 1 or self.latency < 0:
            raise ValueError("Fault rates must lie between 0 and 1 and add up to at most 1.")

    def shares(self) -> dict[str, float]:
        """Give the share of each kind: `error`, `drop_before` and so on."""
        return {
            name.removesuffix("_rate"): share
            for name, share in vars(self).items()
            if name != "latency"
        }


@dataclass(frozen=True)
class Settings:
    """How one gateway behaves; `langchain-segmind gateway --help` says what each setting does."""

    host: Annotated[str, "address to listen on"] = "127.0.0.1"
    """`serve` takes 127.0.0.1 in any case, and has a parameter of its own for the port."""
    port: Annotated[int, "port to listen on; 0 picks a free one"] = 8765
    allow_hosts: frozenset[str] = frozenset()
    """Names, beside this machine's own and `host`, by which a client may call it."""
    page: bool = True
    """Whether `/` shows a page to this machine's browser."""
    api_key: Annotated[str, "the key that is accepted"] = field(default=DEFAULT_API_KEY, repr=False)
    credits: Annotated[float, "credits in the account"] = 10.0
    free_credits: Annotated[float, "free credits, spent first"] = 0.0
    # 0.9 per million tokens is what hosted 70B models cost.
    prompt_price: Annotated[float, "credits per prompt token"] = 0.9e-6
    completion_price: Annotated[float, "credits per generated token"] = 0.9e-6
    rpm: Annotated[int, "requests per minute; 0 is no limit"] = 0
    rate_window: float = 60.0
    """Seconds in that minute, so that a test need not wait for one."""
    rate_polls: Annotated[bool, "count the GETs of v2 as requests"] = False

    engine: Annotated[
        EngineName | None, "what answers (default: llama if it can run, else echo)"
    ] = None
    gguf: Annotated[Path | None, "GGUF file for llama, instead of the small model"] = None
    slots: Annotated[int, "generations that llama runs side by side"] = 4
    context: Annotated[int, "tokens of context for each of them"] = 4096
    threads: Annotated[int, "threads of llama; 0 is half of the cores"] = 0
    upstream_url: Annotated[str | None, "OpenAI-compatible server, with its /v1"] = None
    upstream_model: Annotated[str | None, "its model (default: Segmind's slug)"] = None
    upstream_key: Annotated[str | None, "its key, sent as a bearer token"] = field(
        default=None, repr=False
    )

    v1_limit: Annotated[float, "seconds after which v1 gives up"] = 60.0
    job_ttl: Annotated[float, "seconds for which v2 knows a job"] = 3600.0
    workers: Annotated[int, "jobs of v2 that run at once"] = 64

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
    failing_jobs_rate: Annotated[float, "share of v2's jobs that FAIL"] = 0.0
    fault_seed: Annotated[int, "the same seed breaks the same requests"] = 0

    verbose: Annotated[bool, "report each request on stderr"] = False

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
