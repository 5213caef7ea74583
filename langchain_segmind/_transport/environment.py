"""What the environment says of the way there: proxies, and the certificates to trust."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from langchain_segmind.exceptions import SegmindConnectionError

if TYPE_CHECKING:
    import ssl


def ssl_context() -> ssl.SSLContext:
    """Give the process's TLS settings, loaded once per value of the variables that shape them."""
    return _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _ssl_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    import httpx  # noqa: PLC0415 - not needed without TLS.

    try:
        return httpx.create_ssl_context()
    except OSError as error:  # Python's own words name no file.
        where = f"SSL_CERT_FILE={cert_file}" if cert_file else f"SSL_CERT_DIR={cert_dir}"
        raise SegmindConnectionError(
            f"The certificates to trust cannot be loaded: {where} "
            f"({error.strerror or type(error).__name__}). Nothing was sent. Name a PEM file, or "
            "unset the variable."
        ) from None


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
        advice = "A SOCKS proxy takes clients of your own (http_client=...) and 'httpx[socks]'."
    raise SegmindConnectionError(
        "The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names is no http(s)://host:port. "
        f"Nothing was sent. {advice}"
    )


def without_password(proxy: str) -> str:
    """Give a proxy's URL without the credentials in it."""
    url = urlsplit(proxy)
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
