"""Wake who waits for records of a log that several processes write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["LogNews"]

_POLL_S: Final = 0.02


class LogNews:
    """What was written, here or elsewhere: what is written here wakes at once, else within 20 ms.

    Parameters
    ----------
    version
        Changes whenever another process has written.
    """

    def __init__(self, version: Callable[[], int]) -> None:
        self._version = version
        self._told = threading.Condition()
        self._writes = 0
        self._closed = False
        self._seen = 0, version()

    def tell(self) -> None:
        """Say that this process has written."""
        with self._told:
            self._writes += 1
            self._told.notify_all()

    def wait(self, timeout: float, is_there: Callable[[], bool] | None = None) -> bool:
        """Wait for something new, at most ``timeout`` seconds; tell whether there is.

        ``is_there`` is asked after every write whether this is what is waited for. Without it,
        anything is that was written since the previous call returned: it may be no news to the
        caller, but with one waiting caller none is missed.
        """
        deadline = time.monotonic() + timeout
        looked_at: tuple[int, int] | None = None
        while True:
            with self._told:
                writes = self._writes
            state = writes, self._version()
            if is_there is None:
                if state != self._seen:
                    self._seen = state
                    return True
            elif state != looked_at:
                looked_at = state
                if is_there():
                    return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            with self._told:
                if self._writes == writes and not self._closed:
                    self._told.wait(min(remaining, _POLL_S))

    def close(self) -> None:
        """Wake who waits."""
        with self._told:
            self._closed = True
            self._told.notify_all()
