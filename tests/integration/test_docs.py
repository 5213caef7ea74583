"""The pages and the docstrings say what is so: their snippets run, and show what they print."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from zlib import decompress

import pytest

import langchain_segmind
import langchain_segmind.gateway
from langchain_segmind import (
    ChatSegmindLlama,
    CreditBalance,
    Credits,
    CreditsCallbackHandler,
    batch,
    journals,
)
from langchain_segmind._messages.profiles import PROFILES
from langchain_segmind.gateway import RunningGateway, ScriptedEngine, serve
from tests.integration.snippets import answer, run, snippets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
WITH_SNIPPETS = [page for page in PAGES if list(snippets_of(page.read_text("utf-8")))]
ERRORS = [name for name in langchain_segmind.__all__ if name.endswith("Error")]
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Pair each public name that has an example with its docstring."""
    for module in (langchain_segmind, langchain_segmind.gateway):
        for name in module.__all__:
            thing = getattr(module, name)
            members = vars(thing) if inspect.isclass(thing) else {}
            for path, documented in {name: thing, **members}.items():
                text = inspect.getdoc(documented) if callable(documented) else None
                if text and list(snippets_of(text)):
                    yield path, text


def page(name: str) -> str:
    """Read a page."""
    return (DOCS / name).read_text("utf-8")


def parameters_of(name: str) -> dict[str, str]:
    """Read the tables of parameters of a page: each with its default."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page(name), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "one is there twice"
    return {name: default.strip("`") for name, default in rows}


def simple(defaults: dict[str, Any]) -> dict[str, str]:
    """Leave the defaults that a table shows as they are: a price without an exponent."""
    return {
        name: str(value).replace("9e-07", "0.0000009")
        for name, value in defaults.items()
        if isinstance(value, (str, int, float))
    }


def slug(title: str) -> str:
    """Give the anchor of a heading."""
    return re.sub(r"[^\w-]+", "-", title.lower()).strip("-")


def shell_lines() -> list[str]:
    """List what the pages tell people to type into a shell."""
    blocks = "".join(block for path in PAGES for block in SHELL.findall(path.read_text("utf-8")))
    return list(dict.fromkeys(blocks.splitlines()))


@cache
def usage_of(module: str, *command: str) -> str:
    """Ask a module for its options."""
    asked = [sys.executable, "-m", module, *command, "--help"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def inventory(path: Path) -> list[str]:
    """Read the names that Sphinx's inventory format lists."""
    header, _, _, _, packed = path.read_bytes().split(b"\n", 4)
    assert header.startswith(b"# Sphinx inventory version 2")
    return [line.partition(" ")[0] for line in decompress(packed).decode().splitlines()]


@pytest.fixture
def segmind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RunningGateway]:
    """Give the snippets a Segmind, and a folder with a picture in it."""
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.chdir(tmp_path)
    # What a snippet sets is not for the tests that follow it in this process.
    with patch.dict(os.environ), serve(engine=ScriptedEngine(answer)) as running:
        monkeypatch.setenv("SEGMIND_API_KEY", running.api_key)
        monkeypatch.setenv("SEGMIND_BASE_URL", running.url)
        yield running


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run(page: Path, segmind: RunningGateway) -> None:
    run(page.read_text("utf-8"), page.name)


def test_the_examples_of_the_docstrings_run(segmind: RunningGateway) -> None:
    examples = dict(public_docstrings())
    assert examples.keys() >= {"ChatSegmindLlama", "SegmindRateLimiter", "resume", "serve"}
    for name, text in examples.items():
        run(text, name)


def test_the_page_on_errors_tells_of_every_error_and_no_page_of_another() -> None:
    told = {
        path: set(re.findall(r"`(Segmind\w+Error)`", path.read_text("utf-8"))) for path in PAGES
    }
    assert told[DOCS / "errors.md"] >= set(ERRORS) - {"SegmindError"}
    assert set().union(*told.values()) <= set(ERRORS)


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 120


def test_the_models_are_those_that_have_a_profile() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)`.*? \| ([\d,]+) \| (yes|no) \|$", page("langchain.md"), re.MULTILINE
    )
    told = {slug: (int(context.replace(",", "")), image == "yes") for slug, context, image in rows}
    assert told == {
        slug: (profile["max_input_tokens"], profile["image_inputs"])
        for slug, profile in PROFILES.items()
    }


def test_the_reference_has_every_parameter_with_its_default() -> None:
    told = parameters_of("reference/chat-model.md")
    ours = [
        kind for kind in ChatSegmindLlama.__mro__ if kind.__module__.startswith("langchain_seg")
    ]
    own = {name for kind in ours for name in kind.__annotations__}
    fields = {name for name in own if name in ChatSegmindLlama.model_fields}
    assert told.keys() == fields | {"rate_limiter"}
    defaults = {name: ChatSegmindLlama.model_fields[name].default for name in fields}
    assert {name: told[name] for name in simple(defaults)} == simple(defaults)


def test_the_reference_has_every_setting_of_the_gateway_with_its_default() -> None:
    kinds = (langchain_segmind.gateway.Settings, langchain_segmind.gateway.Faults)
    defaults = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
    told = parameters_of("reference/gateway.md")
    assert told.keys() == defaults.keys()
    assert {name: told[name] for name in simple(defaults)} == simple(defaults)


def test_the_reference_has_every_attribute_of_the_gateways_account() -> None:
    told = set(re.findall(r"`\.(\w+)`", page("reference/gateway.md")))
    with serve() as running:
        account = running.account
    assert told == {name for name in dir(account) if not name.startswith("_")} - {
        name for name, thing in inspect.getmembers(account, inspect.ismethod)
    }


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("reference/batch.md", (batch.BatchRequest, batch.BatchResult)),
        ("reference/journals.md", (journals.JournalEntry,)),
    ],
)
def test_the_reference_has_every_attribute_of_what_is_given(
    name: str, kinds: tuple[type, ...]
) -> None:
    cells = re.findall(r"^\| (`.*?`) \|", page(name), re.MULTILINE)
    told = {word for cell in cells for word in re.findall(r"\w+", cell)}
    fields = {name for kind in kinds for name in inspect.get_annotations(kind)}
    computed = {
        name
        for kind in kinds
        for name, thing in vars(kind).items()
        if isinstance(thing, property) and not name.startswith("_")
    }
    assert told == fields | computed


def test_the_reference_has_every_attribute_of_what_counts_money() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", page("reference/credits.md"), re.MULTILINE))
    fields = {each.name for kind in (Credits, CreditBalance) for each in dataclasses.fields(kind)}
    counted = {name for name in vars(CreditsCallbackHandler()) if not name.startswith("_")}
    assert told == fields | counted | {"unknown"}


@pytest.mark.parametrize("line", shell_lines())
def test_a_command_exists(line: str) -> None:
    """Targets, modules, their options and extras are there; nothing is run but `--help`."""
    match shlex.split(line, comments=True):
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        case ["python", "-m", module, *words]:
            options = [word for word in words if word.startswith("--")]
            assert all(word in usage_of(module) for word in ("usage:", *words[:1], *options))
        case ["langchain-segmind", command, *words]:
            options = [word for word in words if word.startswith("--")]
            has_own = command in ("batch", "gateway")
            told = usage_of("langchain_segmind", *([command] if has_own else []))
            assert command in told
            assert all(option in told for option in options)
        case ["pip", "install", package]:
            extra = re.search(r"\[(\w+)\]", package)
            project = (ROOT / "pyproject.toml").read_text("utf-8")
            assert extra is None or f"\n{extra[1]} = " in project
        case [] | ["export", *_]:
            pass
        case other:
            pytest.fail(f"nobody checks {other}")


def test_the_site_builds_and_has_every_public_name(tmp_path: Path) -> None:
    """No link and no reference is broken, and what is public is in the API reference."""
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copytree(ROOT / "langchain_segmind", tmp_path / "langchain_segmind")
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    referenced = {name.rpartition(".")[2] for name in inventory(tmp_path / "site/objects.inv")}
    public = {*langchain_segmind.__all__, *langchain_segmind.gateway.__all__}
    assert public - referenced == {"__version__"}


def test_the_tests_that_hold_a_promise_exist() -> None:
    """Those that "How it works" names."""
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", page("architecture.md"))
    assert len(named) > 20
    for path, test in named:
        folder = "langchain_segmind" if path == "testing.py" else "tests"
        defined = rf"def {test}\("
        assert re.search(defined, (ROOT / folder / path).read_text("utf-8")), (path, test)


def test_every_page_can_be_found() -> None:
    """Once: the builder says nothing of a page that the navigation leaves out or repeats."""
    nav = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(nav) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_what_the_readme_says_of_others_and_of_itself_names_its_test() -> None:
    """Each link from the table to a file of tests has the test's name as its title."""
    rows = [row for row in README.read_text("utf-8").splitlines() if row.startswith("| ")]
    proofs = re.findall(r"\]\(tests/[\w/]+\.py( \"test_\w+\")?\)", "".join(rows))
    assert len(proofs) > 15
    assert all(proofs)


def test_the_links_of_the_readme_lead_somewhere() -> None:
    """Those into the tree; the pages' own are checked when the site is built."""
    link = r"\]\((?!\w+:)([^)# ]+)(?:#([^) ]+))?(?: \"(\w+)\")?\)"
    links = re.findall(link, README.read_text("utf-8"))
    assert links
    for path, anchor, test in links:
        target = ROOT / path
        assert target.is_file(), path
        assert f"def {test}(" in target.read_text("utf-8") or not test, (path, test)
        titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
        assert not anchor or anchor in {slug(title) for title in titles}, (path, anchor)
