"""Faust's Kafka consumer, with its positions decided by the state store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.distributed.clients import KafkaConnection
from stream.distributed.ownership import Ownership

__all__ = ["CheckpointedConsumer", "CheckpointedTransport"]


class _Unfiltered(dict[TP, int | None]):
    """Faust's note of what it delivered last, by which it drops what comes again: keep none.

    Faust writes the note after a delivery and before a seek, from two threads. A seek back that
    falls into a delivery leaves the higher offset behind, and all that is read again below it is
    dropped without a word: for ever, if nothing beyond it follows.
    What comes twice is skipped by the processor, what comes too early by `Ownership.continues`.
    """

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        pass


class CheckpointedConsumer(driver.Consumer):
    """Read each partition from its checkpoint, and linger between thin fetches."""

    #: A fetch of fewer records than this says that there is no backlog.
    THIN_RECORDS = 256

    connection: KafkaConnection
    ownership: Ownership
    fetch_wait_s: float = 0.01
    linger_s: float = 0.0
    _thin: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Unfiltered()
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

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these offsets; False when the group is rebalancing."""
        return bool(await self._commit(offsets))

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if self._thin and self.linger_s:
            # Little came last time: let some more arrive, or each record costs a fetch.
            await asyncio.sleep(self.linger_s)
        records = await super()._getmany(active_partitions, timeout)
        count = 0
        for tp, batch in records.items():
            count += len(batch)
            if batch:
                self.fetched[tp] = batch[-1].offset + 1
        self._thin = 0 < count < self.THIN_RECORDS
        return records


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
            # alone, the busy ones wait with it.
            fetch_max_wait_ms=int(consumer.fetch_wait_s * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
        )

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
