"""Environments of the newest versions, and the tests that were released with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout")
"""What every run needs."""
UV = (sys.executable, "-m", "uv")


class Environment:
    """A virtual environment, and where its packages' sources are."""

    def __init__(self, name: str, folder: Path) -> None:
        self.python = folder / "envs" / name / "bin" / "python"
        self._sources = folder / "sources"
        _run(*UV, "venv", "--quiet", "--clear", "--python", sys.executable, self.python.parents[1])

    def install(self, *what: str) -> None:
        """Install the newest of each that go together, and this package as it is here."""
        command = (*UV, "pip", "install", "--quiet", "--upgrade", "--no-sources")
        _run(*command, "--python", self.python, "--editable", ROOT, *TOOLS, *what)

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """Say which versions these are."""
        listed = _run(*UV, "pip", "list", "--quiet", "--format=json", "--python", self.python)
        found = {package["name"]: package["version"] for package in json.loads(listed)}
        return {package: found[package] for package in packages}

    def source(self, package: str, version: str) -> Path:
        """Fetch the sdist of a version, unless it is here; give its folder."""
        target = self._sources / f"{package.replace('-', '_')}-{version}"
        if not target.exists():
            with tempfile.TemporaryDirectory() as folder:
                command = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:")
                _run(sys.executable, *command, "--dest", folder, f"{package}=={version}")
                (sdist,) = Path(folder).iterdir()
                shutil.unpack_archive(sdist, self._sources)
        return target

    def test(
        self, folder: Path, *arguments: str | Path, env: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        """Run pytest there; give what came of each test."""
        with tempfile.TemporaryDirectory() as temporary:
            outcomes = Path(temporary) / "outcomes.json"
            options = ("-m", "pytest", "-p", "compat.outcomes", f"--outcomes={outcomes}")
            ran = subprocess.run(
                [self.python, *options, *arguments],
                cwd=folder,
                env=env,
                check=False,
                capture_output=True,
                text=True,
                timeout=3600,
            )
            if not outcomes.exists():
                raise RuntimeError(f"pytest did not run in {folder}:\n{ran.stdout}{ran.stderr}")
            return json.loads(outcomes.read_text("utf-8"))  # type: ignore[no-any-return]


def test_requirements(source: Path) -> list[str]:
    """Give the options that install what a package's tests need, where it says so."""
    project = source / "pyproject.toml"
    groups = tomllib.loads(project.read_text("utf-8")).get("dependency-groups", {})
    return [f"--group={project}:test"] if "test" in groups else []


def _run(*command: str | Path) -> str:
    """Run a command to its end; its output is what it gives, or why it failed."""
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1800)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{ran.stderr}")
    return ran.stdout
