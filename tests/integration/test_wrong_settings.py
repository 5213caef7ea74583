"""What a newcomer's machine may have wrong is told in words, with the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langchain_segmind import ChatSegmindLlama, SegmindConnectionError
from tests.servers import COLOURS, KEY, ask, refused_url

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("colour", COLOURS)
def test_what_cannot_be_reached_is_named_with_its_proxy(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = refused_url()
    monkeypatch.setenv("HTTP_PROXY", proxy.replace("//", "//me:secret@"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    llm = ChatSegmindLlama(api_key=KEY, base_url="http://segmind.invalid", max_retries=0)
    with pytest.raises(SegmindConnectionError) as caught:
        ask(llm, colour)
    assert f"(at http://segmind.invalid, through the proxy {proxy})" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1", "http://127.0.0.1:port", "http://", "ftp://127.0.0.1:1"]
)
def test_what_is_no_http_proxy_is_refused_in_words(
    proxy: str, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    llm = ChatSegmindLlama(api_key=KEY, base_url="http://segmind.invalid", max_retries=0)
    with pytest.raises(SegmindConnectionError, match=r"HTTP_PROXY .* Nothing was sent"):
        ask(llm, colour)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("is_there", [False, True])
def test_certificates_that_cannot_be_loaded_are_named(
    is_there: bool,
    colour: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if is_there:
        (tmp_path / "no.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no.pem"))
    llm = ChatSegmindLlama(api_key=KEY, base_url="https://127.0.0.1:9", max_retries=0)
    with pytest.raises(SegmindConnectionError, match=r"SSL_CERT_FILE=.*\.pem .* Nothing was sent"):
        ask(llm, colour)
