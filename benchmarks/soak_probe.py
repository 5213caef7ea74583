"""What the soak counts in its own process: all that a client may forget to give back."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import threading
from collections import Counter, deque
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATES = {"01": "established", "06": "time wait", "08": "close wait", "0A": "listening"}
_MOST_TYPES = 60
_MALLINFO = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)
_CONTAINERS = (dict, list, set, deque, WeakSet, WeakKeyDictionary, WeakValueDictionary)
_CACHE = type(lru_cache(abs))


def figures(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Count what the system sees: memory, file descriptors, sockets, threads and tasks.

    Garbage is collected first: how much of it waits is the collector's matter, not ours.
    """
    gc.collect()
    links = _links()
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
        "blocks": sys.getallocatedblocks(),
        "malloc": _malloced(),
        "fds": len(links),
        "sockets": _sockets(links),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "python threads": threading.active_count(),
        "tasks": asyncio.run_coroutine_threadsafe(_tasks(), loop).result() - 1,
    }


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO)


def _malloced() -> int:
    """Give the bytes that are in use (glibc), without the holes that freed blocks leave."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    found: _Mallinfo = mallinfo()
    return int(found.uordblks + found.hblkhd)


async def _tasks() -> int:
    return len(asyncio.all_tasks())


def _links() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # The one that lists the others.
            found.append(str(descriptor.readlink()))
    return found


def _sockets(links: list[str]) -> dict[str, int]:
    own = {link.removeprefix("socket:[").rstrip("]") for link in links if "socket:" in link}
    found: Counter[str] = Counter()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[9] in own:
            found[_STATES.get(parts[3], parts[3])] += 1
    return dict(found)


def tables() -> dict[str, int]:
    """Count what the package itself keeps: each container and cache at the top of its modules."""
    return {name: size for name, size in _tables() if size > 0}


def _tables() -> Iterator[tuple[str, int]]:
    for name, module in list(sys.modules.items()):
        if not name.startswith("langchain_segmind") or ".gateway" in name:
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, _CONTAINERS) and not attribute.startswith("__"):
                yield f"{name}.{attribute}", len(value)
            elif isinstance(value, _CACHE) and value.__module__ == name:
                yield f"{name}.{attribute}", value.cache_info().currsize


def objects() -> dict[str, int]:
    """Count objects by type: all of them, ours, and the most frequent."""
    found: Counter[str] = Counter()
    everything = gc.get_objects()
    for each in everything:
        kind = type(each)
        found[f"{kind.__module__}.{kind.__qualname__}"] += 1
    ours = {name: count for name, count in found.items() if name.startswith("langchain_segmind")}
    return {"all": len(everything), **dict(found.most_common(_MOST_TYPES)), **ours}
