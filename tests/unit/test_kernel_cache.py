"""Compiled code on disk is told from the code that it was compiled from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

from models.kernel_cache import fingerprint
from models.recommender import counting


class _Compiled:
    """Stands where numba's dispatcher does: a function with the Python function that it was."""

    def __init__(self, source: str) -> None:
        space: dict[str, object] = {}
        exec(source, space)  # noqa: S102 - the point is code that changes
        self.py_func = space["f"]


def module(source: str, **constants: float) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(constants, kernel=_Compiled(source))
    return made


def test_any_change_is_seen() -> None:
    usual = fingerprint(module("def f(x):\n    return x + 1", A=1))
    assert usual == fingerprint(module("# moved\ndef f(x):\n    return x + 1", A=1))
    assert usual != fingerprint(module("def f(x):\n    return x + 2", A=1))
    assert usual != fingerprint(module("def f(x):\n    return x - 1", A=1))
    assert usual != fingerprint(module("def f(x):\n    return x + 1", A=2))


def test_functions_that_write_out_compiled_code_are_seen() -> None:
    def written(addend: int) -> ModuleType:
        made = ModuleType("made")
        source = f"def write():\n    def inner(x):\n        return x + {addend}\n    return inner"
        exec(source, vars(made))  # noqa: S102 - the point is code that changes
        return made

    assert fingerprint(written(1)) == fingerprint(written(1))
    assert fingerprint(written(1)) != fingerprint(written(2))


def test_our_own_modules_are_read() -> None:
    assert fingerprint(counting) != fingerprint(ModuleType("empty"))


SOURCE = """
import numba
import models

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

kinds, turns = sys.argv[1].split(","), sys.argv[2:]
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


def calls(folder: Path, kinds: str, *turns: str) -> subprocess.Popen[str]:
    """Call the kernel in a process whose writes have their turns."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-c", COMPILES, kinds, *turns],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    found, _ = process.communicate(timeout=300)
    return found.strip()


def test_two_processes_that_compile_at_once_leave_no_code_under_the_other_ones_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "kernels.py").write_text(SOURCE.format(addend=2))
    # One writes both its files between those of the other.
    both = calls(tmp_path, "int64", "0", "3"), calls(tmp_path, "float64", "1", "2")
    # Both have looked into the index.
    while not all((tmp_path / name).exists() for name in ("waits0", "waits1")):
        assert [process.poll() for process in both] == [None, None]
        time.sleep(0.01)
    (tmp_path / "turn0").touch()
    assert [said(each) for each in both] == ["42 0 from disk", "42.0 0 from disk"]
    # What the index has lost is compiled once more.
    assert said(calls(tmp_path, "int64,float64")).startswith("42 42.0 ")
    assert said(calls(tmp_path, "int64,float64")) == "42 42.0 2 from disk"


def test_a_process_that_is_killed_while_it_writes_leaves_no_older_code(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    kernels.write_text(SOURCE.format(addend=2))
    assert said(calls(tmp_path, "int64")) == "42 0 from disk"
    kernels.write_text(SOURCE.format(addend=2_000))
    (tmp_path / "turn0").touch()
    process = calls(tmp_path, "int64", "0", "killed")
    assert (said(process), process.returncode) == ("", 9)
    assert said(calls(tmp_path, "int64")) == "2040 0 from disk"
