"""Which partitions this process owns: claimed, positioned, fenced, given up.

A partition is claimed in the store under (group generation, process uuid) before its first record
is read, and read from where its checkpoint stands, whatever Kafka's committed offset says.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from aiokafka.errors import IllegalStateError
from faust.types import TP

from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.store_calls import StoreCalls, WorkerStop
from stream.processor import ProcessorFactory
from stream.state import ClaimRefused, Epoch, PartitionHead, Unreadable

__all__ = ["LogReader", "Ownership"]

log = logging.getLogger(__name__)

CLAIM_RETRY_S = 0.1


class LogReader(Protocol):
    """What claiming needs of the consumer."""

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the first offset that the log still holds."""
        ...

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the offset that the next record will get."""
        ...

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Read on from these offsets."""
        ...


class Ownership:
    """Claim partitions when the group assigns them, give them up when it takes them back.

    Parameters
    ----------
    store
        Calls of the state store, off the event loop.
    make_processor
        Makes the processor of a partition.
    topics
        Input topics that are read through the group; all have the same partitions.
    patience_s
        How long a refused claim is repeated (the session timeout: by then whoever holds the
        partition has either left or proved to be newer).
    on_claimed
        Awaited with newly claimed partitions before their first record is read.
    """

    def __init__(
        self,
        store: StoreCalls,
        make_processor: ProcessorFactory,
        topics: Sequence[str],
        *,
        patience_s: float,
        on_claimed: Callable[[Sequence[OwnedPartition]], Awaitable[None]],
    ) -> None:
        self.owner = uuid.uuid4().hex
        self.owned: dict[int, OwnedPartition] = {}
        self.forfeited: dict[int, float] = {}
        self._store = store
        self._make_processor = make_processor
        self._topics = tuple(topics)
        self._patience_s = patience_s
        self._on_claimed = on_claimed
        self._claiming = asyncio.Lock()
        self._generation = -1
        self._revoked_generation = -1
        self._closed = False

    def live(self) -> list[OwnedPartition]:
        """Return the partitions that are processed now, in order."""
        found = (self.owned[partition] for partition in sorted(self.owned))
        return [owned for owned in found if owned.live]

    async def assign(
        self, reader: LogReader, generation: int, committed: Mapping[TP, int | None]
    ) -> dict[TP, int]:
        """Claim what the group assigned, and return where to read each partition from.

        Idempotent within a generation: what is owned already is read on from where it is.

        Raises
        ------
        WorkerStop
            State and log do not fit together; the message says what to do.
        """
        async with self._claiming:
            if self._closed or generation <= self._revoked_generation or not committed:
                return {tp: offset for tp, offset in committed.items() if offset is not None}
            self._generation = generation
            partitions = self._co_assigned(committed)
            new = [partition for partition in partitions if partition not in self.owned]
            if new:
                began = time.monotonic()
                claimed = await self._claim_all(reader, new, committed)
                await self._on_claimed(claimed)
                log.info(
                    "generation %d: claimed partitions %s in %.3f s",
                    generation,
                    new,
                    time.monotonic() - began,
                )
                # A rebalance may have begun while the claims were under way.
                if generation > self._revoked_generation and not self._closed:
                    for owned in claimed:
                        self.owned[owned.partition] = owned
                        self.forfeited.pop(owned.partition, None)
                else:
                    for owned in claimed:
                        owned.discard()
            offsets: dict[TP, int] = {}
            for partition in partitions:
                mine = self.owned.get(partition)
                if mine is not None:
                    offsets |= {
                        TP(topic, partition): mine.positions[topic] for topic in self._topics
                    }
            await self._seek(reader, offsets, still=lambda: generation > self._revoked_generation)
            return offsets

    def revoke(self, generation: int = -1) -> list[OwnedPartition]:
        """Stop applying anything, and return what is to be saved and released.

        ``generation`` is the one that ends: its partitions may not have been asked for yet, as the
        group's offsets are fetched first, and must not be claimed any more.
        """
        self._revoked_generation = max(self._generation, generation)
        self.forfeited.clear()
        leaving = self.live()
        for owned in leaving:
            owned.retire()
        self.owned.clear()
        return leaving

    def close(self) -> list[OwnedPartition]:
        """Revoke for good: later assignments are ignored."""
        self._closed = True
        return self.revoke()

    async def reclaim(self, reader: LogReader, fenced: OwnedPartition) -> None:
        """After a refused save: go back to what the store holds, if the partition is still ours.

        A store that came back older than we left it, and an answer that was lost, lead here, as
        does a newer owner; the claim tells them apart.
        """
        async with self._claiming:
            if self.owned.get(fenced.partition) is not fenced:
                return
            # It stays in the books until it is replaced; what is delivered meanwhile is dropped,
            # and read again after the seek.
            fenced.discard()
            committed: dict[TP, int | None] = {
                TP(topic, fenced.partition): fenced.committed.get(topic) for topic in self._topics
            }
            try:
                head = await self._store.call(
                    self._store.port.claim, fenced.partition, fenced.epoch
                )
            except ClaimRefused:
                del self.owned[fenced.partition]
                self.forfeited[fenced.partition] = time.monotonic()
                log.warning(
                    "partition %d has a newer owner; its unsaved work here is dropped",
                    fenced.partition,
                )
                return
            (owned,) = await self._restore(reader, [head], committed)
            await self._on_claimed([owned])
            if not self._closed and fenced.epoch.generation > self._revoked_generation:
                self.owned[fenced.partition] = owned
                log.warning(
                    "partition %d: the store refused a checkpoint and stands at %s; resuming there",
                    fenced.partition,
                    dict(head.next_offsets),
                )
                offsets = {TP(topic, head.partition): at for topic, at in owned.positions.items()}
                await self._seek(reader, offsets, still=lambda: owned.live)
            else:
                owned.discard()

    async def continues(
        self, reader: LogReader, owned: OwnedPartition, topic: str, first: int
    ) -> bool:
        """Tell whether a batch that begins at ``first`` may be applied.

        A batch beyond the expected offset is a stale delivery, unless it comes again after a
        seek: then the log itself has a gap (transactions, compaction).

        Raises
        ------
        WorkerStop
            Retention has dropped the records in between.
        """
        expected = owned.positions[topic]
        if first <= expected:
            owned.gap_at.pop(topic, None)
            return True
        tp = TP(topic, owned.partition)
        suspected = owned.gap_at.get(topic)
        if suspected is None or first > suspected:
            owned.gap_at[topic] = first
            await self._seek(reader, {tp: expected}, still=lambda: owned.live)
            return False
        earliest = (await reader.earliest_offsets(tp))[tp]
        if earliest > expected:
            raise WorkerStop(_retention_message(tp, expected, earliest))
        del owned.gap_at[topic]
        return True

    async def _seek(
        self, reader: LogReader, offsets: Mapping[TP, int], still: Callable[[], bool]
    ) -> None:
        try:
            await reader.seek_wait(offsets)
        except IllegalStateError:
            # Taken away in the meantime: the next assignment seeks again.
            if still():
                raise

    def _co_assigned(self, committed: Mapping[TP, int | None]) -> list[int]:
        partitions = sorted({tp.partition for tp in committed if tp.topic in self._topics})
        for partition in partitions:
            missing = [t for t in self._topics if TP(t, partition) not in committed]
            if missing:
                raise WorkerStop(
                    f"partition {partition} of {', '.join(missing)} is assigned to another worker "
                    f"than that of {self._topics[0]}: give all input topics the same number of "
                    "partitions (`headrace topics` tells which differ)"
                )
        return partitions

    async def _claim_all(
        self, reader: LogReader, partitions: Sequence[int], committed: Mapping[TP, int | None]
    ) -> list[OwnedPartition]:
        heads = [
            await self._claim(partition, self._generation, committed) for partition in partitions
        ]
        return await self._restore(reader, heads, committed)

    async def _restore(
        self, reader: LogReader, heads: Sequence[PartitionHead], committed: Mapping[TP, int | None]
    ) -> list[OwnedPartition]:
        tps = [TP(topic, head.partition) for topic in self._topics for head in heads]
        earliest, latest = await asyncio.gather(
            reader.earliest_offsets(*tps), reader.highwaters(*tps)
        )
        return [self._restored(head, committed, earliest, latest) for head in heads]

    async def _claim(
        self, partition: int, generation: int, committed: Mapping[TP, int | None]
    ) -> PartitionHead:
        epoch = Epoch(generation, self.owner)
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._store.call(self._store.port.claim, partition, epoch)
            except ClaimRefused as error:
                if time.monotonic() < deadline:
                    await asyncio.sleep(CLAIM_RETRY_S)
                    continue
                if all(committed.get(TP(topic, partition)) is None for topic in self._topics):
                    # Generations begin anew only when the broker has forgotten the group, and
                    # with it everything that it had committed.
                    log.warning(
                        "partition %d: the consumer group that owned it is gone; taking it over",
                        partition,
                    )
                    return await self._store.call(
                        lambda: self._store.port.claim(partition, epoch, force=True)
                    )
                raise WorkerStop(
                    f"partition {partition} was refused for {self._patience_s:g} s: {error}. "
                    "Another deployment with the same store and instance is at work, or the group "
                    "was deleted while it ran; stop that one, or choose another log.group with "
                    "another store.instance"
                ) from error

    def _restored(
        self,
        head: PartitionHead,
        committed: Mapping[TP, int | None],
        earliest: Mapping[TP, int],
        latest: Mapping[TP, int],
    ) -> OwnedPartition:
        positions = {}
        for topic in self._topics:
            tp = TP(topic, head.partition)
            positions[topic] = _start(
                tp, head.next_offsets.get(topic), committed.get(tp), earliest[tp], latest[tp]
            )
        processor = self._make_processor(head.partition)
        try:
            processor.restore(head)
        except Unreadable as error:
            raise WorkerStop(str(error)) from error
        return OwnedPartition(
            partition=head.partition,
            epoch=Epoch(self._generation, self.owner),
            processor=processor,
            positions=positions,
            saved=dict(head.next_offsets),
            committed={topic: committed.get(TP(topic, head.partition)) for topic in self._topics},
        )


def _start(tp: TP, saved: int | None, committed: int | None, earliest: int, latest: int) -> int:
    """Return where to read a partition from, or say why it cannot be read on."""
    where = f"{tp.topic}[{tp.partition}]"
    if saved is None:
        if committed:
            raise WorkerStop(
                f"{where}: the group has committed offset {committed}, but the store holds no "
                "state for it: the store was emptied, or store.url or store.instance point "
                "elsewhere. Restore the store from a backup; or, to learn everything anew from "
                "what the log still holds, delete the group's offsets "
                "(kafka-consumer-groups --delete) after `headrace state reset`"
            )
        return earliest
    if saved > latest:
        raise WorkerStop(
            f"{where}: the checkpoint stands at offset {saved}, but the log ends at {latest}: the "
            "topic was created anew. `headrace state reset` begins anew with it"
        )
    if saved < earliest:
        raise WorkerStop(_retention_message(tp, saved, earliest))
    if committed is not None and committed > saved:
        log.warning(
            "%s: the group has committed offset %d, the checkpoint stands at %d (a store restored "
            "from an older backup does that); going back, so some effects are published again",
            where,
            committed,
            saved,
        )
    return saved


def _retention_message(tp: TP, wanted: int, earliest: int) -> str:
    return (
        f"{tp.topic}[{tp.partition}]: the checkpoint needs offset {wanted}, but retention has "
        f"dropped everything before {earliest}: {earliest - wanted} records can no longer be "
        "learned. Restore a store whose checkpoint is newer, or accept the loss with "
        f"`headrace state reset --partition {tp.partition}`, and lengthen the topic's retention.ms"
    )
