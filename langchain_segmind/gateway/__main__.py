"""Run the local Segmind: ``python -m langchain_segmind.gateway``."""

from __future__ import annotations

import os
import sys
import threading

from langchain_segmind.gateway.cli import main

if __name__ == "__main__":
    code = main()
    if threading.active_count() > 1:  # Generations that can't be interrupted are not waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
