"""Fuzz one target: `python -m fuzz tools -max_total_time=60`, with libFuzzer's options."""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import atheris

# It names every module that it instruments.
with redirect_stderr(StringIO()), atheris.instrument_imports(include=["langchain_segmind"]):
    from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz from the committed corpus; what is new goes into the first folder that is named."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"Name a target: {', '.join(TARGETS)}.")
    folders = [option for option in options if not option.startswith("-")] or [tempfile.mkdtemp()]
    settings = [option for option in options if option.startswith("-")]
    known = CORPUS / name
    # -timeout and -max_len first: an option that is given twice counts as it was given last.
    defaults = ["-timeout=10", "-max_len=4096", f"-dict={CORPUS.parent / 'words.dict'}"]
    atheris.Setup([sys.argv[0], *defaults, *settings, *folders, str(known)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
