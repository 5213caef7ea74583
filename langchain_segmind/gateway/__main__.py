"""Run the local Segmind: ``python -m langchain_segmind.gateway``."""

from __future__ import annotations

import os
import sys
import threading

try:
    from langchain_segmind.gateway.cli import main
except ModuleNotFoundError as error:
    if error.name not in {"starlette", "uvicorn"}:
        raise
    sys.exit(
        "The local gateway needs starlette and uvicorn: pip install 'langchain-segmind[gateway]'"
    )


def leave(code: int) -> None:
    """Exit without waiting for generations that can't be interrupted."""
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    try:
        exit_code = main()
    except SystemExit as end:
        exit_code = end.code if isinstance(end.code, int) else 1
    leave(exit_code)
