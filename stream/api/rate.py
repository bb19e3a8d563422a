"""How fast events are accepted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["RateLimit"]


class RateLimit:
    """A token bucket that lets whole requests through and makes the next ones wait.

    A request is admitted while the bucket is not in debt, then pays for all its events, so that
    a request of any size passes sooner or later and the mean rate holds.

    Parameters
    ----------
    rate_per_s
        Events a second; None or 0 admits everything.
    burst_s
        For how many seconds' worth of events the bucket fills up while nobody asks.
    clock
        Monotonic clock, seconds.

    Examples
    --------
    >>> now = [0.0]
    >>> rate = RateLimit(100, clock=lambda: now[0])
    >>> rate.retry_after_s(), rate.charge(300), rate.retry_after_s()
    (0, None, 2)
    >>> now[0] = 2.0
    >>> rate.retry_after_s()
    0
    """

    def __init__(
        self,
        rate_per_s: float | None,
        *,
        burst_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate_per_s or 0.0
        self._capacity = self._rate * burst_s
        self._level = self._capacity
        self._clock = clock
        self._at = clock()

    def retry_after_s(self) -> int:
        """Return 0 if a request is admitted now, else whole seconds until one will be."""
        if not self._rate:
            return 0
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return math.ceil(-self._level / self._rate) if self._level < 0 else 0

    def charge(self, events: int) -> None:
        """Pay for an admitted request."""
        if self._rate:
            self._level -= events
