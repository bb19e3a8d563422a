"""Two processes that compile, or one that is killed, leave no wrong machine code on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

SOURCE = """
import numba

@numba.njit(cache=True)
def f(x):
    return x[0] + {addend}
"""

COMPILES = """
import os, sys, time
from contextlib import contextmanager
sys.path.insert(0, os.getcwd())
import kernels
import numpy as np
from numba.core.caching import IndexDataCacheFile
from stream.compiled_files import keep_entries_apart

kinds, turns = sys.argv[1].split(","), sys.argv[2:]
if turns == ["numbered"]:
    turns = []
else:
    keep_entries_apart()
writes = IndexDataCacheFile._open_for_write

@contextmanager
def in_turn(*arguments):
    turn = turns.pop(0)
    if turn == "killed":
        os._exit(9)
    open("waits" + turn, "w").close()
    while not os.path.exists("turn" + turn):
        time.sleep(0.01)
    with writes(*arguments) as file:
        yield file
    open("turn" + str(int(turn) + 1), "w").close()

if turns:
    IndexDataCacheFile._open_for_write = in_turn
for kind in kinds:
    print(kernels.f(np.array([40], kind)), end=" ")
print(sum(kernels.f.stats.cache_hits.values()), "from disk")
"""


Calls = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    """Start processes that call the kernel, and whose writes have their turns."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    with ExitStack() as stack:

        def start(kinds: str, *turns: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", COMPILES, kinds, *turns],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def said(process: subprocess.Popen[str]) -> str:
    found, _ = process.communicate(timeout=300)
    return found.strip()


def test_two_processes_that_compile_at_once_leave_no_code_under_the_other_ones_name(
    tmp_path: Path, calls: Calls
) -> None:
    (tmp_path / "kernels.py").write_text(SOURCE.format(addend=2))
    # One writes both its files between those of the other.
    both = calls("int64", "0", "3"), calls("float64", "1", "2")
    # Both have looked into the index.
    while not all((tmp_path / name).exists() for name in ("waits0", "waits1")):
        assert [process.poll() for process in both] == [None, None]
        time.sleep(0.01)
    (tmp_path / "turn0").touch()
    assert [said(each) for each in both] == ["42 0 from disk", "42.0 0 from disk"]
    # What the index has lost is compiled once more.
    assert said(calls("int64,float64")).startswith("42 42.0 ")
    assert said(calls("int64,float64")) == "42 42.0 2 from disk"


def test_a_process_that_is_killed_while_it_writes_leaves_no_older_code(
    tmp_path: Path, calls: Calls
) -> None:
    kernels = tmp_path / "kernels.py"
    kernels.write_text(SOURCE.format(addend=2))
    assert said(calls("int64")) == "42 0 from disk"
    kernels.write_text(SOURCE.format(addend=2_000))
    (tmp_path / "turn0").touch()
    process = calls("int64", "0", "killed")
    assert (said(process), process.returncode) == ("", 9)
    assert said(calls("int64")) == "2040 0 from disk"


def test_what_numba_numbered_is_not_believed_and_goes_once_nobody_names_it(
    tmp_path: Path, calls: Calls
) -> None:
    (tmp_path / "kernels.py").write_text(SOURCE.format(addend=2))
    assert said(calls("int64", "numbered")) == "42 0 from disk"
    assert said(calls("int64", "numbered")) == "42 1 from disk"
    (numbered,) = (tmp_path / "cache").rglob("*.nbc")
    os.utime(numbered, (0, 0))
    assert said(calls("int64")) == "42 0 from disk"
    assert not numbered.exists()
    assert said(calls("int64")) == "42 1 from disk"
    # Who does not know of this finds what it says.
    assert said(calls("int64", "numbered")) == "42 1 from disk"
