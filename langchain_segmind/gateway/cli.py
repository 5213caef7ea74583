"""The command line of the local Segmind."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_segmind.gateway.core import Gateway
from langchain_segmind.gateway.engines import choose_engine, lacks_small_model
from langchain_segmind.gateway.engines.base import EngineUnavailableError
from langchain_segmind.gateway.faults import Faults
from langchain_segmind.gateway.models import (
    DIRECTORY_VARIABLE,
    TITLE,
    ModelFetchError,
    fetch_model,
)
from langchain_segmind.gateway.page import credit_text
from langchain_segmind.gateway.serving import listen, run_until_signalled, url_of
from langchain_segmind.gateway.settings import DEFAULT_API_KEY, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_segmind.gateway.engines.base import Engine

PREFIX = "SEGMIND_GATEWAY_"
ENGINES = ("llama", "upstream", "echo")
SCOPES = ("all", "posts", "polls")
YES = ("1", "true", "yes", "on")

EPILOG = f"""Each option has an environment variable: --v1-limit is {PREFIX}V1_LIMIT.
{DIRECTORY_VARIABLE} says where the small model is kept."""


class Parser(argparse.ArgumentParser):
    """A parser whose options stand in sections and default to environment variables."""

    def section(self, title: str) -> None:
        """Begin a section; the options that follow are in it."""
        self.current = self.add_argument_group(title)

    def option(self, name: str, kind: type, default: object, text: str, *aliases: str) -> None:
        """Add an option with a value."""
        self.current.add_argument(
            f"--{name}",
            *aliases,
            type=kind,
            default=_from_environment(name) or default,
            metavar={int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT"),
            help=text if default is None else f"{text} (default: {_written(default)})",
        )

    def choice(self, name: str, choices: Sequence[str], default: str | None, text: str) -> None:
        """Add an option that takes one of several values."""

        def check(value: str) -> str:
            # argparse checks `choices` only on the command line, not in the environment.
            if value not in choices:
                raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(choices)}")
            return value

        default = _from_environment(name) or default
        self.current.add_argument(
            f"--{name}", type=check, default=default, metavar="|".join(choices), help=text
        )

    def flag(self, name: str, text: str) -> None:
        """Add an option without one."""
        default = _from_environment(name).lower() in YES
        self.current.add_argument(f"--{name}", action="store_true", default=default, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        if options.fetch_model:
            fetch_model()
            return 0
        settings = settings_from(options)
        if lacks_small_model(settings) and _agrees_to_fetch():
            fetch_model()
        return run(settings, choose_engine(settings))
    except KeyboardInterrupt:
        return 0
    except (EngineUnavailableError, ModelFetchError, OSError, ValueError) as error:
        sys.stderr.write(f"segmind gateway: {error}\n")
        return 1


def run(settings: Settings, engine: Engine) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        raise OSError(f"can't listen on {place} ({error.strerror}); see --port") from error
    with listener:
        url = url_of(listener)
        run_until_signalled(
            Gateway(settings, engine), listener, lambda: _welcome(settings, engine, url)
        )
    return 0


def build_parser() -> Parser:
    """Describe the options."""
    parser = Parser(
        prog="python -m langchain_segmind.gateway",
        usage="%(prog)s [options]",
        description="A local stand-in for Segmind's API.",
        epilog=EPILOG,
    )
    _add_engine_options(parser)
    _add_account_options(parser)
    _add_server_options(parser)
    _add_fault_options(parser)
    return parser


def _add_engine_options(parser: Parser) -> None:
    defaults = Settings()
    parser.section("what answers")
    parser.choice("engine", ENGINES, None, "what answers (default: llama if it can run, else echo)")
    parser.current.add_argument(
        "--fetch-model", action="store_true", help=f"download {TITLE} for llama, and exit"
    )
    parser.option("gguf", Path, None, "GGUF file for llama, instead of the small model")
    parser.option("slots", int, defaults.slots, "generations that llama runs side by side")
    parser.option("context", int, defaults.context, "tokens of context for each of them")
    parser.option("threads", int, defaults.threads, "threads of llama; 0 is half of the cores")
    parser.option("upstream-url", str, None, "OpenAI-compatible server, with its /v1")
    parser.option("upstream-model", str, None, "its model (default: Segmind's slug)")
    parser.option("upstream-key", str, None, "its key, sent as a bearer token")


def _add_account_options(parser: Parser) -> None:
    defaults = Settings()
    parser.section("the account")
    parser.option("api-key", str, DEFAULT_API_KEY, "the key that is accepted")
    parser.option("credits", float, defaults.credits, "credits in the account")
    parser.option("free-credits", float, defaults.free_credits, "free credits, spent first")
    parser.option("prompt-price", float, defaults.prompt_price, "credits per prompt token")
    parser.option(
        "completion-price", float, defaults.completion_price, "credits per generated token"
    )
    parser.option(
        "rpm", int, defaults.rpm, "requests per minute; 0 is no limit", "--requests-per-minute"
    )
    parser.flag("rate-polls", "count the GETs of v2 as requests")


def _add_server_options(parser: Parser) -> None:
    defaults = Settings()
    parser.section("the server")
    parser.option("host", str, defaults.host, "address to listen on")
    parser.option("port", int, defaults.port, "port to listen on; 0 picks a free one")
    parser.option("allow-host", str, None, "names, with commas, by which clients may call it")
    parser.flag("no-page", "show no page at /")
    parser.flag("verbose", "report each request on stderr")
    parser.option("v1-limit", float, defaults.v1_limit, "seconds after which v1 gives up")
    parser.option("job-ttl", float, defaults.job_ttl, "seconds for which v2 knows a job")
    parser.option("workers", int, defaults.workers, "jobs of v2 that run at once")


def _add_fault_options(parser: Parser) -> None:
    share = "share of requests, from 0 to 1"
    parser.section("faults")
    parser.option("error-rate", float, 0.0, f"{share}, answered with a 5xx of Segmind's")
    parser.option("proxy-timeout-rate", float, 0.0, f"{share}, given up by a proxy, billed")
    parser.option("drop-before-rate", float, 0.0, f"{share}, dropped before processing")
    parser.option("drop-after-rate", float, 0.0, f"{share}, dropped after processing, billed")
    parser.option("half-body-rate", float, 0.0, f"{share}, cut off mid-answer, billed")
    parser.option("malformed-rate", float, 0.0, f"{share}, answered with junk, billed")
    parser.option("latency", float, 0.0, "seconds added to every answer")
    parser.choice("faults-on", SCOPES, "all", "what the options above apply to (default: all)")
    parser.option("failing-jobs-rate", float, 0.0, "share of v2's jobs that FAIL")
    parser.option("fault-seed", int, 0, "the same seed breaks the same requests")


def settings_from(options: argparse.Namespace) -> Settings:
    """Turn options into settings."""
    faults = _pick(options, Faults)
    posts, polls = options.faults_on != "polls", options.faults_on != "posts"
    names = (options.allow_host or "").lower().split(",")
    return Settings(
        **_pick(options, Settings),
        allow_hosts=frozenset(filter(None, map(str.strip, names))),
        page=not options.no_page,
        post_faults=Faults(**faults) if posts else Faults(),
        poll_faults=Faults(**faults) if polls else Faults(),
    )


def _pick(options: argparse.Namespace, kind: type[Settings | Faults]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in vars(options).items() if name in names}


def _written(default: object) -> str:
    return credit_text(default) if isinstance(default, float) else str(default)


def _from_environment(name: str) -> str:
    return os.environ.get(PREFIX + name.upper().replace("-", "_"), "")


def _agrees_to_fetch() -> bool:
    """Offer the small model to a person; a script gets the command, from who misses the model."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    reply = input(f"The small model is missing. Download {TITLE} now? [Y/n] ")
    return reply.strip().lower() in {"", "y", "yes"}


def _welcome(settings: Settings, engine: Engine, url: str) -> None:
    sys.stdout.write(
        f"Local Segmind ({engine.name}): {'export ' if os.name == 'posix' else ''}"
        f"SEGMIND_BASE_URL={url} SEGMIND_API_KEY={settings.api_key}\n"
    )
    if settings.page:
        sys.stdout.write(f"In a browser: {url}\n")
    sys.stdout.flush()
