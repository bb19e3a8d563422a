"""When somebody must be looked at again: one timer a person, by event time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Final

__all__ = ["NEVER", "Timers"]

NEVER: Final = float("inf")
_SLACK: Final = 1024


class Timers:
    """The next timer of each known person of a partition, resident or not.

    Setting a timer anew leaves the old entry in the heap, where it is stale: `due` decides.

    *State* — O(people); the heap is compacted when three quarters of it are stale.

    Examples
    --------
    >>> timers = Timers()
    >>> timers.set(b"u", 20.0); timers.set(b"v", 10.0); timers.set(b"u", 5.0)
    >>> timers.due_by(10.0), timers.next_due()
    ([b'u', b'v'], 5.0)
    >>> timers.take(10.0), timers.take(10.0), timers.next_at
    ([b'u', b'v'], [], 20.0)
    """

    __slots__ = ("_heap", "_limit", "due", "next_at")

    def __init__(self) -> None:
        self.due: dict[bytes, float] = {}
        self.next_at = NEVER
        """No timer is due before this; where the first is stale, it may be sooner than the next."""
        self._heap: list[tuple[float, bytes]] = []
        self._limit = _SLACK

    def __len__(self) -> int:
        return len(self.due)

    @property
    def entries(self) -> int:
        """Return how many entries the heap holds, stale ones too."""
        return len(self._heap)

    def load(self, due: Mapping[bytes, float]) -> None:
        """Replace all timers."""
        self.due = dict(due)
        self._heap = [(at, key) for key, at in self.due.items()]
        heapq.heapify(self._heap)
        self._limit = 4 * len(self._heap) + _SLACK
        self._look()

    def set(self, key: bytes, at: float) -> None:
        """Set the one timer of a person."""
        self.due[key] = at
        heap = self._heap
        heapq.heappush(heap, (at, key))
        if at < self.next_at:
            self.next_at = at
        if len(heap) > self._limit:
            self.load(self.due)

    def drop(self, key: bytes) -> None:
        """Forget the timer of a person."""
        self.due.pop(key, None)

    def take(self, limit: float) -> list[bytes]:
        """Remove every timer that is due by ``limit``; return whose, in order, ties by key."""
        heap, due, taken = self._heap, self.due, []
        while heap and heap[0][0] <= limit:
            at, key = heapq.heappop(heap)
            if due.get(key) == at:
                del due[key]
                taken.append(key)
        self._look()
        return taken

    def due_by(self, limit: float) -> list[bytes]:
        """Return the keys of everybody whose timer is due by ``limit``, in no certain order.

        *Complexity* — O(due), plus what is stale.
        """
        heap, due, found = self._heap, self.due, []
        n, stack = len(heap), [0]
        while stack:
            place = stack.pop()
            if place < n:
                at, key = heap[place]
                if at <= limit:
                    if due.get(key) == at:
                        found.append(key)
                    stack += (2 * place + 2, 2 * place + 1)
        return found

    def next_due(self) -> float:
        """Return when the next timer is due, `NEVER` without any."""
        heap, due = self._heap, self.due
        while heap and due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        self._look()
        return self.next_at

    def _look(self) -> None:
        self.next_at = self._heap[0][0] if self._heap else NEVER
