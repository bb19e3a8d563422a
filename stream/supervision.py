"""A thread that ends by a bug ends its process: what it did would go undone, and nobody notice."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Supervision", "report_bug", "supervised"]

_log = logging.getLogger(__name__)

_NO_BUG: Final = (SystemExit, asyncio.CancelledError)


class Supervision:
    """Whether a thread of this process has ended by a bug.

    Attributes
    ----------
    failure
        What the first one ended by.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        self._told: list[Callable[[], object]] = []

    async def wait(self) -> None:
        """Wait until a thread has ended by a bug."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set)

        with self._lock:
            self._told.append(tell)
        try:
            if self.failure is None:
                await ended.wait()
        finally:
            with self._lock:
                self._told.remove(tell)

    def ended(self, thread: threading.ExceptHookArgs) -> None:
        """Take note of what a thread ended by, and tell whoever waits."""
        error = thread.exc_value
        if error is None or isinstance(error, _NO_BUG):
            return
        name = "unknown" if thread.thread is None else thread.thread.name
        _log.critical("a bug has ended the thread %r", name, exc_info=error)
        with self._lock:
            if self.failure is None:
                self.failure = error
            for tell in self._told:
                tell()


def report_bug(error: BaseException) -> None:
    """End the process as if a bug had ended this thread: for one that hands it to somebody else.

    A thread of a pool lives on after a bug, and who waits for it may take it for their own affair.
    """
    threading.excepthook(
        threading.ExceptHookArgs(
            (type(error), error, error.__traceback__, threading.current_thread())
        )
    )


@contextmanager
def supervised() -> Iterator[Supervision]:
    """Look after every thread of the process; whoever asks ends it when one has failed.

    Threads do not have to know: nobody's is forgotten. What may fail for now they handle
    themselves.
    """
    found = Supervision()
    before = threading.excepthook
    threading.excepthook = found.ended
    try:
        yield found
    finally:
        threading.excepthook = before
