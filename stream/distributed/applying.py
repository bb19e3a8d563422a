"""Apply batches to partitions in slices, so that heartbeats and acknowledgements get their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from stream.batching import Pacer
from stream.distributed.commit_order import Checkpointer
from stream.distributed.owned_partition import OwnedPartition
from stream.records import RecordBatch

__all__ = ["Applier"]


class Applier:
    """Run processors on what arrives.

    Parameters
    ----------
    checkpointer
        Loads users, and takes effects.
    slice_s
        How long a slice may block the loop, by this thread's own clock: neighbours on the
        machine must not shrink slices.
    checkpoint_records, wake_checkpoint
        What is called when a partition has so many unsaved records.

    Attributes
    ----------
    records, busy_s
        How many records were applied, and the thread's seconds that it took.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        *,
        slice_s: float,
        checkpoint_records: int,
        wake_checkpoint: Callable[[], None],
    ) -> None:
        self._checkpointer = checkpointer
        self._pacer = Pacer(slice_s)
        self._checkpoint_records = checkpoint_records
        self._wake_checkpoint = wake_checkpoint
        self.records = 0
        self.busy_s = 0.0

    async def apply(self, owned: OwnedPartition, batch: RecordBatch) -> None:
        """Apply a batch and hand over its effects; what is left is dropped with the partition."""
        for part, size_bytes in self._pacer.slices(batch):
            async with owned.lock:
                if not owned.live:
                    return
                try:
                    elapsed_s = await self._apply_slice(owned, part)
                except BaseException:
                    # Half applied: this state must never be saved.
                    owned.broken = True
                    raise
            self._pacer.observe(size_bytes, elapsed_s)
            self.busy_s += elapsed_s
            self.records += len(part)
            if owned.unsaved_records >= self._checkpoint_records:
                self._wake_checkpoint()
            await self._checkpointer.publish(owned)
            await asyncio.sleep(0)

    async def _apply_slice(self, owned: OwnedPartition, part: RecordBatch) -> float:
        clock = time.thread_time
        began = clock()
        prepared = owned.processor.prepare(part)
        elapsed_s = clock() - began
        missing = prepared.missing
        loaded = await self._checkpointer.load(owned, missing) if missing else {}
        if not owned.live:
            return elapsed_s
        began = clock()
        effects = owned.processor.process(prepared, loaded)
        owned.outbox += effects.outgoing()
        if part.topic in owned.positions:
            # A part that was delivered twice ends before what was applied already.
            reached = max(owned.positions[part.topic], part.offsets[-1] + 1)
            owned.positions[part.topic] = reached
            owned.reached[part.topic] = part.times[-1]
        owned.unsaved_records += len(part)
        owned.moved_at = time.monotonic()
        return elapsed_s + clock() - began
