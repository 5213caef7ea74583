"""What `/` shows in a browser: the balance, the latest requests, and how to connect."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from langchain_segmind.gateway.account import DECIMALS
from langchain_segmind.gateway.errors import ApiError
from langchain_segmind.gateway.exchange import Response, html_response, printable
from langchain_segmind.gateway.hosts import is_local

if TYPE_CHECKING:
    from langchain_segmind.gateway.core import Gateway
    from langchain_segmind.gateway.exchange import Request
    from langchain_segmind.gateway.settings import Faults

PAGE = Path(__file__).with_name("page.html").read_text("utf-8")
ROW = """<tr><td class="{kind}">{status}</td><td class="model">{model}</td>\
<td class="number">{cost}</td><td class="number">{seconds:.2f}</td></tr>"""
NO_FAULTS = '<p class="soft">None.</p>'
LONGEST_MODEL = 60


@dataclass(frozen=True)
class Exchange:
    """A POST and what became of it."""

    request_id: str
    model: str
    status: str
    is_good: bool
    cost: float | None
    seconds: float

    @classmethod
    def of(cls, request: Request, response: Response, seconds: float) -> Exchange:
        """Note an exchange; a lost answer is told, and what it cost too."""
        lost = {"whole": "", "half": " cut off", "nothing": "dropped"}[response.sent]
        status = lost if response.sent == "nothing" else f"{response.status}{lost}"
        model = printable(request.path.rpartition("/")[2][:LONGEST_MODEL])
        is_good = response.status == HTTPStatus.OK and not lost
        return cls(request.request_id, model, status, is_good, response.cost, seconds)


def show_page(gateway: Gateway, request: Request) -> Response:
    """Draw the page, for this machine's browser."""
    if not is_local(request):
        raise ApiError(403, "The page is shown on the gateway's own machine only")
    account = gateway.account
    free = f"{credit_text(account.free_credits)} of them free · " if account.free_credits else ""
    rows = "\n".join(_row(gateway, exchange) for exchange in reversed(gateway.exchanges))
    response = html_response(
        Template(PAGE).substitute(
            balance=credit_text(account.remaining),
            free=free,
            billed=account.charge_count,
            posts=account.post_count,
            engine=escape(gateway.engine.name),
            url=escape(f"http://{request.headers['host']}"),
            faults="\n".join(f"<p>{line}</p>" for line in _faults(gateway)) or NO_FAULTS,
            rows=rows or '<tr><td class="soft" colspan="4">None yet.</td></tr>',
        )
    )
    response.headers |= HEADERS
    return response


def _faults(gateway: Gateway) -> list[str]:
    """Tell what goes wrong on purpose, a line for each."""
    settings = gateway.settings
    lines = [*_shares("POSTs", settings.post_faults), *_shares("polls", settings.poll_faults)]
    if settings.failing_jobs_rate:
        lines.append(f"{settings.failing_jobs_rate:.3g} of jobs: FAILED")
    if settings.rpm:
        lines.append(f"{settings.rpm} requests in {settings.rate_window:g} s: rate limit")
    return lines


def _shares(scope: str, faults: Faults) -> list[str]:
    shares = [
        f"{share:.3g} of {scope}: {kind.replace('_', ' ')}"
        for kind, share in faults.shares().items()
        if share
    ]
    return [*shares, f"{faults.latency:g} s added to {scope}"] if faults.latency else shares


def _row(gateway: Gateway, exchange: Exchange) -> str:
    status, cost, seconds = exchange.status, exchange.cost, exchange.seconds
    is_good = exchange.is_good
    job = gateway.jobs.find(exchange.request_id)
    if job is not None:
        status = job.status if is_good else f"{status}, {job.status}"
        is_good = is_good and job.status != "FAILED"
        cost = job.charge.cost if job.charge else None
        seconds = job.metrics().get("total_time", seconds)
    return ROW.format(
        kind="ok" if is_good else "bad",
        status=status,
        model=escape(exchange.model),
        cost="-" if cost is None else credit_text(cost),
        seconds=seconds,
    )


def credit_text(amount: float) -> str:
    """Write credits without an exponent, without zeros at the end, and without a float's noise."""
    return f"{Decimal(f'{amount:.15g}'):z,.{DECIMALS}f}".rstrip("0").rstrip(".")


def _hash(tag: str) -> str:
    """Give what lets the page's own style or script through, and no other."""
    [content] = re.findall(f"<{tag}>(.*)</{tag}>", PAGE, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src {_hash('style')}; script-src {_hash('script')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
