"""Publish effects in whole batches, one for each partition that they go to.

`send` of aiokafka costs 25 µs a record, `create_batch` with `send_batch` 4 µs.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer

from stream.distributed.clients import RECORD_MAX_BYTES, KafkaConnection
from stream.partitioning import partition_for
from stream.records import Outgoing

__all__ = ["KafkaPublisher", "Publisher"]


class Publisher(Protocol):
    """Where effects go."""

    async def start(self) -> None:
        """Connect."""
        ...

    async def send(self, records: Sequence[Outgoing]) -> list[asyncio.Future[Any]]:
        """Hand the records over in order; each future is done when its part is acknowledged."""
        ...

    async def stop(self) -> None:
        """Send what was handed over, and disconnect."""
        ...


class KafkaPublisher:
    """Publish to Kafka, each record acknowledged by all replicas.

    Parameters
    ----------
    connection
        Where the brokers are.
    compression
        Codec of the batches; None for none.
    timeout_s
        How long a batch may stay unacknowledged before its future fails.

    State: at most one batch in flight for each output partition; `send` waits for its turn.
    """

    BATCH_BYTES = 512 * 1024

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        compression: str | None = None,
        timeout_s: float = 40.0,
    ) -> None:
        self._connection = connection
        self._compression = compression
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}

    async def start(self) -> None:
        """Connect to the brokers."""
        self._producer = AIOKafkaProducer(
            **self._connection.for_aiokafka(),
            acks="all",
            enable_idempotence=True,
            compression_type=self._compression,
            max_batch_size=self.BATCH_BYTES,
            max_request_size=RECORD_MAX_BYTES,
            request_timeout_ms=int(self._timeout_s * 1000),
        )
        await self._producer.start()

    async def send(self, records: Sequence[Outgoing]) -> list[asyncio.Future[Any]]:
        """Hand the records over; order is kept within each output partition."""
        producer = self._started()
        grouped: defaultdict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for record in records:
            partition = record.partition
            if partition is None:
                partition = await self._partition(producer, record)
            grouped[record.topic, partition].append(record)
        futures = []
        for (topic, partition), group in grouped.items():
            builder = producer.create_batch()
            append = builder.append
            for _, key, value, _ in group:
                if append(key=key, value=value, timestamp=None) is None:
                    futures.append(await producer.send_batch(builder, topic, partition=partition))
                    builder = producer.create_batch()
                    append = builder.append
                    append(key=key, value=value, timestamp=None)
            futures.append(await producer.send_batch(builder, topic, partition=partition))
        return futures

    async def stop(self) -> None:
        """Send what was handed over, and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _partition(self, producer: AIOKafkaProducer, record: Outgoing) -> int:
        count = self._partitions.get(record.topic)
        if count is None:
            count = len(await producer.partitions_for(record.topic))
            self._partitions[record.topic] = count
        if record.key is None:
            return zlib.crc32(record.value) % count
        return partition_for(record.key, count)

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("the publisher is not started")
        return self._producer
