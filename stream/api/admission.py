"""How much all requests together may hold in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stream.api.problems import Problem

__all__ = ["Admission"]


class Admission:
    """Bytes that bodies may take together; who finds no room waits for a while.

    Parameters
    ----------
    capacity_bytes
        What all of them may take; a single one takes no more than that.
    timeout_s
        How long a request waits for room before it is sent away with 503.
    """

    def __init__(self, capacity_bytes: int, timeout_s: float) -> None:
        self._capacity = capacity_bytes
        self._timeout_s = timeout_s
        self._taken = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def room(self, n_bytes: int) -> AsyncIterator[None]:
        """Hold room for a body of ``n_bytes`` within the block."""
        n_bytes = min(n_bytes, self._capacity)
        if self._taken + n_bytes > self._capacity:
            await self._wait(n_bytes)
        self._taken += n_bytes
        try:
            yield
        finally:
            self._taken -= n_bytes
            async with self._freed:
                self._freed.notify_all()

    async def _wait(self, n_bytes: int) -> None:
        try:
            async with asyncio.timeout(self._timeout_s), self._freed:
                await self._freed.wait_for(lambda: self._taken + n_bytes <= self._capacity)
        except TimeoutError:
            raise Problem(
                503,
                f"too many requests are under way ({self._taken} bytes of {self._capacity})",
                headers={"Retry-After": "1"},
            ) from None
