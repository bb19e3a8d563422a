"""Shares of the event loop for what computes, so that what waits for an answer gets its turn."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Turn"]


class Turn:
    """Bounds how long computations take in one pass of the event loop.

    All that is ready runs in one pass: eight partitions' slices, each short, would keep fetches
    and acknowledgements waiting for their sum.

    Parameters
    ----------
    budget_s
        Once a pass has lasted so long, whoever comes waits for the next one; `BUDGET_S` if absent.
    """

    BUDGET_S = 0.001

    def __init__(self, budget_s: float | None = None) -> None:
        self._budget_s = self.BUDGET_S if budget_s is None else budget_s
        self._until: float | None = None

    async def come(self) -> None:
        """Return when there is time for one more computation in this pass."""
        while self._until is not None and time.perf_counter() >= self._until:
            await asyncio.sleep(0)
        if self._until is None:
            self._until = time.perf_counter() + self._budget_s
            asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._until = None
