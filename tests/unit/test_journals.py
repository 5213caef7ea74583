"""The parts of a journal that need no store."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from langchain_segmind import journals
from langchain_segmind._journals.holders import PROC
from langchain_segmind.journals import is_dead, this_process

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who has died.")


def changed(position: int, word: str) -> str:
    words = this_process().split(" ")
    words[position] = word
    return " ".join(words)


def test_all_is_sorted_and_true() -> None:
    assert journals.__all__ == sorted(journals.__all__)
    assert all(hasattr(journals, name) for name in journals.__all__)


def test_importing_them_loads_no_store() -> None:
    """Who keeps no journal has nothing to install, nothing to wait for, and no hook into forks."""
    code = (
        "import sys, langchain_segmind.journals as journals; "
        "assert not {'psycopg', 'sqlite3'} & set(sys.modules); "
        "assert 'langchain_segmind._journals.operation_queue' not in sys.modules; "
        "assert journals.PostgresJournal and journals.SqliteJournal"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_that_runs_is_alive() -> None:
    assert not is_dead(this_process())


@linux
def test_a_pid_that_is_another_process_now_is_dead() -> None:
    assert is_dead(changed(4, "1"))


@linux
def test_a_process_that_was_killed_and_not_asked_for_is_dead() -> None:
    """A zombie keeps its pid, and in some containers for ever."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = (PROC / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[19]
    holder = " ".join([*this_process().split(" ")[:3], str(process.pid), start])
    assert not is_dead(holder)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(holder)
    process.communicate()
    assert is_dead(holder)


@pytest.mark.parametrize("position", [1, 2])
def test_a_process_of_another_machine_or_container_is_never_dead(position: int) -> None:
    words = changed(position, "another").split(" ")
    assert not is_dead(" ".join([*words[:4], "1"]))


@pytest.mark.parametrize("holder", ["", "worker-7", "a - - 1 -", "a b"])
def test_a_holder_that_is_not_of_ours_is_never_dead(holder: str) -> None:
    assert not is_dead(holder)
