"""The doctor: Doctor, against one real fault after the other; it never spends anything."""

from __future__ import annotations

import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from langchain_segmind.cli.options import main
from langchain_segmind.gateway import Settings, serve
from tests.servers import KEY, Wire, faults, head, http, refused_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_segmind.gateway import RunningGateway

    Doctor = Callable[..., tuple[int, dict[str, tuple[str, str]]]]

Report = dict[str, tuple[str, str]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run the doctor; give its exit code, and what it says of each subject."""
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_PROXY", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(base_url: str, *arguments: str, key: str | None = KEY) -> tuple[int, Report]:
        if key is not None:
            monkeypatch.setenv("SEGMIND_API_KEY", key)
        monkeypatch.setenv("SEGMIND_BASE_URL", base_url)
        code = main(["doctor", *arguments])
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.endswith("Nothing was spent.\n")
        assert not key or key not in printed.out
        return code, findings(printed.out)

    return run


def findings(printed: str) -> Report:
    """Read a report: the verdict on each subject, and what is told of it, in one line."""
    found: Report = {}
    subject = ""
    for line in printed.partition("\n\n")[0].splitlines():
        told = line[24:].strip()
        if line[0] != " ":
            subject = line[9:24].strip()
            found[subject] = (line[:9].strip(), told)
        else:
            verdict, before = found[subject]
            found[subject] = (verdict, f"{before} {told}")
    return found


def verdicts(report: Report, *subjects: str) -> list[str]:
    return [report[subject][0] for subject in subjects]


def test_all_is_well_and_nothing_was_spent(gateway: RunningGateway, doctor: Doctor) -> None:
    code, report = doctor(gateway.url, key=gateway.api_key)
    assert code == 0
    assert {verdict for verdict, _ in report.values()} == {"ok"}
    assert "10.00 credits are left" in report["credits"][1]
    assert "only a paid call can tell" in report["model"][1]
    assert report["clock"] == ("ok", "agrees with the server's")
    assert gateway.account.post_count == 0
    assert gateway.account.charge_count == 0
    assert gateway.account.remaining == 10.0


def test_a_wrong_key(gateway: RunningGateway, doctor: Doctor) -> None:
    code, report = doctor(gateway.url, key="SG_ffffffffffffffff")
    assert code == 1
    assert verdicts(report, "key", "credits") == ["ok", "problem"]
    assert "401: Invalid API key" in report["credits"][1]
    assert "-> Copy the key again" in report["credits"][1]
    assert gateway.account.post_count == 0


def test_an_empty_account(doctor: Doctor) -> None:
    with serve(Settings(credits=0)) as gateway:
        code, report = doctor(gateway.url, key=gateway.api_key)
        assert gateway.account.post_count == 0
    assert code == 1
    assert report["credits"][0] == "problem"
    assert "the account is empty" in report["credits"][1]
    assert "Top up at https://cloud.segmind.com/billing" in report["credits"][1]


def test_an_account_without_a_record(doctor: Doctor) -> None:
    with faults(http({"error": "No credits found for the user"}, 404)) as server:
        _, report = doctor(server.url)
    assert report["credits"][0] == "problem"
    assert "Top up" in report["credits"][1]


def test_no_key_and_the_way_is_still_looked_at(gateway: RunningGateway, doctor: Doctor) -> None:
    code, report = doctor(gateway.url, key=None)
    assert code == 1
    assert verdicts(report, "key", "connection", "credits") == ["problem", "ok", "skipped"]
    assert "langchain-segmind gateway" in report["key"][1]


def test_nobody_listens(doctor: Doctor) -> None:
    code, report = doctor(refused_url())
    assert code == 1
    assert verdicts(report, "connection", "credits") == ["problem", "skipped"]
    assert "Is the local Segmind running?" in report["connection"][1]


def test_a_name_that_has_no_address(doctor: Doctor) -> None:
    code, report = doctor("https://segmind.invalid")
    assert code == 1
    assert report["name"][0] == "problem"
    assert "segmind.invalid has no address" in report["name"][1]


def test_a_proxy_that_refuses_connections(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = refused_url()
    monkeypatch.setenv("HTTPS_PROXY", proxy.replace("//", "//me:secret@"))
    code, report = doctor("https://segmind.invalid")
    assert code == 1
    assert report["proxy"] == ("ok", f"{proxy}, from HTTPS_PROXY")
    assert report["connection"][0] == "problem"
    assert "That is the proxy" in report["connection"][1]


@pytest.mark.parametrize(
    ("status", "told"), [(403, "refuses to connect to segmind.invalid:443"), (407, "a password")]
)
def test_a_proxy_that_refuses_the_tunnel(
    status: int,
    told: str,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with faults(http(b"", status)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        code, report = doctor("https://segmind.invalid")
    assert code == 1
    assert verdicts(report, "connection", "tunnel", "credits") == ["ok", "problem", "skipped"]
    assert told in report["tunnel"][1]
    assert [received.line.split()[0] for received in proxy.requests] == ["CONNECT"]


def test_an_exempted_host_goes_around_the_proxy(
    gateway: RunningGateway,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", refused_url())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    code, report = doctor(gateway.url, key=gateway.api_key)
    assert (code, report["proxy"]) == (0, ("ok", "There is one, but NO_PROXY exempts 127.0.0.1."))


def test_a_proxy_of_another_kind(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    code, report = doctor("https://segmind.invalid")
    assert code == 1
    assert verdicts(report, "proxy", "credits") == ["problem", "skipped"]
    assert "SOCKS" in report["proxy"][1]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate that nobody has signed."""
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", tmp_path / "key", "-out", tmp_path / "cert", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate with")
    return tmp_path / "cert"


def test_certificates(certificate: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not trusted; then trusted, but of another host; then all is well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))
    with faults(http({"credits": 1, "free-credits": 0}), tls=context) as server:
        address = f"https://127.0.0.1:{server.port}"
        name = f"https://localhost:{server.port}"
        wary, unknown = doctor(name)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        misled, another = doctor(address)
        trusting, known = doctor(name)
    assert (wary, misled, trusting) == (1, 1, 0)
    assert "self-signed certificate" in unknown["encryption"][1].replace(
        "self signed", "self-signed"
    )
    assert "set SSL_CERT_FILE to its path" in unknown["encryption"][1]
    assert "It belongs to another host" in another["encryption"][1]
    assert verdicts(known, "certificates", "encryption", "credits") == ["ok", "ok", "ok"]
    assert len(server.requests) == 1


def test_https_where_http_is_spoken(gateway: RunningGateway, doctor: Doctor) -> None:
    code, report = doctor(gateway.url.replace("http:", "https:"))
    assert code == 1
    assert "Does it speak http:// instead?" in report["encryption"][1]


def test_certificates_that_are_none(
    tmp_path: Path,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    code, report = doctor("https://127.0.0.1:9")
    assert code == 1
    assert report["certificates"][0] == "problem"
    assert "none.pem" in report["certificates"][1]


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html><h1>Method Not Allowed</h1></html>", 405, content_type="text/html"),
        http(b"<html><h1>Sign in to the Wi-Fi</h1></html>", content_type="text/html"),
        http(b"Not Found", 404, content_type="text/plain"),
    ],
)
def test_what_is_no_segmind(answer: bytes, doctor: Doctor) -> None:
    with faults(answer) as server:
        code, report = doctor(server.url)
    assert code == 1
    assert report["credits"][0] == "problem"
    assert "-> Correct SEGMIND_BASE_URL, or look for a proxy" in report["credits"][1]


def test_a_server_that_says_nothing(doctor: Doctor) -> None:
    with faults(lambda _, wire: wire.hang()) as server:
        code, report = doctor(server.url, "--timeout", "0.2")
    assert code == 1
    assert "no answer in time" in report["credits"][1]
    assert "wait longer with --timeout 60" in report["credits"][1]


def test_a_server_in_trouble_is_asked_once(doctor: Doctor) -> None:
    with faults(http({"error": "Server had some issue with processing"}, 500)) as server:
        code, report = doctor(server.url)
    assert code == 1
    assert "a problem of its own" in report["credits"][1]
    assert [received.line.split()[0] for received in server.requests] == ["GET"]


def test_a_clock_that_is_wrong_is_told_and_no_problem(doctor: Doctor) -> None:
    date = {"date": "Mon, 01 Jan 2001 00:00:00 GMT"}
    with faults(http({"credits": 1, "free-credits": 0}, headers=date)) as server:
        code, report = doctor(server.url)
    assert code == 0
    assert report["clock"][0] == "note"
    assert "ahead of the server's" in report["clock"][1]


def test_the_key_that_a_server_echoes_is_not_shown(doctor: Doctor) -> None:
    """The fixture looks for it in all that is printed."""
    with faults(http({"error": f"no such key: {KEY}"}, 401)) as server:
        code, report = doctor(server.url)
    assert code == 1
    assert "no such key" in report["credits"][1]


def test_it_needs_no_extra_and_no_terminal(gateway: RunningGateway) -> None:
    script = (
        "import runpy, sys; sys.modules['rich'] = None; sys.argv[1:] = ['doctor'];"
        "runpy.run_module('langchain_segmind', run_name='__main__')"
    )
    environment = {
        "SEGMIND_API_KEY": gateway.api_key,
        "SEGMIND_BASE_URL": gateway.url,
        "PYTHONIOENCODING": "ascii",
    }
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, env=environment, text=True
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "No problems. Nothing was spent." in outcome.stdout


def half_an_answer(_: object, wire: Wire) -> None:
    wire.send(head(200, {"content-length": "50"}) + b'{"credits"')
    wire.close()


def another_protocol(_: object, wire: Wire) -> None:
    wire.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    wire.close()


@pytest.mark.parametrize("answer", [half_an_answer, another_protocol])
def test_an_answer_that_breaks_off(answer: object, doctor: Doctor) -> None:
    with faults(answer) as server:
        code, report = doctor(server.url)
    assert code == 1
    assert "-> " in report["credits"][1]
    assert "SEGMIND_BASE_URL" in report["credits"][1]
