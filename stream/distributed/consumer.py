"""Faust's Kafka consumer, with its positions decided by the state store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from math import ceil
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

from stream.batching import Linger, to_batches
from stream.distributed.clients import KafkaConnection
from stream.distributed.ownership import Ownership
from stream.records import RecordBatch

__all__ = ["CheckpointedConsumer", "CheckpointedTransport"]


class CheckpointedConsumer(driver.Consumer):
    """Read each partition from its checkpoint, and let thin traffic gather at the brokers."""

    #: A fetch of fewer records than this says that there is no backlog.
    THIN_RECORDS = 256
    #: So many thin fetches may wait to be handed over, or for room where they were.
    UNDER_WAY = 4
    #: A broker that has so much for us answers at once: there is a backlog.
    GATHERED_BYTES = 64 * 1024

    connection: KafkaConnection
    ownership: Ownership
    #: Takes a batch at once, whether there is room or not.
    deliver: Callable[[RecordBatch], None]
    #: Waits until there is room for more of a partition.
    room: Callable[[int], Awaitable[None]]
    fetch_wait_s: float = 0.05
    linger: Linger = Linger(0.0)
    #: Seconds that batches took so far.
    spent_s: Callable[[], float] = staticmethod(float)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: How many thin fetches the thread has handed over that were not delivered yet.
        self.under_way = 0
        #: Offset behind the last record that was fetched, by partition.
        self.fetched: dict[TP, int] = {}

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim the assigned partitions and seek to their checkpoints.

        Faust calls this after every assignment, while nothing flows, and overwrites positions
        set anywhere else.
        """
        generation = int(self.app.consumer_generation_id)
        committed = await cast(_Thread, self._thread).committed_offsets()
        return await self.ownership.assign(self, generation, committed)

    def end(self, tp: TP) -> int | None:
        """Return the offset that the next record will get.

        None before a broker told, and while the client has lost the partition to a rebalance (the
        group's coordinator was away) of which we have not heard yet.
        """
        try:
            # Faust's annotation forgets that nothing is known before the first fetch.
            found: int | None = self.highwater(tp)
        except AssertionError:
            return None
        return found

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these offsets; False when the group is rebalancing."""
        return bool(await self._commit(offsets))

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Fetch, and deliver everything at once; Faust is left with nothing to deliver.

        Its own delivery takes each record through several turns of the event loop, and notes the
        highest offset to drop what comes again below it: a seek back that falls into a delivery
        would leave the partition standing. What comes twice is skipped by the processor, what
        comes too early by `Ownership.continues`.
        """
        records, active = await self._wait_next_records(timeout)
        if records is not None and not self.should_stop:
            if not self.flow_active:
                # What was fetched after the flow was stopped is read again.
                await self.perform_seek()
                return
            for batch in self.batches(records, active):
                await self.room(batch.partition)
                self.deliver(batch)
        nothing: tuple[tuple[TP, Message], ...] = ()
        for item in nothing:
            yield item

    def hand_over(self, records: Mapping[TP, Sequence[Any]], active: set[TP] | None) -> None:
        """Deliver a thin fetch; asked for by the consumer's thread.

        It does not wait for room, and counts as under way until there is some: who falls behind
        is sent no more. What comes after the flow was stopped belongs to partitions that are
        given up, or comes too early once they are read on.
        """
        delivered = set()
        for batch in self.batches(records, active):
            self.deliver(batch)
            delivered.add(batch.partition)
        self.add_future(self._arrive(sorted(delivered)))

    async def _arrive(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            await self.room(partition)
        self.under_way -= 1

    def batches(
        self, records: Mapping[TP, Sequence[Any]], active: set[TP] | None
    ) -> list[RecordBatch]:
        """Return what is to be delivered of a fetch."""
        batches = []
        for batch in to_batches(records):
            tp = TP(batch.topic, batch.partition)
            if active is None or tp in active:
                self.fetched[tp] = batch.offsets[-1] + 1
                batches.append(batch)
        return batches


class _Thread(driver.AIOKafkaConsumerThread):
    """The thread that talks to the brokers and keeps the heartbeat."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        conf = self.app.conf
        consumer = cast(CheckpointedConsumer, self.consumer)
        # Faust's own assignor keeps partitions of one number together, whatever the topic.
        self._assignor = self.app.assignor
        return AIOKafkaConsumer(
            **consumer.connection.for_aiokafka(),
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            # Faust would wait 1.5 s. A fetch leaves out partitions whose records are still being
            # handed over, and there is one fetch at a time: while one waits for a quiet topic
            # alone, the busy ones wait with it. Each fetch costs us half a millisecond, so short
            # waits are no better: 10 ms took 5 % of a core from what there is to do.
            fetch_max_wait_ms=int(consumer.fetch_wait_s * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # Faust leaves out what the client has lost; the client takes nothing at all for a bug.
        return not offsets.keys().isdisjoint(self.assignment()) and await super()._commit(offsets)

    #: So many pauses after the last record, the next one is not held back any more.
    IDLE_PAUSES = 2
    #: For how long a broker lets records gather before it answers a fetch.
    pause_s = 0.0

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        """Hand thin fetches over from here, again and again; return the first that is not thin.

        A fetch that the event loop asks for takes several of its turns, and what arrives
        meanwhile waits for the next.
        """
        mine = cast(CheckpointedConsumer, self.consumer)
        fetch = super()._fetch_records
        clock = self.thread_loop.time
        ends = clock() + (timeout or 0.0)
        while True:
            wait_s = max(0.0, ends - clock())
            paused_s = self.pause_s
            if paused_s:
                wait_s = min(wait_s, self.IDLE_PAUSES * paused_s)
            records = await fetch(consumer, active_partitions, wait_s, max_records)
            count = sum(map(len, records.values()))
            if not count and paused_s:
                self._gather(consumer, 0.0)
                continue
            if (
                not 0 < count < mine.THIN_RECORDS
                or not mine.flow_active
                or mine.under_way >= mine.UNDER_WAY
                or clock() > ends
            ):
                return records
            # Before the next fetch is sent, which is once this thread waits for something.
            self._gather(consumer, mine.linger.pause_s(mine.spent_s()))
            mine.under_way += 1
            self.parent_loop.call_soon_threadsafe(mine.hand_over, records, active_partitions)

    def _gather(self, consumer: AIOKafkaConsumer, pause_s: float) -> None:
        """Have brokers let records gather for so long; 0: have them answer at the first one.

        A pause on this side would hold what was fetched when it began, and take one fetch more
        for what came meanwhile. aiokafka reads both figures for each fetch, but lets nobody
        change them.
        """
        mine = cast(CheckpointedConsumer, self.consumer)
        self.pause_s = pause_s
        figures = vars(vars(consumer)["_fetcher"])
        for name, value in (
            ("_fetch_min_bytes", mine.GATHERED_BYTES if pause_s else 1),
            ("_fetch_max_wait_ms", ceil((pause_s or mine.fetch_wait_s) * 1000)),
        ):
            if name not in figures:
                raise RuntimeError(f"aiokafka's fetcher has no {name}: not the version pinned")
            figures[name] = value

    async def committed_offsets(self) -> dict[TP, int | None]:
        """Return what the group has committed of each assigned partition."""
        offsets: dict[TP, int | None] = await self.call_thread(self._committed)
        return offsets

    async def _committed(self) -> dict[TP, int | None]:
        # At once: one after another they would take longer than the rest of a rebalance.
        consumer, tps = self._ensure_consumer(), sorted(self.assignment())
        found = await asyncio.gather(*[consumer.committed(TopicPartition(*tp)) for tp in tps])
        return dict(zip(tps, found, strict=True))


class CheckpointedTransport(driver.Transport):
    """The transport that makes such consumers."""

    Consumer = CheckpointedConsumer

    def create_consumer(self, callback: Any, **kwargs: Any) -> CheckpointedConsumer:
        """Make the app's consumer."""
        return cast(CheckpointedConsumer, super().create_consumer(callback, **kwargs))
