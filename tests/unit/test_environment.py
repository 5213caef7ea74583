"""Which certificates are trusted, and who says so."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import certifi
import httpx2
import pytest

from langchain_segmind import SegmindConnectionError
from langchain_segmind._transport import environment
from langchain_segmind._transport.environment import TrustStore, ssl_context, trust_store
from tests.servers import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    environment._trust.cache_clear()
    yield
    environment._trust.cache_clear()


def test_the_operating_systems_certificates_are_trusted() -> None:
    if not httpx2.create_ssl_context().cert_store_stats()["x509_ca"]:
        pytest.skip("this system has no certificates in one file")
    assert trust_store() == TrustStore("operating system")
    assert ssl_context().get_ca_certs()


def test_certifis_are_trusted_where_the_system_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = ssl.DefaultVerifyPaths("", "", "A", str(tmp_path / "no"), "B", str(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(
        httpx2, "create_ssl_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    assert trust_store() == TrustStore("certifi", certifi.where())
    assert len(ssl_context().get_ca_certs()) > 50


def test_a_folder_of_the_systems_holds_certificates_by_their_hashes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "0a1b2c3d.0").touch()
    paths = ssl.DefaultVerifyPaths("", "", "A", str(tmp_path / "no"), "B", str(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert environment._has_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_a_file_that_a_variable_names_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, _ = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert trust_store() == TrustStore("SSL_CERT_FILE", str(file))
    assert len(ssl_context().get_ca_certs()) == 1


def test_a_folder_that_a_variable_names_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert trust_store() == TrustStore("SSL_CERT_DIR", str(tmp_path))
    assert ssl_context().get_ca_certs() == []


def test_a_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    with pytest.raises(SegmindConnectionError, match=r"SSL_CERT_FILE=.*Nothing was sent"):
        ssl_context()


def test_an_environment_that_changes_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = ssl_context()
    assert ssl_context() is before
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert ssl_context() is not before
