"""The command line: which command is meant, and what the chat and the doctor are told."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING

from langchain_segmind import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "langchain-segmind"
USAGE = "%(prog)s [chat | batch | doctor | gateway] [options]"
DESCRIPTION = """Llama on Segmind, from the command line.

commands:
  chat     talk to a model (the default); what is piped in is one message:
           one call, one bill
  batch    a file of requests in, a file of answers out, each paid for once
  doctor   are key, network, proxy, credits and model in order? spends nothing
  gateway  a local Segmind for programs, without an account

batch and gateway have options of their own: %(prog)s batch --help
The key comes from the environment variable SEGMIND_API_KEY."""
LOCAL = "with a small model on this machine, which is fetched the first time (93 MB); no key"
MAX_TOKENS, LOCAL_MAX_TOKENS = 1024, 256
"""Tokens: a small model often knows no end."""
NO_RICH = "The chat needs rich: pip install 'langchain-segmind[{}]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `… | head` has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["gateway", *rest]:
            from langchain_segmind.gateway.__main__ import run_and_exit

            run_and_exit(rest)
        case ["batch", *rest]:
            from langchain_segmind.cli.batch_options import batch

            return batch(rest)
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # Words that are typed, or that a model says, must not end the program where a terminal
        # has no letters for them.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if options.command == "doctor":
        from langchain_segmind.cli.doctor import doctor

        return doctor(options.model, options.base_url, options.timeout)
    return _chat(options)


def build_parser() -> argparse.ArgumentParser:
    """Describe the options of the chat and the doctor."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=USAGE,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = ("chat", "batch", "doctor", "gateway")
    parser.add_argument(
        "command", nargs="?", choices=commands, default="chat", help=argparse.SUPPRESS
    )
    add = parser.add_argument_group("chat and doctor").add_argument
    add("--model", metavar="SLUG", help="the model, by its name on segmind.com")
    add("--base-url", metavar="URL", help="instead of SEGMIND_BASE_URL")
    patience = "seconds to wait for an answer (chat: 120; doctor: 10)"
    add("--timeout", type=_seconds, metavar="S", help=patience)
    add = parser.add_argument_group("chat").add_argument
    add("--local", action="store_true", help=LOCAL)
    add("--queue", action="store_true", help="go through Segmind's queue")
    add("--min-credits", type=float, metavar="X", help="send nothing once fewer are left")
    longest = f"the longest answer (default: {MAX_TOKENS}; --local: {LOCAL_MAX_TOKENS})"
    add("--max-tokens", type=int, metavar="N", help=longest)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _chat(options: argparse.Namespace) -> int:
    if options.command != "chat":
        sys.stderr.write(f"{options.command} comes first: {PROGRAM} {options.command} --help\n")
        return 2
    if options.local and options.base_url:
        sys.stderr.write("--local runs a Segmind of its own: leave --base-url out.\n")
        return 2
    try:
        from langchain_segmind.cli.chat import chat, chat_locally
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        missing = NO_RICH.format("llama" if options.local else "chat")
        sys.stderr.write(f"{missing}\n({PROGRAM} doctor works without.)\n")
        return 1
    settings = ("model", "base_url", "queue", "min_credits", "max_tokens", "timeout")
    given = {name: value for name in settings if (value := getattr(options, name)) is not None}
    given.setdefault("max_tokens", LOCAL_MAX_TOKENS if options.local else MAX_TOKENS)
    return chat_locally(given) if options.local else chat(given)
