"""Topics of one partition that every worker reads as a whole, without the group.

Some belong to the process (the catalogue: read from its beginning at each start, and to its present
end before a partition is taken up); the others are applied to every partition (control). A
partition's checkpoint keeps its own offset in each.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.batching import part_of, to_batch
from stream.distributed.options import WorkerOptions
from stream.distributed.owned_partition import OwnedPartition
from stream.records import RecordBatch

__all__ = ["BroadcastReader"]

POLL_MS = 30
FETCH_BYTES = 4 << 20


class BroadcastReader:
    """Feed broadcast topics to the process and to every owned partition.

    Parameters
    ----------
    options
        Where the brokers are, and which topics go to every partition.
    whole
        Topics that belong to the process, and what takes their batches.
    apply
        Applies a batch to a partition.
    """

    def __init__(
        self,
        options: WorkerOptions,
        whole: Mapping[str, Callable[[RecordBatch], None]],
        apply: Callable[[OwnedPartition, RecordBatch], Awaitable[None]],
    ) -> None:
        self._options = options
        self._whole = whole
        self._apply = apply
        self._per_partition = [TopicPartition(topic, 0) for topic in options.broadcast_topics]
        self._inputs = list(self._per_partition)
        self._consumer: Any = None
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Connect, and read the topics of the process to their present end."""
        if self._inputs or self._whole:
            self._consumer = AIOKafkaConsumer(
                **self._options.kafka.for_aiokafka(),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=FETCH_BYTES,
                # A claim asks for the topics' ends on the same connection, behind a waiting fetch.
                fetch_max_wait_ms=POLL_MS,
            )
            await self._consumer.start()
            await self._consumer.topics()  # Asks for the metadata that is looked at below.
            for topic in self._whole:
                # Keys may have spread the catalogue: it is read from all of them.
                partitions = self._consumer.partitions_for_topic(topic) or {0}
                self._inputs += [TopicPartition(topic, number) for number in sorted(partitions)]
            self._consumer.assign(self._inputs)
            await self._consumer.seek_to_beginning(*self._inputs)
            await self._read_to_end(self._inputs, ())

    async def catch_up(
        self, claimed: Sequence[OwnedPartition], others: Sequence[OwnedPartition]
    ) -> None:
        """Bring newly claimed partitions to the present end of the topics.

        The topics of the process, too: whoever had the partition before may have been further in
        the catalogue, and what a checkpoint has seen of it is not to be unknown again.
        """
        if not self._inputs or self._consumer is None:
            return
        everyone = [*claimed, *others]
        async with self._reading:
            for tp in self._per_partition:
                start = min(owned.processor.next_offsets.get(tp.topic, 0) for owned in everyone)
                self._consumer.seek(tp, start)
            await self._read_to_end(self._inputs, everyone)

    async def follow(self, live: Callable[[], Sequence[OwnedPartition]]) -> None:
        """Feed what arrives, for ever."""
        while self._consumer is not None:
            async with self._reading:
                await self._read(live())
            # Lets a claim take its turn.
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def _read_to_end(
        self, inputs: Iterable[TopicPartition], partitions: Sequence[OwnedPartition]
    ) -> None:
        behind = set(inputs)
        ends = await self._consumer.end_offsets(list(behind))
        while True:
            for tp in list(behind):
                if await self._consumer.position(tp) >= ends[tp]:
                    behind.discard(tp)
            if not behind:
                return
            await self._read(partitions)

    async def _read(self, partitions: Sequence[OwnedPartition]) -> None:
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS)
        for tp in self._inputs:
            records = fetched.get(tp)
            if not records:
                continue
            batch = to_batch(tp.topic, 0, records)
            if tp.topic in self._whole:
                self._whole[tp.topic](batch)
                continue
            for owned in partitions:
                known = owned.processor.next_offsets.get(tp.topic, 0)
                fresh = bisect_left(batch.offsets, known)
                if owned.live and fresh < len(batch):
                    await self._apply(owned, part_of(batch, fresh, len(batch)))
