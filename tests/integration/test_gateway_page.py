"""The page at `/`, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from typing import TYPE_CHECKING, cast

import httpx
import pytest

from langchain_segmind.gateway import EchoEngine, Faults, Settings, serve
from langchain_segmind.gateway.page import credit_text

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_segmind.gateway import Engine

SLUG = "llama-v3p1-70b-instruct"
KEY = "SG_c0ffee5ec2e7ca4a"
SETTINGS = Settings(
    api_key=KEY, free_credits=0.5, rpm=100, post_faults=Faults(proxy_timeout_rate=0.25)
)
PHONE = 390
"""Pixels across."""

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
)


def open_in_browser(url: str, folder: Path) -> str:
    """Let a browser run a page for some seconds; give the document as it is then."""
    if BROWSER is None:
        pytest.skip("there is no chromium here")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", url]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "Content Security Policy" not in outcome.stderr
    return outcome.stdout


def cells(document: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", document, re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows[1:]]


class CountingEngine(EchoEngine):
    """An engine whose name tells how often it was shown."""

    shown = 0

    @property
    def name(self) -> str:  # type: ignore[override]
        """Count this time as well."""
        self.shown += 1
        return f"shown {self.shown}"


def test_it_shows_the_account_and_keeps_itself_up_to_date(tmp_path: Path) -> None:
    with serve(SETTINGS, cast("Engine", CountingEngine())) as gateway:
        body, headers = {"prompt": "hi"}, {"x-api-key": KEY}
        for path in (f"/v1/{SLUG}", f"/v2/{SLUG}", "/v1/none"):
            httpx.post(gateway.url + path, json=body, headers=headers)
        httpx.post(f"{gateway.url}/v1/{SLUG}", json=body, headers={"x-api-key": "SG_wrong"})
        document = open_in_browser(gateway.url, tmp_path)

    assert "10.4999928 credits" in document
    assert int(re.findall(r"shown (\d+)", document)[0]) > 1
    assert "0.25 of POSTs: proxy timeout" in document
    assert "100 requests in 60 s: rate limit" in document
    assert f"SEGMIND_BASE_URL={gateway.url}" in document
    assert [row[:3] for row in cells(document)] == [
        ["401", SLUG, "-"],
        ["404", "none", "-"],
        ["COMPLETED", SLUG, "0.0000036"],
        ["200", SLUG, "0.0000036"],
    ]
    assert KEY not in document
    assert "SG_" not in document


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(999_999.9999837999, "999,999.9999838"), (1e-9, "0.000000001"), (10.0, "10"), (-0.0, "0")],
)
def test_credits_have_the_decimals_that_count(amount: float, shown: str) -> None:
    assert credit_text(amount) == shown


def test_what_a_stranger_sends_is_text(tmp_path: Path) -> None:
    with serve() as gateway:
        httpx.post(f"{gateway.url}/v1/<img%20src=x%20onerror=alert(1)>%1b%5b2J")
        document = open_in_browser(gateway.url, tmp_path)

    assert cells(document)[0][1] == "&lt;img src=x onerror=alert(1)&gt;\\x1b[2J"
    assert "<img" not in document


def test_it_fits_a_phone(tmp_path: Path) -> None:
    """A browser's window has a least width, so a frame plays the phone."""
    with serve(SETTINGS) as gateway:
        for slug in ("llama-v3p2-11b-vision-instruct", "x" * 300):
            for version in ("v1", "v2"):
                httpx.post(
                    f"{gateway.url}/{version}/{slug}",
                    json={"prompt": "hi"},
                    headers={"x-api-key": KEY},
                )
        page = httpx.get(gateway.url).text
    whole = tmp_path / "phone.html"
    whole.write_text(
        f'<iframe width={PHONE} height=4000 frameborder=0 srcdoc="{escape(page)}"></iframe>\n'
        "<script>onload = () => { document.title = document.querySelector('iframe')"
        ".contentDocument.documentElement.scrollWidth };</script>"
    )
    document = open_in_browser(whole.as_uri(), tmp_path)

    assert f"<title>{PHONE}</title>" in document


class TestWithoutABrowser:
    def test_it_can_be_turned_off(self) -> None:
        with serve(Settings(page=False)) as gateway:
            assert httpx.get(gateway.url).status_code == 404

    def test_it_is_not_shown_under_another_name(self) -> None:
        """The API is, where it was allowed."""
        with serve(Settings(allow_hosts=frozenset({"box.lan"}))) as gateway:
            answer = httpx.get(gateway.url, headers={"host": "box.lan"})

        assert answer.status_code == 403
        assert "own machine" in answer.json()["error"]

    def test_nothing_from_elsewhere_may_run_in_it(self) -> None:
        with serve() as gateway:
            answer = httpx.get(gateway.url)
        policy = answer.headers["content-security-policy"]

        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"https?://", answer.text.replace(gateway.url, ""))
