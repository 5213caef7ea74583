"""What is in the wheel and the sdist, and what they say of themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.requirements import Requirement

import langchain_segmind
from tests.packaging.distributions import ROOT, checked, run

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from tests.packaging.distributions import Distributions

pytestmark = pytest.mark.packaging

NOT_SHIPPED = (".ci/", ".github/", ".pre-commit-config.yaml")
"""What only a checkout has a use for."""


@pytest.fixture(scope="module")
def unpacked(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that unpacking the sdist makes."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(distributions.sdist) as archive:
        # Filters are younger than 3.11.2; 3.12 and 3.13 warn where none is chosen.
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)
    [inside] = folder.iterdir()
    return inside


@pytest.fixture(scope="module")
def metadata(distributions: Distributions) -> Message:
    """Give what the wheel says of itself."""
    with zipfile.ZipFile(distributions.wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_package_and_nothing_else(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = (ROOT / "langchain_segmind").rglob("*.py")
    package = {path.relative_to(ROOT).as_posix() for path in sources}
    data = {"langchain_segmind/py.typed", "langchain_segmind/gateway/page.html"}
    assert inside == package | data


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this tree is no checkout")
def test_the_sdist_holds_all_that_git_tracks_but_the_workflows(unpacked: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    shipped = {name for name in tracked if not name.startswith(NOT_SHIPPED)}
    assert not {name for name in shipped if not (unpacked / name).is_file()}


def test_the_sdist_runs_its_own_tests(unpacked: Path) -> None:
    """Two files stand for all of them, one of which reads others of the tree."""
    files = ("tests/unit/test_public.py", "tests/unit/test_tool_corpus.py")
    command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files)
    assert " passed" in checked(run(*command, cwd=unpacked))


def test_an_index_takes_them(distributions: Distributions) -> None:
    """Metadata is complete and valid, and the README can be rendered."""
    command = (sys.executable, "-m", "twine", "check", "--strict")
    printed = checked(run(*command, distributions.wheel, distributions.sdist))
    assert printed.count("PASSED") == 2


def test_the_readme_links_to_nothing_that_only_the_repository_has(metadata: Message) -> None:
    """Images and links come from the tag of the release, since the index shows the text alone."""
    text = str(metadata.get_payload())
    targets = re.findall(r"\]\(([^)\s]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert f"/v{langchain_segmind.__version__}/docs/demo-light.svg" in text
    assert [target for target in targets if not re.match(r"https://|#", target)] == []


def test_the_versions_of_python_are_those_that_the_workflow_tests(metadata: Message) -> None:
    name = "Programming Language :: Python :: 3."
    said = [line for line in metadata.get_all("Classifier", []) if line.startswith(name)]
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    if not workflow.exists():
        pytest.skip("this tree is no checkout")
    [matrix] = re.findall(r"python: \[(.*)\]", workflow.read_text("utf-8"))
    assert [line.rpartition(" ")[2] for line in said] == re.findall(r'"([\d.]+)"', matrix)


def test_every_dependency_has_both_bounds(metadata: Message) -> None:
    """The lower one is tested; the upper one keeps a future major version from breaking users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert all(re.search(r">=[\d.]+,<\d+$", line) for line in project["dependencies"])
    assert len(metadata.get_all("Requires-Dist", [])) > len(project["dependencies"])


def test_the_recipe_for_conda_asks_for_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text("utf-8"))
    python, *run = recipe["requirements"]["run"]
    assert recipe["context"]["version"] == project["version"]
    assert python.replace("${{ python_min }}", "3.11") == f"python {project['requires-python']}"
    assert [line.replace(" ", "") for line in run] == project["dependencies"]
    scripts = [f"{name} = {place}" for name, place in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts


@pytest.mark.skipif(
    "LOWEST_VERSIONS" not in os.environ, reason="is for make test-min, which sets it"
)
def test_this_environment_holds_the_lowest_versions_declared() -> None:
    """A test tool that asks for a later one would leave the declared bound untested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    later = {}
    for requirement in map(Requirement, declared):
        installed = version(requirement.name)
        for bound in requirement.specifier:
            if bound.operator == ">=" and not f"{installed}.".startswith(f"{bound.version}."):
                later[str(requirement)] = installed
    assert later == {}
