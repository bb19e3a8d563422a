"""One partition in this process's hands: its processor, where it stands, what is under way."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from stream.processor import Processor
from stream.records import Outgoing, RecordBatch
from stream.state import Epoch

__all__ = ["OwnedPartition"]

INBOX_BATCHES = 2


@dataclass(eq=False, slots=True)
class OwnedPartition:
    """A partition in this process's hands.

    ``positions`` are the next offsets to read of each topic, ``saved`` those in the store,
    ``committed`` those in Kafka; ``reached`` is the log's time of the last record applied.
    ``lock`` is held while the processor prepares, processes or
    cuts; ``live`` turns False when the partition is given up, and nothing is applied after that;
    ``broken`` turns True when a bug left the state half applied, and nothing is saved after that.
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
    inbox: asyncio.Queue[RecordBatch | None] = field(
        default_factory=lambda: asyncio.Queue(INBOX_BATCHES)
    )
    unsaved_records: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    gap_at: dict[str, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def retire(self) -> None:
        """Apply nothing from here on, and let whoever delivers or waits for a batch go."""
        self.live = False
        while not self.inbox.empty():
            self.inbox.get_nowait()
        self.inbox.put_nowait(None)

    def discard(self) -> None:
        """Forget the partition with all that is not saved."""
        self.retire()
        self.processor.close()
