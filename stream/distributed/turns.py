"""Shares of the event loop for what computes, so that what waits for an answer gets its turn."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["Turn"]


class Turn:
    """Bounds how long computations take at a stretch, and says which goes first.

    All that is ready runs in one pass of the event loop: eight partitions' slices, each short,
    would keep fetches and acknowledgements waiting for their sum. And what waits for an answer
    takes several passes to go on: a socket is read, a future set, a task woken. So after each
    stretch some passes go by in which nothing computes; they cost microseconds. What somebody
    waits for, a label, goes before what can be done a little later, a checkpoint; of a kind, who
    came first.

    Parameters
    ----------
    budget_s
        Once a stretch has lasted so long, whoever comes waits for the next one; `BUDGET_S` if
        absent.
    """

    BUDGET_S = 0.001
    #: So many passes of the loop lie between two stretches: about as many as an answer from a
    #: broker takes to bring about the next request.
    PASSES = 6
    #: Of them, so many fewer for each label that waits: a backlog is made up for first.
    HURRY = 2
    #: Who can wait does so for no longer than this.
    PATIENCE_S = 0.05

    def __init__(self, budget_s: float | None = None) -> None:
        self._budget_s = self.BUDGET_S if budget_s is None else budget_s
        #: When the present stretch is over; None between two of them.
        self._until: float | None = None
        self._passes_left = 0
        self._urgent: deque[_Place] = deque()
        self._patient: deque[_Place] = deque()

    async def come(self) -> None:
        """Return when there is time for one more computation in this stretch."""
        await self._wait(self._urgent)

    async def come_last(self) -> None:
        """Return when there is time, and nobody else waits for it or `PATIENCE_S` are over."""
        await self._wait(self._patient)

    async def _wait(self, queue: deque[_Place]) -> None:
        now = time.perf_counter()
        if not (self._passes_left or self._urgent or self._patient):
            if self._until is None:
                self._begin(now)
                return
            if now < self._until:
                return
        # Whoever has just computed and comes again goes behind all others of its kind.
        place = _Place(asyncio.get_running_loop().create_future(), now + self.PATIENCE_S)
        queue.append(place)
        await place.called

    def _begin(self, now: float) -> None:
        """Begin a stretch; who computes in this pass or is called by now does so before `_look`."""
        self._until = now + self._budget_s
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Let one more compute in this stretch, or end it."""
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        if self._until is not None and now < self._until and self._call(now):
            loop.call_soon(self._look)
            return
        self._until = None
        self._passes_left = max(1, self.PASSES - self.HURRY * len(self._urgent))
        loop.call_soon(self._pass)

    def _pass(self) -> None:
        """Let a pass go by; after the last one whoever waits has their turn."""
        now = time.perf_counter()
        self._passes_left -= 1
        if self._passes_left:
            asyncio.get_running_loop().call_soon(self._pass)
            return
        if self._call(now):
            self._begin(now)

    def _call(self, now: float) -> bool:
        """Wake who computes next; tell whether there is anybody."""
        while self._urgent or self._patient:
            if self._patient and (not self._urgent or self._patient[0].patient_until <= now):
                place = self._patient.popleft()
            else:
                place = self._urgent.popleft()
            if not place.called.done():
                place.called.set_result(None)
                return True
        return False


class _Place:
    """A place in a queue; one whose task was cancelled is passed over."""

    __slots__ = ("called", "patient_until")

    def __init__(self, called: asyncio.Future[None], patient_until: float) -> None:
        self.called = called
        self.patient_until = patient_until
