"""What the doctor tells without a network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from langchain_segmind.cli.findings import Finding, show
from langchain_segmind.cli.network import _advice_on_certificate
from langchain_segmind.cli.options import build_parser, main
from langchain_segmind.cli.setup_checks import check_address, check_key, check_model, check_proxy


@pytest.mark.parametrize(
    ("key", "verdict", "word"),
    [
        (None, "problem", "not set"),
        (" ", "problem", "not set"),
        ("SG_0123456789abcdef", "ok", "form of a key"),
        ("SG_0123456789abcde", "note", "looks like"),
        ("YOUR-API-KEY", "note", "looks like"),
        ("SG_…", "problem", "characters"),
        ("SG_0123456789abcdef\n", "problem", "line break"),
        (" SG_0123456789abcdef", "problem", "spaces"),
        ('"SG_0123456789abcdef"', "problem", "quotation marks"),
        ("Bearer SG_0123456789abcdef", "problem", "Bearer"),
    ],
)
def test_a_key_is_judged_and_not_shown(key: str | None, verdict: str, word: str) -> None:
    finding = check_key(key)
    assert finding.verdict == verdict
    assert word in finding.message
    assert "0123" not in finding.message + finding.advice
    assert finding.advice or verdict == "ok"


@pytest.mark.parametrize(
    ("url", "verdict", "address"),
    [
        ("https://api.segmind.com/v1/", "ok", "https://api.segmind.com"),
        ("http://127.0.0.1:8765", "ok", "http://127.0.0.1:8765"),
        ("http://segmind.example", "note", "http://segmind.example"),
        ("segmind.com", "problem", None),
        ("SG_0123456789abcdef", "problem", None),
    ],
)
def test_an_address_is_judged(url: str, verdict: str, address: str | None) -> None:
    finding, found = check_address(url)
    assert (finding.verdict, found) == (verdict, address)
    assert "SG_" not in finding.message


def test_the_address_is_segmind_unless_told_otherwise() -> None:
    assert check_address(None)[1] == "https://api.segmind.com"


@pytest.mark.parametrize(
    ("slug", "verdict", "advice"),
    [
        ("llama-v3p1-70b-instruct", "ok", ""),
        ("llama-v3p1-70b", "note", "Did you mean llama-v3p1-70b-instruct?"),
        ("Llama-3.1-70B-Instruct", "note", "Did you mean llama-v3p1-70b-instruct?"),
        ("qwq", "note", "https://www.segmind.com/models"),
        ("meta/llama", "problem", "Known ones: llama-v3"),
    ],
)
def test_a_model_is_judged_by_its_name(slug: str, verdict: str, advice: str) -> None:
    finding = check_model(slug)
    assert finding.verdict == verdict
    assert advice in finding.advice


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_is_named_by_its_variable_without_its_password(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://me:secret@proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    finding, proxy = check_proxy("https://api.segmind.com")
    assert finding.message == f"http://proxy.example:3128, from {name}"
    assert proxy == "http://me:secret@proxy.example:3128"


@pytest.mark.parametrize(
    ("code", "advice"), [(9, "clock"), (10, "clock"), (62, "another host"), (20, "SSL_CERT_FILE")]
)
def test_a_certificate_that_fails_says_what_to_look_at(code: int, advice: str) -> None:
    assert advice in _advice_on_certificate(code)


def test_a_command_is_never_broken_in_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for length in range(30):
        show(Finding("key", "note", "told", f"{'a' * length} langchain-segmind doctor"))
    assert capsys.readouterr().out.count("langchain-segmind doctor") == 30


@pytest.mark.parametrize("wrong", [["dr"], ["--timeout", "0"], ["--timeout", "soon"]])
def test_what_is_no_option_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(wrong)
    assert caught.value.code == 2


def test_help_names_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert "doctor" in printed
    assert "SEGMIND_API_KEY" in printed


def test_the_package_does_without_all_of_it() -> None:
    code = (
        "import sys, httpx\n"  # It imports rich where it finds its own command line's extra.
        "before = set(sys.modules)\n"
        "import langchain_segmind\n"
        "ours = ('langchain_segmind.cli', 'langchain_segmind.__main__', 'rich')\n"
        "print([name for name in set(sys.modules) - before if name.startswith(ours)])"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "[]\n"
