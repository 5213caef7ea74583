"""A Postgres server of the tests' own, where Postgres is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "secret-of-the-tests"


@dataclass(frozen=True)
class Server:
    """A running server that listens on a socket in its own folder."""

    programs: Path
    folder: Path

    @property
    def conninfo(self) -> str:
        """Give what to connect with."""
        return f"host={self.folder} user=tester password={PASSWORD} dbname=postgres"

    def control(self, *command: str) -> None:
        """Have pg_ctl start, stop or restart the server, and wait for it."""
        data, log = self.folder / "data", self.folder / "log"
        # Names in an abstract place or on a port would be shared with other servers.
        options = f"-c fsync=off -c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        run(self.programs / "pg_ctl", "-D", data, "-l", log, "-w", "-o", options, *command)


def run(*command: object) -> None:
    """Run a program of the server's, which refuses to run as root, as someone else then."""
    user = "nobody" if os.getuid() == 0 else None
    subprocess.run(
        [str(word) for word in command],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        user=user,
        timeout=60,
        cwd="/",
    )


def find_programs() -> Path | None:
    """Find initdb and pg_ctl, which Debian keeps out of the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@contextmanager
def run_server() -> Iterator[Server]:
    """Run a server; skip the test where there is none, unless REQUIRE_POSTGRES is set."""
    programs = find_programs()
    if programs is None:
        tell = pytest.fail if os.environ.get("REQUIRE_POSTGRES") else pytest.skip
        tell("Postgres is not installed: apt install postgresql")
        raise AssertionError  # Both have raised.
    # A socket's path has room for some 100 letters, which a test's own folder may exceed.
    with TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        server = Server(programs, Path(name))
        if os.getuid() == 0:
            os.chown(name, pwd.getpwnam("nobody").pw_uid, -1)
        password = server.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        run(
            *(programs / "initdb", "-D", server.folder / "data", "-U", "tester", "-N"),
            *("-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C"),
        )
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
