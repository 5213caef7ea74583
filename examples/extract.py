"""Facts from a text, as an object: checked, asked for again where they do not fit, and priced.

`python examples/extract.py notes.txt` reads another text.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, Field

from langchain_segmind import ChatSegmindLlama, SegmindError, get_credits_callback

# Shortened from the history in the licence of Python: `license()` prints all of it.
TEXT = """\
Python was created in the early 1990s by Guido van Rossum at Stichting Mathematisch Centrum (CWI)
in the Netherlands as a successor of a language called ABC. In 1995, Guido continued his work on
Python at the Corporation for National Research Initiatives (CNRI) in Reston, Virginia where he
released several versions of the software. In May 2000, Guido and the Python core development team
moved to BeOpen.com to form the BeOpen PythonLabs team. In October of the same year, the PythonLabs
team moved to Digital Creations."""


class Home(BaseModel):
    """An organisation at which the software was developed."""

    organisation: str = Field(max_length=60)
    since: int = Field(ge=1900, le=2100, description="the year in which its work began")


class History(BaseModel):
    """The origin of a piece of software."""

    software: str = Field(max_length=40)
    author: str = Field(max_length=40)
    predecessor: str | None = Field(max_length=40, description="what it succeeds, if that is said")
    homes: list[Home] = Field(min_length=1, max_length=8)


def main(text: str) -> None:
    """Print what was found, or what the model said instead."""
    with ChatSegmindLlama(temperature=0, max_tokens=400) as llm, get_credits_callback() as spent:
        reader = llm.with_structured_output(History, include_raw=True, max_repairs=1)
        answer = dict(reader.invoke(f"Extract the history of the software.\n\n{text}"))
    if history := answer["parsed"]:
        print(history.model_dump_json(indent=2))
    else:
        print(answer["parsing_error"])
    print(spent)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).read_text("utf-8") if sys.argv[1:] else TEXT)
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
