"""Who holds a claim, and whether that process is still there."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path

PROC = Path("/proc")
WORDS = 5
"""What `this_process` is of."""


def this_process() -> str:
    """Name this process so that another one on the same machine can see whether it is alive.

    The name is of five words: host name (for people), the kernel's boot id, pid namespace, pid,
    and when the process started. A host name alone would not do: two machines that are both called
    `localhost` would take each other's processes for dead. Where there is no boot id (it is
    Linux's), no process is ever taken for dead, and the lease decides.
    """
    return _name_of(os.getpid())


@lru_cache(maxsize=1)
def _name_of(pid: int) -> str:
    name = socket.gethostname().replace(" ", "_") or "-"
    return " ".join((name, *_machine(), str(pid), _start_of(pid) or "-"))


def is_dead(holder: str) -> bool:
    """Tell whether a process is known to have ended; one of another machine never is."""
    words = holder.split(" ")
    if len(words) != WORDS:
        return False
    _, *machine, pid, start = words
    if "-" in machine or machine != this_process().split(" ")[1:3]:
        return False
    # Pids are used again, and in a container nearly every process has the first one.
    return _start_of(int(pid)) != start


def _machine() -> tuple[str, str]:
    """Give what no two machines, and no two containers, have in common."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = str((PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return "-", "-"
    return boot, namespace


def _start_of(pid: int) -> str | None:
    """Give when a process started, in ticks since the boot: proc(5), `stat`, field 22."""
    try:
        # The command's name, in brackets, may itself have spaces and brackets.
        fields = (PROC / str(pid) / "stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return None
    is_ended = fields[0] in "ZX"  # Killed, and its parent has not asked yet.
    return None if is_ended else fields[19]
