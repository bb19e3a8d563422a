"""One durable write for all who ask at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

__all__ = ["GroupCommit"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Ticket(Generic[Item, Result]):
    __slots__ = ("done", "failure", "item", "result", "weight")

    def __init__(self, item: Item, weight: int) -> None:
        self.item = item
        self.weight = weight
        self.result: Result | None = None
        self.failure: BaseException | None = None
        self.done = False


class GroupCommit(Generic[Item, Result]):
    """Let callers of several threads share a write: one writes for all who have queued by then.

    Parameters
    ----------
    write
        Writes items, all or none, and returns one result for each.
    limit
        Weight up to which items share a write; a heavier item is written alone.
    error
        What a failed write is raised as, to each of the callers that shared it; whatever else the
        write raises is a bug, to all of them.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Result]],
        limit: int,
        error: type[Exception],
    ) -> None:
        self._write = write
        self._limit = limit
        self._error = error
        self._queue: list[_Ticket[Item, Result]] = []
        self._queue_lock = threading.Lock()
        self._writing = threading.Lock()

    def __len__(self) -> int:
        """Return how many wait for a write that has not begun."""
        return len(self._queue)

    def submit(self, item: Item, weight: int) -> Result:
        """Return the item's result once it is written."""
        ticket: _Ticket[Item, Result] = _Ticket(item, weight)
        with self._queue_lock:
            self._queue.append(ticket)
        # Whoever gets the lock writes the queue; the others find their ticket done when their
        # turn comes, or write what has queued since.
        with self._writing:
            while not ticket.done:
                self._write_group()
        if ticket.failure is not None:
            # Its own instance for each caller: a shared one would collect all their tracebacks.
            if isinstance(ticket.failure, Exception) and not isinstance(
                ticket.failure, self._error
            ):
                raise RuntimeError("a bug has ended the write that was shared") from ticket.failure
            raise self._error(str(ticket.failure)) from ticket.failure
        return cast(Result, ticket.result)

    def _write_group(self) -> None:
        group = self._next_group()
        try:
            results = self._write([ticket.item for ticket in group])
            for ticket, result in zip(group, results, strict=True):
                ticket.result = result
        except BaseException as failure:
            for ticket in group:
                ticket.failure = failure
            if not isinstance(failure, self._error):
                raise
        finally:
            for ticket in group:
                ticket.done = True

    def _next_group(self) -> list[_Ticket[Item, Result]]:
        with self._queue_lock:
            weight = 0
            for count, ticket in enumerate(self._queue):
                weight += ticket.weight
                if count and weight > self._limit:
                    break
            else:
                count = len(self._queue)
            group = self._queue[:count]
            del self._queue[:count]
            return group
