"""Real proxies, as Debian has them: nginx in front of a server, and squid in front of its callers.

Each runs on a free port and in a folder of its own, and as nobody where we are root.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.servers import refused_url, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USER, PASSWORD = "me", "pa55-of-the-proxy"


def find_program(name: str) -> str | None:
    """Find a program, also where Debian keeps servers."""
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy, and what it has written down."""

    port: int
    folder: Path
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def requests(self) -> list[str]:
        """Give a line of its log for each request that has ended."""
        return (self.folder / "access.log").read_text().splitlines()

    def is_listening(self) -> bool:
        """Tell whether it accepts connections."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def run_nginx(
    upstream: str, *settings: str, certificate: Path | None = None
) -> Iterator[RunningProxy]:
    """Run nginx before a server.

    Args:
        upstream: The server's URL.
        settings: Directives of the `server` block.
        certificate: A file with a key and its certificate, for TLS.
    """

    def configure(proxy: RunningProxy) -> str:
        directives = [f"listen 127.0.0.1:{proxy.port}", *settings]
        if certificate is not None:
            pem = shutil.copy(certificate, proxy.folder / "tls.pem")
            directives[0] += " ssl"
            directives += [f"ssl_certificate {pem}", f"ssl_certificate_key {pem}"]
        return _NGINX.format(
            folder=proxy.folder, upstream=upstream, directives=";\n    ".join(directives)
        )

    with _run("nginx", ["-e", "{folder}/errors", "-c", "{folder}/conf"], configure) as proxy:
        yield proxy if certificate is None else replace(proxy, scheme="https")


_NGINX = """\
daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/a;
  proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d;
  scgi_temp_path {folder}/e;
  server {{
    {directives};
    location / {{ proxy_pass {upstream}; }}
  }}
}}
"""


@contextmanager
def run_squid() -> Iterator[RunningProxy]:
    """Run squid, which serves `USER` with `PASSWORD` alone."""

    def configure(proxy: RunningProxy) -> str:
        (proxy.folder / "check").write_text(_CHECK)
        return _SQUID.format(folder=proxy.folder, port=proxy.port)

    with _run("squid", ["-N", "-f", "{folder}/conf"], configure) as proxy:
        yield proxy


_CHECK = f"""\
while read -r given; do
  [ "$given" = "{USER} {PASSWORD}" ] && echo OK || echo ERR
done
"""
_SQUID = """\
http_port 127.0.0.1:{port}
auth_param basic program /bin/sh {folder}/check
auth_param basic children 1 startup=1 idle=1
acl known proxy_auth REQUIRED
http_access allow known
cache deny all
access_log stdio:{folder}/access.log
cache_log {folder}/errors
coredump_dir {folder}
pid_filename none
netdb_filename none
pinger_enable off
visible_hostname localhost
max_filedescriptors 1024
"""


@contextmanager
def _run(
    name: str, arguments: list[str], configure: Callable[[RunningProxy], str]
) -> Iterator[RunningProxy]:
    program = find_program(name)
    if program is None:
        pytest.skip(f"there is no {name} here")
    with tempfile.TemporaryDirectory() as folder:
        proxy = RunningProxy(urlsplit(refused_url()).port or 0, Path(folder))
        (proxy.folder / "conf").write_text(configure(proxy))
        command = [program, *(argument.format(folder=folder) for argument in arguments)]
        process = subprocess.Popen(command, **_become_nobody(proxy.folder))
        try:
            wait_for(lambda: proxy.is_listening() or process.poll() is not None)
            assert process.poll() is None, (proxy.folder / "errors").read_text()
            yield proxy
        finally:
            process.kill()
            process.wait()


def _become_nobody(folder: Path) -> dict[str, Any]:
    """Hand a folder to nobody; give what starts a process as nobody."""
    if os.geteuid() != 0:
        return {}
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "nobody")
    return {"user": "nobody", "extra_groups": []}


def make_authority(folder: Path) -> tuple[Path, Path]:
    """Make an authority of our own; give its certificate, and a server's key with its own."""
    openssl = find_program("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates with")
    (folder / "conf").write_text(_CERTIFICATES)

    def certify(name: str, *signer: str) -> None:
        files = ("-config", "conf", "-keyout", f"{name}.key", "-out", f"{name}.pem")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        about = ("-days", "2", "-subj", f"/CN={name}", "-extensions", name)
        command = [openssl, "req", "-x509", *about, *kind, *files, *signer]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    certify("authority")
    certify("server", "-CA", "authority.pem", "-CAkey", "authority.key")
    server = folder / "server.pem"
    server.write_text((folder / "server.key").read_text() + server.read_text())
    return folder / "authority.pem", server


_CERTIFICATES = dedent(
    """
    [req]
    distinguished_name = name
    [name]
    [authority]
    basicConstraints = critical, CA:TRUE
    keyUsage = critical, keyCertSign
    subjectKeyIdentifier = hash
    [server]
    basicConstraints = critical, CA:FALSE
    subjectAltName = IP:127.0.0.1
    subjectKeyIdentifier = hash
    authorityKeyIdentifier = keyid
    """
)
