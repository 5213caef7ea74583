"""What `/` shows in a browser: the balance, the latest requests, and how to connect."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_segmind.gateway.exchange import Response, html_response, printable

if TYPE_CHECKING:
    from langchain_segmind.gateway.core import Gateway
    from langchain_segmind.gateway.exchange import Request
    from langchain_segmind.gateway.faults import Faults

STYLE = """
:root { color-scheme: light dark; --line: #d8dce2; --soft: #5b6472; --bad: #b42318; --ok: #17703c }
@media (prefers-color-scheme: dark) {
  :root { --line: #353b45; --soft: #a0a8b5; --bad: #ff9a8d; --ok: #7fd6a0 }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.3rem; margin: 0 }
h2 { font-size: 1rem; margin: 2rem 0 .5rem }
p { margin: .25rem 0 }
.balance { font-size: 2.2rem; font-variant-numeric: tabular-nums; margin: .5rem 0 0 }
.soft { color: var(--soft) }
.bad { color: var(--bad) }
.ok { color: var(--ok) }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
pre { border: 1px solid var(--line); padding: .7rem; margin: 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { font-weight: 400; color: var(--soft); text-align: left }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line) }
.number { text-align: right; white-space: nowrap }
.number:last-child { padding-right: 0 }
td.model { overflow-wrap: anywhere }
@media (max-width: 34rem) {
  table { font-size: .875rem }
  th, td { padding-right: .5rem }
}
"""

SCRIPT = """
setInterval(async () => {
  try {
    const answer = await fetch("/", { signal: AbortSignal.timeout(5000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.querySelector("#gone").hidden = true;
  } catch {
    document.querySelector("#gone").hidden = false;
  }
}, 1000);
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Local Segmind</title>
<style>{style}</style>
</head>
<body>
<h1>Local Segmind</h1>
<p id="gone" class="bad" hidden>The gateway does not answer: what is shown is what was.</p>
<main>
<p class="balance">{balance} credits</p>
<p class="soft">{free}{billed} of {posts} requests billed · engine: {engine}</p>
<h2>Connect</h2>
<pre>export SEGMIND_BASE_URL={url}
export SEGMIND_API_KEY=<i>the key in the gateway's terminal</i></pre>
<h2>Faults that are on</h2>
{faults}
<h2>Latest requests</h2>
{requests}
</main>
<script>{script}</script>
</body>
</html>
"""

TABLE = """<table>
<tr><th>Status</th><th>Model</th><th class="number">Credits</th><th class="number">Seconds</th></tr>
{rows}
</table>"""

ROW = """<tr><td class="{kind}">{status}</td><td class="model">{model}</td>\
<td class="number">{cost}</td><td class="number">{seconds}</td></tr>"""

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


def show_page(gateway: Gateway, url: str) -> Response:
    """Draw the page."""
    account = gateway.account
    free = f"{credit_text(account.free_credits)} of them free · " if account.free_credits else ""
    faults = "".join(f"<p>{escape(line)}</p>" for line in faults_of(gateway))
    rows = "\n".join(_row(gateway, exchange) for exchange in reversed(gateway.exchanges))
    page = PAGE.format(
        style=STYLE,
        script=SCRIPT,
        balance=credit_text(account.remaining),
        free=free,
        billed=account.charge_count,
        posts=account.post_count,
        engine=escape(gateway.engine.name),
        requests=TABLE.format(rows=rows) if rows else '<p class="soft">None yet.</p>',
        faults=faults or '<p class="soft">None.</p>',
        url=escape(url),
    )
    response = html_response(page)
    response.headers.update(HEADERS)
    return response


def faults_of(gateway: Gateway) -> list[str]:
    """Tell what goes wrong on purpose, a line for each."""
    settings = gateway.settings
    lines = [*_faults("POSTs", settings.post_faults), *_faults("polls", settings.poll_faults)]
    if settings.failing_jobs_rate:
        lines.append(f"{settings.failing_jobs_rate:.3g} of jobs: FAILED")
    if settings.rpm:
        lines.append(f"{settings.rpm} requests in {settings.rate_window:g} s: rate limit")
    return lines


def _faults(scope: str, faults: Faults) -> list[str]:
    shares = [
        f"{share:.3g} of {scope}: {fault.value.replace('_', ' ')}"
        for fault, share in faults.shares()
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
        status=escape(status),
        model=escape(exchange.model),
        cost="-" if cost is None else credit_text(cost),
        seconds=f"{seconds:.2f}",
    )


def credit_text(amount: float) -> str:
    """Write credits without an exponent, and without zeros at the end."""
    return f"{amount:,.7f}".rstrip("0").rstrip(".")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_hash(STYLE)}'; "
        f"script-src 'sha256-{_hash(SCRIPT)}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
