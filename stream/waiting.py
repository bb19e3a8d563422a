"""Records that wait for their moment: the first event that happened after them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

__all__ = ["Timed", "Waiting"]

_NEVER: Final = float("inf")


class Timed(Protocol):
    """What may wait: it has a time, a person, and an order by its time and place in the log."""

    @property
    def ts(self) -> float:
        """Event time."""
        ...

    @property
    def key(self) -> bytes:
        """Key of the person that it is about."""
        ...

    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=Timed)


class Waiting(Generic[T]):
    """Records whose time has not come yet, smallest time first.

    Each is applied right before the first event that happened after it, so that it does not
    matter which of two topics was fetched first.

    Parameters
    ----------
    kind
        Type of the records, a `msgspec.Struct`.
    """

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._heap: list[T] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first_ts(self) -> float:
        """Return the time of the next record, infinity without any."""
        return self._heap[0].ts if self._heap else _NEVER

    def push(self, record: T) -> None:
        """Let a record wait."""
        heapq.heappush(self._heap, record)

    def __iter__(self) -> Iterator[T]:
        return iter(self._heap)

    def pop(self) -> T:
        """Remove and return the next record."""
        return heapq.heappop(self._heap)

    def pop_before(self, ts: float) -> list[T]:
        """Remove and return the records of before ``ts``, in order."""
        ready = []
        while self._heap and self._heap[0].ts < ts:
            ready.append(heapq.heappop(self._heap))
        return ready

    def keys_before(self, ts: float) -> list[bytes]:
        """Return the user keys of the records of before ``ts``; looks at no others."""
        heap, found, stack = self._heap, [], [0]
        while stack:
            at = stack.pop()
            if at < len(heap) and heap[at].ts < ts:
                found.append(heap[at].key)
                stack += (2 * at + 1, 2 * at + 2)
        return found

    def to_bytes(self) -> bytes:
        """Return the records that wait."""
        return msgspec.msgpack.encode(sorted(self._heap))

    def load(self, data: bytes) -> None:
        """Replace the records that wait by stored ones."""
        self._heap = msgspec.msgpack.decode(data, type=list[self._kind])  # type: ignore[name-defined] # the type is a value here
        heapq.heapify(self._heap)
