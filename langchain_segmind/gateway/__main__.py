"""Run the local Segmind: ``python -m langchain_segmind.gateway``."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from langchain_segmind.gateway.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_and_exit(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process, without waiting for llama.cpp's threads."""
    code = main(arguments)
    if threading.active_count() > 1:  # Generations that can't be interrupted.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run_and_exit()
