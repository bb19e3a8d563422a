"""Shares of the event loop for what computes, so that what waits for an answer gets its turn."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["Turn"]


class Turn:
    """Bounds how long computations take in one pass of the event loop, and says which goes first.

    All that is ready runs in one pass: eight partitions' slices, each short, would keep fetches
    and acknowledgements waiting for their sum. What somebody waits for, a label, goes before what
    can be done a little later, a checkpoint; of a kind, who came first.

    Parameters
    ----------
    budget_s
        Once a pass has lasted so long, whoever comes waits for the next one; `BUDGET_S` if absent.
    """

    BUDGET_S = 0.001
    #: Who can wait does so for no longer than this.
    PATIENCE_S = 0.05

    def __init__(self, budget_s: float | None = None) -> None:
        self._budget_s = self.BUDGET_S if budget_s is None else budget_s
        self._until: float | None = None
        self._urgent: deque[_Place] = deque()
        self._patient: deque[_Place] = deque()

    async def come(self) -> None:
        """Return when there is time for one more computation in this pass."""
        await self._wait(self._urgent)

    async def come_last(self) -> None:
        """Return when there is time, and nobody else waits for it or `PATIENCE_S` are over."""
        await self._wait(self._patient)

    async def _wait(self, queue: deque[_Place]) -> None:
        # Whoever has just computed and comes again goes behind all others of its kind.
        place = _Place(time.perf_counter() + self.PATIENCE_S)
        queue.append(place)
        try:
            while self._next() is not place:
                await asyncio.sleep(0)
        finally:
            queue.remove(place)
        if self._until is None:
            self._until = time.perf_counter() + self._budget_s
            asyncio.get_running_loop().call_soon(self._end)

    def _next(self) -> _Place | None:
        """Return who may compute now; None if this pass has lasted long enough."""
        now = time.perf_counter()
        if self._until is not None and now >= self._until:
            return None
        if self._patient and (not self._urgent or self._patient[0].patient_until <= now):
            return self._patient[0]
        return self._urgent[0] if self._urgent else None

    def _end(self) -> None:
        self._until = None


class _Place:
    """A place in a queue."""

    __slots__ = ("patient_until",)

    def __init__(self, patient_until: float) -> None:
        self.patient_until = patient_until
