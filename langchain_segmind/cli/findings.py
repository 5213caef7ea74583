"""What the doctor finds, and how it is printed."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "skipped", "problem"]

_COLOURS: dict[Verdict, str] = {"ok": "32", "note": "33", "skipped": "2", "problem": "31"}
_WIDEST = 100
_NARROWEST = 50
_INDENT = 24
_LONGEST = 1000
_COMMAND = re.compile(r"\b(export|langchain-segmind) ")


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, how it is, and what to do next."""

    subject: str
    verdict: Verdict
    message: str
    advice: str = ""


def show(finding: Finding) -> None:
    """Print a finding, its advice beneath."""
    is_coloured = sys.stdout.isatty() and os.name == "posix" and "NO_COLOR" not in os.environ
    mark = f"{finding.verdict:<9}"
    if is_coloured:
        mark = f"\033[{_COLOURS[finding.verdict]}m{mark}\033[0m"
    first, *rest = _wrap(finding.message, "")
    lines = [f"{mark}{finding.subject:<15}{first.lstrip()}", *rest]
    lines += _wrap(finding.advice, "-> ") if finding.advice else []
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()  # Seen at once: the next look may take its time.


def _wrap(text: str, lead: str) -> list[str]:
    width = max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST)) - 1
    # A command that is broken in two cannot be copied: its spaces are hidden from the wrapping.
    # What a server says may be long, and steer a terminal.
    text = textwrap.shorten(text, _LONGEST, placeholder=" …")
    text = "".join(character if character.isprintable() else "?" for character in text)
    lines = textwrap.wrap(
        _COMMAND.sub("\\1\xa0", text),
        width,
        initial_indent=" " * _INDENT + lead,
        subsequent_indent=" " * (_INDENT + len(lead)),
        break_on_hyphens=False,
        break_long_words=False,  # Nor can an address.
    )
    return [line.replace("\xa0", " ") for line in lines]
