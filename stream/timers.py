"""When somebody must be looked at again: one timer a person, by event time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Final

__all__ = ["NEVER", "Timers"]

NEVER: Final = float("inf")
_SLACK: Final = 1024
_SPAN_S: Final = 900.0

_Entry = tuple[float, bytes]


class Timers:
    """The next timer of each known person of a partition, resident or not.

    Setting a timer anew leaves the old entry where it is, stale: `due` decides. What is due in the
    span of a quarter of an hour that has begun lies in a heap, which is small and stays in the
    processor's cache; what is due later waits unordered, span by span.

    *State* — O(people); entries are made anew when three quarters of them are stale.

    Attributes
    ----------
    due
        When each person's timer is due.
    next_at
        No timer is due before this; it may be sooner than the next.
    entries
        How many entries are kept, stale ones too.

    Examples
    --------
    >>> timers = Timers()
    >>> timers.set(b"u", 20.0); timers.set(b"v", 10.0); timers.set(b"u", 5.0)
    >>> sorted(timers.due_by(10.0)), timers.next_due()
    ([b'u', b'v'], 5.0)
    >>> timers.take(10.0), timers.take(10.0)
    ([b'u', b'v'], [])
    """

    __slots__ = ("_heap", "_heap_end", "_later", "_limit", "_spans", "due", "entries", "next_at")

    def __init__(self) -> None:
        self.due: dict[bytes, float] = {}
        self.load({})

    def __len__(self) -> int:
        return len(self.due)

    def load(self, due: Mapping[bytes, float]) -> None:
        """Replace all timers."""
        self.due = {}
        self.next_at = NEVER
        self.entries = 0
        self._limit = 4 * len(due) + _SLACK
        self._heap: list[_Entry] = []
        self._heap_end = -NEVER
        self._later: dict[float, list[_Entry]] = {}
        self._spans: list[float] = []
        for key, at in due.items():
            self.set(key, at)

    def set(self, key: bytes, at: float) -> None:
        """Set the one timer of a person."""
        self.due[key] = at
        if at < self._heap_end:
            heapq.heappush(self._heap, (at, key))
        else:
            span = at // _SPAN_S
            entries = self._later.get(span)
            if entries is not None:
                entries.append((at, key))
            else:
                self._later[span] = [(at, key)]
                heapq.heappush(self._spans, span)
        if at < self.next_at:
            self.next_at = at
        self.entries += 1
        if self.entries > self._limit:
            self.load(self.due)

    def drop(self, key: bytes) -> None:
        """Forget the timer of a person."""
        self.due.pop(key, None)

    def take(self, limit: float) -> list[bytes]:
        """Return whose timer is due by ``limit``, in order, ties by key: once each.

        It is for the caller to set each anew, or to drop it.
        """
        due, pop = self.due, heapq.heappop
        taken: list[bytes] = []
        last = None
        heap = self._heap
        before = len(heap)
        while True:
            while heap and heap[0][0] <= limit:
                entry = pop(heap)
                at, key = entry
                # Who was set to the same time twice has two entries that are not stale.
                if due.get(key) == at and entry != last:
                    last = entry
                    taken.append(key)
            self.entries -= before - len(heap)
            if heap:
                self.next_at = heap[0][0]
                return taken
            if not self._spans or self._spans[0] * _SPAN_S > limit:
                self.next_at = self._spans[0] * _SPAN_S if self._spans else NEVER
                return taken
            heap = self._begin_span()
            before = len(heap)

    def due_by(self, limit: float) -> list[bytes]:
        """Return whose timer is due by ``limit``, in no certain order, somebody perhaps twice.

        *Complexity* — O(due), plus what is stale, plus the span in which ``limit`` lies.
        """
        if self.next_at > limit:
            return []
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
        n, stack = len(self._spans), [0]
        while stack:
            place = stack.pop()
            if place < n and self._spans[place] * _SPAN_S <= limit:
                entries = self._later[self._spans[place]]
                found += [key for at, key in entries if at <= limit and due.get(key) == at]
                stack += (2 * place + 2, 2 * place + 1)
        return found

    def next_due(self) -> float:
        """Return when the next timer is due, `NEVER` without any."""
        due = self.due
        while self._heap or self._spans:
            heap = self._heap or self._begin_span()
            if due.get(heap[0][1]) == heap[0][0]:
                self.next_at = heap[0][0]
                return self.next_at
            heapq.heappop(heap)
            self.entries -= 1
        self.next_at = NEVER
        return NEVER

    def _begin_span(self) -> list[_Entry]:
        """Make a heap of the next span's entries; the heap is empty, and there is a next span."""
        span = heapq.heappop(self._spans)
        heap = self._heap = self._later.pop(span)
        heapq.heapify(heap)
        self._heap_end = (span + 1.0) * _SPAN_S
        return heap
