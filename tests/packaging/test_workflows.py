"""What nobody may change in passing: who can touch a release, and what runs in the workflows."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.packaging.distributions import ROOT

TEXTS = {
    path.stem: path.read_text("utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")
}
WORKFLOWS: dict[str, Any] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="this tree is no checkout")


def actions(job: dict[str, Any]) -> list[str]:
    return [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_action_is_one_commit_and_its_version_is_told() -> None:
    for text in TEXTS.values():
        used = re.findall(r"uses: (.*)", text)
        pinned = r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
        assert [action for action in used if not re.fullmatch(pinned, action)] == []


def test_no_workflow_may_write_and_no_checkout_leaves_a_token() -> None:
    """A job that has to write says so itself."""
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] in ({}, {"contents": "read"})
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"] == {"persist-credentials": False}


def test_a_release_is_built_with_nothing_but_pinned_tools() -> None:
    build = WORKFLOWS["release"]["jobs"]["build"]
    assert build["permissions"] == {"contents": "read"}
    assert [line for line in commands(build) if "install" in line] == [
        "python -m pip install --require-hashes --requirement .github/requirements/build.txt"
    ]
    assert "python -m build --no-isolation" in commands(build)


def test_the_tools_of_a_release_are_those_that_the_package_is_built_with() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    pinned = (ROOT / ".github" / "requirements" / "build.txt").read_text("utf-8")
    names = [re.split("[>=]", line)[0] for line in project["build-system"]["requires"]]
    assert all(f"\n{name}==" in pinned for name in names)


def test_what_tests_a_release_can_not_change_it() -> None:
    """It uploads nothing, and what is published was fetched by the id that the build gave."""
    jobs = WORKFLOWS["release"]["jobs"]
    assert jobs["test"]["permissions"] == {"contents": "read"}
    assert "actions/upload-artifact" not in actions(jobs["test"])
    fetched = {"artifact-ids": "${{ needs.build.outputs.artifact }}"}
    for job in ("test", "components", "attest", "publish", "announce"):
        assert fetched in [step.get("with") for step in jobs[job]["steps"]]


def test_the_job_that_publishes_runs_no_code_of_ours() -> None:
    """And only after the tests, on what was attested."""
    publish = WORKFLOWS["release"]["jobs"]["publish"]
    assert {"build", "test", "attest"} <= set(publish["needs"])
    assert publish["permissions"] == {"id-token": "write"}
    assert actions(publish) == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert commands(publish) == []


def test_what_a_release_on_github_holds_was_attested() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    [subjects] = [
        step["with"]["subject-path"].split()
        for step in jobs["attest"]["steps"]
        if "attest" in step["uses"]
    ]
    [command] = commands(jobs["announce"])
    assert re.findall(r"dist/\S*|\S+\.json", command) == subjects
