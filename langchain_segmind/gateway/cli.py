"""The command line of the local Segmind."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from langchain_segmind.gateway.core import Gateway
from langchain_segmind.gateway.engines import choose_engine, lacks_small_model
from langchain_segmind.gateway.engines.base import EngineUnavailableError
from langchain_segmind.gateway.models import (
    DIRECTORY_VARIABLE,
    TITLE,
    ModelFetchError,
    fetch_model,
)
from langchain_segmind.gateway.page import credit_text
from langchain_segmind.gateway.serving import listen, run_until_signalled, url_of
from langchain_segmind.gateway.settings import Faults, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_segmind.gateway.engines.base import Engine

PREFIX = "SEGMIND_GATEWAY_"
TRUE_WORDS = ("1", "true", "yes", "on")
METAVARS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
CHOICES = {"engine": ("llama", "upstream", "echo"), "faults_on": ("all", "posts", "polls")}
ALIASES = {"rpm": ("--requests-per-minute",)}

SETTINGS = {option.name: option for option in (*fields(Settings), *fields(Faults))}
SECTIONS = {
    "what answers": (
        *("engine", "fetch_model", "gguf", "slots", "context", "threads"),
        *("upstream_url", "upstream_model", "upstream_key"),
    ),
    "the account": (
        *("api_key", "credits", "free_credits", "prompt_price", "completion_price"),
        *("rpm", "rate_polls"),
    ),
    "the server": (
        *("host", "port", "allow_host", "no_page", "verbose", "v1_limit", "job_ttl", "workers"),
    ),
    "faults": (
        *(option.name for option in fields(Faults)),
        *("faults_on", "failing_jobs_rate", "fault_seed"),
    ),
}
OTHERS = {
    "fetch_model": (False, f"download {TITLE} for llama, and exit"),
    "allow_host": (None, "names, with commas, by which clients may call it"),
    "no_page": (False, "show no page at /"),
    "faults_on": ("all", "what the options above apply to"),
}
"""Options that are no settings, with their defaults."""

EPILOG = f"""Each option has an environment variable: --v1-limit is {PREFIX}V1_LIMIT.
{DIRECTORY_VARIABLE} says where the small model is kept."""


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
        run(settings, choose_engine(settings))
    except (KeyboardInterrupt, EOFError):  # Ctrl-C at any time; Ctrl-D at the question.
        return 0
    except (EngineUnavailableError, ModelFetchError, OSError, ValueError) as error:
        sys.stderr.write(f"segmind gateway: {error}\n")
        return 1
    return 0


def run(settings: Settings, engine: Engine) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        place, why = f"{settings.host}:{settings.port}", f"{error.strerror}".partition(" (")[0]
        raise OSError(f"can't listen on {place} ({why}); see --port") from error
    with listener:
        welcome = partial(_welcome, settings, engine, url_of(listener))
        run_until_signalled(Gateway(settings, engine), listener, welcome)


def build_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(
        prog="langchain-segmind gateway",
        usage="%(prog)s [options]",
        description="A local stand-in for Segmind's API.",
        epilog=EPILOG,
    )
    for title, names in SECTIONS.items():
        section = parser.add_argument_group(title)
        for name in names:
            flags = f"--{name.replace('_', '-')}", *ALIASES.get(name, ())
            section.add_argument(*flags, **_describe(name))
    return parser


def _describe(name: str) -> dict[str, Any]:
    """Say how argparse reads an option: its type is that of its default."""
    option = SETTINGS.get(name)
    default, text = (option.default, get_args(option.type)[1]) if option else OTHERS[name]
    given = os.environ.get(PREFIX + name.upper(), "")
    if isinstance(default, bool):
        return {"action": "store_true", "default": given.lower() in TRUE_WORDS, "help": text}
    kind = Path if name == "gguf" else str if default is None else type(default)
    if option in fields(Faults) and name != "latency":
        text = f"share of requests, from 0 to 1, {text}"
    if default is not None:
        # Without commas, which nobody could type.
        number = credit_text(default).replace(",", "") if isinstance(default, float) else default
        text = f"{text} (default: {number})"
    choices = CHOICES.get(name)
    return {
        "type": partial(_choose, choices) if choices else kind,
        "default": given or default,
        "metavar": "|".join(choices) if choices else METAVARS[kind],
        "help": text,
    }


def _choose(choices: Sequence[str], value: str) -> str:
    # argparse checks `choices` only on the command line, not in the environment.
    if value not in choices:
        raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(choices)}")
    return value


def settings_from(options: argparse.Namespace) -> Settings:
    """Turn options into settings."""
    faults = Faults(**_pick(options, Faults))
    names = (options.allow_host or "").lower().split(",")
    return Settings(
        **_pick(options, Settings),
        allow_hosts=frozenset(filter(None, map(str.strip, names))),
        page=not options.no_page,
        post_faults=Faults() if options.faults_on == "polls" else faults,
        poll_faults=Faults() if options.faults_on == "posts" else faults,
    )


def _pick(options: argparse.Namespace, kind: type[Settings | Faults]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in vars(options).items() if name in names}


def _agrees_to_fetch() -> bool:
    """Offer the small model to a person; a script gets the command, from who misses the model."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    reply = input(f"The small model is missing. Download {TITLE} now? [Y/n] ")
    return reply.strip().lower() in {"", "y", "yes"}


def _welcome(settings: Settings, engine: Engine, url: str) -> None:
    export = "export " if os.name == "posix" else ""
    sys.stdout.write(
        f"Local Segmind ({engine.name}): "
        f"{export}SEGMIND_BASE_URL={url} SEGMIND_API_KEY={settings.api_key}\n"
    )
    if settings.page:
        sys.stdout.write(f"In a browser: {url}\n")
    sys.stdout.flush()
