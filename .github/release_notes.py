"""Print the changelog's section of a release: `release_notes.py v1.2.3`.

Fails unless the tag, the version in pyproject.toml and a dated section of the changelog agree.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def release_notes(tag: str, folder: Path) -> str:
    """Give what the changelog says of the version with this tag.

    Raises:
        ValueError: The tag is not that of the version, or the changelog has no section for it.
    """
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    if tag != f"v{project['version']}":
        raise ValueError(f"the tag is {tag}, and pyproject.toml says {project['version']}")
    title = rf"^## {re.escape(project['version'])} - \d{{4}}-\d\d-\d\d\n"
    section = re.compile(rf"{title}(.+?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    found = section.search((folder / "CHANGELOG.md").read_text("utf-8"))
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section '## {project['version']} - YYYY-MM-DD'")
    return found[1].strip() + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(release_notes(sys.argv[1], Path()))
    except ValueError as error:
        sys.exit(f"Not released: {error}.")
