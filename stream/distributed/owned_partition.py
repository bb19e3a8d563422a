"""One partition in this process's hands: its processor, where it stands, what is under way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from stream.batching import joined
from stream.processor import Processor
from stream.records import Outgoing, RecordBatch
from stream.state import Epoch

__all__ = ["Inbox", "OwnedPartition"]

INBOX_RECORDS = 8_192


class Inbox:
    """Batches that wait for their partition; what has piled up is taken at once.

    A batch costs half a millisecond whatever its size, so a partition that falls behind catches
    up by larger ones.

    Parameters
    ----------
    limit
        Once so many records wait, there is no room.
    """

    def __init__(self, limit: int = INBOX_RECORDS) -> None:
        self._limit = limit
        self._waiting: deque[RecordBatch] = deque()
        self._records = 0
        self._closed = False
        self._asked = True
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits, and what was taken last is done with: more is asked for."""
        return self._asked and not self._waiting

    async def room(self) -> None:
        """Wait until less than the limit waits."""
        await self._room.wait()

    def put(self, batch: RecordBatch) -> None:
        """Append a batch; dropped once the inbox is closed."""
        if self._closed:
            return
        self._waiting.append(batch)
        self._records += len(batch)
        self._filled.set()
        if self._records >= self._limit:
            self._room.clear()

    async def take(self) -> RecordBatch | None:
        """Return what waits of one topic up to the first gap, as one batch; None at the end."""
        self._asked = True
        await self._filled.wait()
        if self._closed:
            return None
        self._asked = False
        waiting = self._waiting
        taken = [waiting.popleft()]
        while (
            waiting
            and waiting[0].topic == taken[0].topic
            and waiting[0].offsets[0] == taken[-1].offsets[-1] + 1
        ):
            taken.append(waiting.popleft())
        self._records -= sum(len(batch) for batch in taken)
        if not waiting:
            self._filled.clear()
        if self._records < self._limit:
            self._room.set()
        return joined(taken)

    def close(self) -> None:
        """Forget everything, and let whoever waits go."""
        self._closed = True
        self._waiting.clear()
        self._filled.set()
        self._room.set()


@dataclass(eq=False, slots=True)
class OwnedPartition:
    """A partition in this process's hands.

    ``positions`` are the next offsets to read of each topic, ``saved`` those in the store,
    ``committed`` those in Kafka; ``reached`` is the log's time of the last record applied.
    ``save_at`` is when it is due to be saved, by the loop's clock, None before its first save here.
    ``moved_at`` is when something was applied last, ``fed_at`` when the metrics were told so.
    ``lock`` is held while the processor prepares, processes or
    cuts; ``live`` turns False when the partition is given up, and nothing is applied after that;
    ``broken`` turns True when a bug left the state half applied, and nothing is saved after that;
    ``closed`` when the processor was let go, and nothing is cut from it after that.
    """

    partition: int
    epoch: Epoch
    processor: Processor[Any]
    positions: dict[str, int]
    saved: dict[str, int]
    committed: dict[str, int | None]
    reached: dict[str, float] = field(default_factory=dict)
    outbox: list[Outgoing] = field(default_factory=list)
    acks: list[asyncio.Future[Any]] = field(default_factory=list)
    saving: bool = False
    live: bool = True
    working: bool = False
    broken: bool = False
    closed: bool = False
    inbox: Inbox = field(default_factory=Inbox)
    save_at: float | None = None
    unsaved_records: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    fed_at: float = field(default_factory=time.monotonic)
    gap_at: dict[str, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def retire(self) -> None:
        """Apply nothing from here on, and let whoever delivers or waits for a batch go."""
        self.live = False
        self.inbox.close()

    def discard(self) -> None:
        """Forget the partition with all that is not saved."""
        self.retire()
        self.close()

    def close(self) -> None:
        """Let the processor go."""
        self.closed = True
        self.processor.close()
