"""Run the local Segmind: ``python -m langchain_segmind.gateway``."""

from __future__ import annotations

import os
import sys
import threading

from langchain_segmind.gateway.cli import main


def leave(code: int) -> None:
    """Exit without waiting for generations that can't be interrupted."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
