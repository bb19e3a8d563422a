"""Apply batches to partitions in slices, so that heartbeats and acknowledgements get their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from stream.batching import Pacer
from stream.distributed.commit_order import Checkpointer
from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.turns import Turn
from stream.processor import Prepared
from stream.records import RecordBatch

__all__ = ["Applier"]

Found = TypeVar("Found")

OUTBOX_RECORDS = 20_000
"""So many effects may wait for the brokers while processing goes on."""


class Applier:
    """Run processors on what arrives.

    Parameters
    ----------
    checkpointer
        Loads users, and takes effects.
    turn
        Waited for before something is computed: fetches, heartbeats and acknowledgements come in
        between, however many partitions are ready.
    slice_s
        How long a slice may block the loop, by this thread's own clock: neighbours on the
        machine must not shrink slices.
    checkpoint_records, wake_checkpoint
        What is called with a partition that has so many unsaved records, or that nobody has
        saved since it was claimed.
    run
        Runs something beside the application of records; the worker stops if it fails.

    Attributes
    ----------
    records, busy_s, spent_s
        How many records were applied, the thread's seconds that it took, and the clock's: with
        what other threads and the machine's other work took from it.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        turn: Turn,
        *,
        slice_s: float,
        checkpoint_records: int,
        wake_checkpoint: Callable[[OwnedPartition], None],
        run: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._checkpointer = checkpointer
        self._pacer = Pacer(slice_s)
        self._checkpoint_records = checkpoint_records
        self._wake_checkpoint = wake_checkpoint
        self._run = run
        self._turn = turn
        self.records = 0
        self.busy_s = 0.0
        self.spent_s = 0.0

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
            if owned.save_at is None or owned.unsaved_records >= self._checkpoint_records:
                self._wake_checkpoint(owned)
            if len(owned.outbox) > OUTBOX_RECORDS:
                await self._checkpointer.publish(owned)
            elif owned.outbox and not owned.publishing.locked():
                # Whoever publishes at present takes along what is added meanwhile.
                self._run(self._checkpointer.publish(owned))
            await asyncio.sleep(0)

    async def _apply_slice(self, owned: OwnedPartition, part: RecordBatch) -> float:
        await self._turn.come()
        prepared, elapsed_s = self._timed(lambda: owned.processor.prepare(part))
        missing = prepared.missing
        loaded: dict[bytes, bytes] = {}
        if missing:
            loaded = await self._checkpointer.load(owned, missing)
            await self._turn.come()
        if owned.live:
            _, more_s = self._timed(lambda: self._process(owned, part, prepared, loaded))
            elapsed_s += more_s
        return elapsed_s

    def _timed(self, compute: Callable[[], Found]) -> tuple[Found, float]:
        """Return what is computed, and the seconds of this thread that it took."""
        began, at = time.thread_time(), time.perf_counter()
        found = compute()
        self.spent_s += time.perf_counter() - at
        return found, time.thread_time() - began

    def _process(
        self,
        owned: OwnedPartition,
        part: RecordBatch,
        prepared: Prepared,
        loaded: Mapping[bytes, bytes],
    ) -> None:
        effects = owned.processor.process(prepared, loaded)
        owned.outbox += effects.outgoing()
        if part.topic in owned.positions:
            # A part that was delivered twice ends before what was applied already.
            reached = max(owned.positions[part.topic], part.offsets[-1] + 1)
            owned.positions[part.topic] = reached
            owned.reached[part.topic] = part.times[-1]
        owned.unsaved_records += len(part)
        owned.moved_at = time.monotonic()
