"""The event loop that long-running processes run in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

if sys.platform != "win32":
    import uvloop

__all__ = ["run"]

T = TypeVar("T")


def run(main: Coroutine[object, object, T]) -> T:
    """Run like `asyncio.run`, on uvloop where there is one.

    It needs less of the interpreter between an answer of a socket and whoever waits for it. So do
    the loops that a library makes meanwhile for threads of its own: Faust's consumer has one.
    """
    with _uvloop():
        return asyncio.run(main)


@contextmanager
def _uvloop() -> Iterator[None]:
    """Let new event loops be uvloop's; Windows has none."""
    if sys.platform == "win32":
        yield
        return
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(before)
