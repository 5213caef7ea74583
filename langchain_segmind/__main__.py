"""Talk to a model, answer files of requests, or look for what is wrong: `langchain-segmind`."""

from __future__ import annotations

import sys

from langchain_segmind.cli.options import main

if __name__ == "__main__":
    sys.exit(main())
