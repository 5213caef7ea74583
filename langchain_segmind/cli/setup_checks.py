"""What can be told without the network: versions, key, address, proxy, certificates, model."""

from __future__ import annotations

import os
import platform
import re
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from pydantic import ValidationError

from langchain_segmind import __version__
from langchain_segmind._transport.environment import (
    proxy_for,
    ssl_context,
    trust_store,
    without_password,
)
from langchain_segmind.chat_models import MODELS, ChatSegmindLlama, nearest_model
from langchain_segmind.cli.findings import Finding
from langchain_segmind.credits import format_credits
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_segmind.credits import CreditBalance

SEGMIND = "https://api.segmind.com"
CONSOLE = "https://cloud.segmind.com/console"
BILLING = "https://cloud.segmind.com/billing"
GATEWAY = "langchain-segmind gateway"
LOCAL = ("127.0.0.1", "::1", "localhost")
_KEY = re.compile(r"SG_[0-9a-f]{16}")


def check_versions() -> Finding:
    """Name what a report of a bug should name."""
    core = version("langchain-core")
    system = f"Python {platform.python_version()} on {platform.system()}"
    message = f"langchain-segmind {__version__}, langchain-core {core}, {system}"
    return Finding("versions", "ok", message)


def how_to_set(variable: str, value: str) -> str:
    """Give the command that sets an environment variable in this system's usual shell."""
    return f'$env:{variable} = "{value}"' if os.name == "nt" else f"export {variable}={value}"


def check_key(key: str | None) -> Finding:
    """Judge a key by its form; nothing of it is shown."""
    if not key or not key.strip():
        way = f"Get a key at {CONSOLE} and set it: {how_to_set('SEGMIND_API_KEY', 'SG_...')}"
        advice = f"{way} To try it without an account: {GATEWAY}"
        return Finding("key", "problem", "SEGMIND_API_KEY is not set.", advice)
    if fault := _fault_of(key):
        advice = f"Copy the key again from {CONSOLE}."
        return Finding("key", "problem", f"SEGMIND_API_KEY {fault}.", advice)
    if not _KEY.fullmatch(key):
        message = "SEGMIND_API_KEY is set, but a Segmind key looks like SG_ and 16 of 0-9 and a-f."
        advice = "If it is refused below, see whether a part was lost when it was copied."
        return Finding("key", "note", message, advice)
    return Finding("key", "ok", "SEGMIND_API_KEY is set and has the form of a key.")


def _fault_of(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        return "has characters that no key has (a line break, a '…', a letter with an accent)"
    if key != key.strip():
        return "has spaces around it"
    if key[0] in "'\"" or key[-1] in "'\"":
        return "has quotation marks around it, which are no part of the key"
    if key.lower().startswith("bearer "):
        return "starts with 'Bearer': only the key itself belongs there"
    return ""


def describe_balance(balance: CreditBalance) -> str:
    """Say what is left to spend, and how much of it is a gift."""
    left = f"{format_credits(balance.total)} credits are left"
    gift = f", {format_credits(balance.free_credits)} of them a gift"
    return f"{left}{gift}" if balance.free_credits else left


def fault_of(**settings: str) -> str:
    """Say why a model refuses these settings; nothing where it takes them."""
    try:
        _model(**settings)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return ""


def describe_faults(error: ValidationError) -> str:
    """Say which settings a model refuses, and why, a line for each."""
    return "\n".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def _model(**settings: Any) -> ChatSegmindLlama:
    """Build a model that is never called; what it warns of, the doctor says in its own words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ChatSegmindLlama(api_key="SG_", **settings)


def check_address(given: str | None) -> tuple[Finding, str | None]:
    """Judge the address, and give it where it is one."""
    url = given or os.environ.get("SEGMIND_BASE_URL") or SEGMIND
    source = "--base-url" if given else "SEGMIND_BASE_URL"
    if fault := fault_of(base_url=url):
        advice = f"Leave {source} out to reach Segmind itself, {SEGMIND}."
        return Finding("address", "problem", f"From {source}: {fault}", advice), None
    base_url = _model(base_url=url).base_url
    if base_url == SEGMIND:
        return Finding("address", "ok", f"{base_url} (Segmind itself)"), base_url
    message = f"{base_url}, from {source}"
    parts = urlsplit(base_url)
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        advice = "With http:// the key can be read on its way; use https:// if there is one."
        return Finding("address", "note", f"{message}, without encryption.", advice), base_url
    return Finding("address", "ok", f"{message} (not Segmind itself)"), base_url


def check_proxy(base_url: str) -> tuple[Finding, str | None]:
    """Say which proxy requests go through; give it, where it can be used."""
    host = urlsplit(base_url).hostname
    try:
        proxy = proxy_for(base_url)
    except SegmindError as error:
        return Finding("proxy", "problem", str(error)), None
    if proxy is not None:
        source = _source_of(urlsplit(base_url).scheme, os.environ)
        return Finding("proxy", "ok", f"{without_password(proxy)}, from {source}"), proxy
    proxies = getproxies()
    if proxies.get(urlsplit(base_url).scheme) or proxies.get("all"):
        return Finding("proxy", "ok", f"There is one, but NO_PROXY exempts {host}."), None
    return Finding("proxy", "ok", "none is set for this address (HTTPS_PROXY)"), None


def _source_of(scheme: str, environment: Mapping[str, str]) -> str:
    names = [f"{each}_proxy" for each in (scheme, "all")]
    spelled = [spelling for name in names for spelling in (name, name.upper())]
    return next((name for name in spelled if environment.get(name)), "this system's settings")


def check_certificates() -> Finding:
    """See whether the certificates to trust can be loaded."""
    try:
        count = len(ssl_context().get_ca_certs())
    except SegmindError as error:
        return Finding("certificates", "problem", str(error))
    store = trust_store()
    message = {
        "operating system": "those of the operating system",
        "certifi": "those that come with certifi, since the operating system has none",
    }.get(store.source, f"those of {store.source}={store.location}")
    # Those of a folder are loaded when they are needed.
    return Finding("certificates", "ok", f"{message}{f' ({count})' if count else ''}")


def check_model(slug: str) -> Finding:
    """Judge a slug by its form and by those known; only a paid call can tell more."""
    if fault := fault_of(model=slug):
        return Finding("model", "problem", fault, f"Known ones: {', '.join(MODELS)}")
    if slug in MODELS:
        message = f"{slug} is a Llama that Segmind is known to serve."
        caveat = "Whether it is served today, and to this key, only a paid call can tell."
        return Finding("model", "ok", f"{message} {caveat}")
    message = f"{slug} has the form of a name, but is not known here; only a paid call can tell."
    meant = f"Did you mean {close}? " if (close := nearest_model(slug)) else ""
    advice = f"{meant}Segmind's models: https://www.segmind.com/models"
    return Finding("model", "note", message, advice)
