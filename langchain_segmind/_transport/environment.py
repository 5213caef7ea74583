"""What the environment says of the way there: proxies, and the certificates to trust."""

from __future__ import annotations

import os
import platform
import ssl
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from langchain_segmind.exceptions import SegmindConnectionError


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Where the certificates come from that a server's is checked against."""

    source: Literal["SSL_CERT_FILE", "SSL_CERT_DIR", "operating system", "certifi"]
    location: str | None = None
    """The file or folder, where there is one to name."""


def ssl_context() -> ssl.SSLContext:
    """Give the process's TLS settings, loaded once per value of the variables that shape them.

    Raises:
        SegmindConnectionError: What a variable names cannot be loaded.
    """
    return _trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))[0]


def trust_store() -> TrustStore:
    """Say which certificates `ssl_context` trusts."""
    return _trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))[1]


@lru_cache(maxsize=4)
def _trust(cert_file: str | None, cert_dir: str | None) -> tuple[ssl.SSLContext, TrustStore]:
    import httpx2

    try:
        # The variables, or else the store of the operating system.
        context = httpx2.create_ssl_context()
    except OSError as error:  # Python's own words name no file.
        where = f"SSL_CERT_FILE={cert_file}" if cert_file else f"SSL_CERT_DIR={cert_dir}"
        raise SegmindConnectionError(
            f"The certificates to trust cannot be loaded: {where} "
            f"({error.strerror or type(error).__name__}). Nothing was sent. Name a PEM file, or "
            "unset the variable."
        ) from None
    if cert_file:
        return context, TrustStore("SSL_CERT_FILE", cert_file)
    if cert_dir:
        return context, TrustStore("SSL_CERT_DIR", cert_dir)
    if _has_certificates(context):
        return context, TrustStore("operating system")
    import certifi

    context.load_verify_locations(certifi.where())
    return context, TrustStore("certifi", certifi.where())


def _has_certificates(context: ssl.SSLContext) -> bool:
    if platform.system() in ("Windows", "Darwin") or context.cert_store_stats()["x509_ca"]:
        return True
    # Those of a folder are loaded when they are needed, each from a file named by its hash.
    return any(Path(ssl.get_default_verify_paths().openssl_capath).glob("*.[0-9]"))


def proxy_for(base_url: str) -> str | None:
    """Choose the proxy that the environment names for this URL, as urllib does.

    Raises:
        SegmindConnectionError: It is no HTTP proxy, or cannot be read.
    """
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    if url.hostname is None or proxy_bypass(f"{url.hostname}:{port}"):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return _checked_proxy(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def _checked_proxy(proxy: str) -> str:
    try:
        url = urlsplit(proxy)
        if url.scheme in ("http", "https") and url.hostname and url.port != 0:
            return proxy
    except ValueError:  # The port is no number.
        pass
    advice = "Correct it, or unset it."
    if proxy.startswith("socks"):
        advice = "A SOCKS proxy takes clients of your own (http_client=...) and 'httpx2[socks]'."
    raise SegmindConnectionError(
        "The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names is no http(s)://host:port. "
        f"Nothing was sent. {advice}"
    )


def credentials_of(proxy: str) -> tuple[str, str, str] | None:
    """Read a proxy's user and password from its URL, and the token of both that it is sent."""
    url = urlsplit(proxy)
    if not url.username:
        return None
    user, password = unquote(url.username), unquote(url.password or "")
    return user, password, b64encode(f"{user}:{password}".encode()).decode()


def without_password(proxy: str) -> str:
    """Give a proxy's URL without the credentials in it."""
    url = urlsplit(proxy)
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
