"""Children that are forked while their parent makes its first calls."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.servers import echo, faults

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")

IN_EACH = """
import asyncio, os, signal, sys, threading
from langchain_segmind import ChatSegmindLlama
"""
"""A clean interpreter, in which nothing has been imported yet."""

FIRST_CALLS = IN_EACH + dedent(
    """
    llm = ChatSegmindLlama(api_key="SG_0123456789abcdef", base_url=sys.argv[1], timeout=20)
    call = {
        "sync": lambda text: llm.invoke(text),
        "async": lambda text: asyncio.run(llm.ainvoke(text)),
    }[sys.argv[2]]
    callers = [threading.Thread(target=call, args=(str(number),)) for number in range(4)]
    for caller in callers:
        caller.start()
    children = []
    for number in range(20):
        if (child := os.fork()) == 0:
            signal.alarm(30)
            os._exit(0 if call(f"child {number}").content == f"child {number}" else 1)
        children.append(child)
        callers[number % 4].join(0.01)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    for caller in callers:
        caller.join()
    sys.exit(f"children ended with {statuses}" if any(statuses) else 0)
    """
)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_no_child_waits_for_what_its_parent_was_importing(colour: str) -> None:
    """Of its threads, a child has one; a lock that another held is never released there."""
    with faults(echo) as server:
        ended = run(FIRST_CALLS, server.url, colour)
    assert (ended.returncode, ended.stderr) == (0, "")


NO_IMPORTS = IN_EACH + dedent(
    """
    llm = ChatSegmindLlama(api_key="SG_0123456789abcdef", base_url=sys.argv[1])
    before = set(sys.modules)
    llm.invoke("hi")
    list(llm.stream("hi"))
    print(sorted(set(sys.modules) - before))
    """
)

FIRST_IMPORTS = IN_EACH + dedent(
    """
    import builtins
    statement, names = builtins.__import__, []

    def note(name, *args, **kwargs):
        caller = sys._getframe(1)
        is_statement = name in caller.f_code.co_names  # Of Python: behind no lock but its own.
        if caller.f_globals["__name__"].startswith("pydantic") and not is_statement:
            names.append(name)
        return statement(name, *args, **kwargs)

    llm = ChatSegmindLlama(api_key="SG_0123456789abcdef", base_url=sys.argv[1])
    builtins.__import__ = note
    llm.invoke("hi")
    first = set(names)
    names.clear()
    llm.invoke("hi")
    print(sorted(first - set(names)))
    """
)


def test_a_blocking_call_imports_nothing() -> None:
    with faults(echo) as server:
        named = server.url.replace("127.0.0.1", "localhost")  # A name needs a codec of Python's.
        ended = run(NO_IMPORTS, named)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_pydantic_imports_nothing_in_a_first_call_that_it_does_not_in_a_second() -> None:
    """It keeps what it once imported, behind a lock that a fork would leave locked."""
    with faults(echo) as server:
        ended = run(FIRST_IMPORTS, server.url)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


HALF_IMPORTED = IN_EACH + dedent(
    """
    from importlib.machinery import PathFinder
    importing, forked = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == "aiohttp":
                spec = PathFinder.find_spec(name, path, target)
                execute = spec.loader.exec_module
                spec.loader.exec_module = lambda module: wait(execute, module)
                return spec

    def wait(execute, module):
        importing.set()
        forked.wait()
        execute(module)

    sys.meta_path.insert(0, Slow())
    llm = ChatSegmindLlama(api_key="SG_0123456789abcdef", base_url=sys.argv[1])
    caller = threading.Thread(target=lambda: asyncio.run(llm.ainvoke("parent")))
    caller.start()
    importing.wait()
    if (child := os.fork()) == 0:
        signal.alarm(20)
        async def both():
            first, second = await asyncio.gather(llm.ainvoke("a"), llm.ainvoke("b"))
            return first.content, second.content
        os._exit(0 if asyncio.run(both()) == ("a", "b") else 1)
    status = os.waitpid(child, 0)[1]
    forked.set()
    caller.join()
    sys.exit(f"the child ended with {status}" if status else 0)
    """
)


def test_a_child_that_cannot_import_aiohttp_awaits_threads() -> None:
    with faults(echo) as server:
        ended = run(HALF_IMPORTED, server.url)
    assert (ended.returncode, ended.stderr) == (0, "")


HELD_LOCKS = IN_EACH + dedent(
    """
    from langchain_segmind import get_credits_callback
    llm = ChatSegmindLlama(api_key="SG_0123456789abcdef", base_url=sys.argv[1])
    llm.invoke("warm")
    clients = llm._connected()
    own = clients._transports.get()
    with get_credits_callback() as spent:
        locks = [own.lock, own.blocking._lock, spent._lock.get()]
        held, done = threading.Event(), threading.Event()
        def hold():
            with locks[0], locks[1], locks[2]:
                held.set()
                done.wait()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        if (child := os.fork()) == 0:
            signal.alarm(20)
            llm.invoke("child")
            llm.close()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        done.set()
        holder.join()
    sys.exit(f"the child ended with {status}" if status else 0)
    """
)


def test_no_child_waits_for_a_lock_of_its_parent() -> None:
    with faults(echo) as server:
        ended = run(HELD_LOCKS, server.url)
    assert (ended.returncode, ended.stderr) == (0, "")


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=env,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
