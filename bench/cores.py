"""Processes and cores: how much of one each has used, and which it may use (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["cores", "cpu_seconds", "on_its_own_core", "shares_of"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cores() -> set[int]:
    """Return the cores that this process may use."""
    return os.sched_getaffinity(0)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@contextmanager
def shares_of(pids: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Fill in, at the end, what share of a core each process had meanwhile."""
    shares: dict[str, float] = {}
    began = time.monotonic()
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    yield shares
    elapsed_s = time.monotonic() - began
    shares |= {name: (cpu_seconds(pid) - before[name]) / elapsed_s for name, pid in pids.items()}


@contextmanager
def on_its_own_core(name: str, pids: Mapping[str, int]) -> Iterator[None]:
    """Keep one of the processes on one core, and the others off it, for as long as this lasts."""
    all_cores = cores()
    own = {max(all_cores)}
    try:
        for each, pid in pids.items():
            _keep_on(own if each == name else all_cores - own, pid)
        yield
    finally:
        for pid in pids.values():
            _keep_on(all_cores, pid)


def _keep_on(allowed: set[int], pid: int) -> None:
    # Threads come and go, and so may the process; new threads inherit.
    for thread in Path(f"/proc/{pid}").glob("task/*"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), allowed)
