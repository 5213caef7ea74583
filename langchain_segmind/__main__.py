"""Talk to a model or look for what is wrong: ``python -m langchain_segmind``."""

from __future__ import annotations

import sys

from langchain_segmind.cli.options import main

if __name__ == "__main__":
    sys.exit(main())
