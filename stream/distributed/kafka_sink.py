"""What the door accepts, produced to Kafka: acknowledged before it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)

from stream.config import Settings
from stream.distributed.clients import RECORD_MAX_BYTES, KafkaConnection
from stream.records import Outgoing
from stream.sinks import AppendFailed

__all__ = ["KafkaSink"]


class KafkaSink:
    """Produce to Kafka, acknowledged by all in-sync replicas, each record once.

    Parameters
    ----------
    connection
        Where the brokers are.
    timeout_s
        How long a request waits for its acknowledgements.
    compression
        Codec of the batches; None for none.

    State
    -----
    A batch for each partition that is being filled or is on its way, of at most 1 MiB; a full
    one makes `append` wait.
    """

    BATCH_BYTES = 1024 * 1024

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        timeout_s: float = 10.0,
        compression: str | None = None,
    ) -> None:
        self._connection = connection
        self.timeout_s = timeout_s
        self._compression = compression
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._partitions: dict[str, int] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> KafkaSink:
        """Return a sink for the log that the settings name."""
        codec = settings.kafka.compression
        connection = KafkaConnection.from_settings(settings)
        return cls(connection, compression=None if codec == "none" else codec)

    async def start(self) -> None:
        """Connect to the brokers."""
        await self._started()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has; asked once, since it never changes."""
        if topic not in self._partitions:
            # Not partitions_for(): for a topic that is missing, it waits until the time is over.
            found = (await self._metadata()).partitions_for_topic(topic)
            if not found:
                raise AppendFailed(self._explain(UnknownTopicOrPartitionError(), topic))
            self._partitions[topic] = len(found)
        return self._partitions[topic]

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Send all records and wait until each is acknowledged or the time is over."""
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        producer = await self._started()
        sent: list[asyncio.Future[Any]] = []
        failure: str | None = None
        for record in records:
            try:
                async with asyncio.timeout_at(deadline):
                    future = await producer.send(
                        record.topic, record.value, record.key, record.partition
                    )
            except (KafkaError, TimeoutError) as error:
                failure = self._explain(error, record.topic)
                await self._forget_if_broken(producer, error)
                break
            # A late answer to a request that was given up is nobody's error any more.
            future.add_done_callback(_error)
            sent.append(future)
        # Not wait_for: it would cancel the futures, and whether they are stored stay unknown.
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        if sent:
            await asyncio.wait(sent, timeout=left)
        stored = {i for i, future in enumerate(sent) if future.done() and not _error(future)}
        for future in sent:
            error_of = _error(future)
            if error_of is not None and failure is None:
                failure = self._explain(error_of, records[0].topic)
                await self._forget_if_broken(producer, error_of)
        if len(stored) < len(records):
            pending = {i for i, future in enumerate(sent) if not future.done()}
            timed_out = self._explain(TimeoutError(), records[0].topic)
            raise AppendFailed(failure or timed_out, stored, pending)

    async def ping(self) -> str:
        """Ask a broker for the topics."""
        await self._metadata()
        return f"Kafka at {','.join(self._connection.bootstrap)}"

    async def close(self) -> None:
        """Wait for what is on its way, for a while, and disconnect."""
        async with self._starting:
            producer, self._producer = self._producer, None
        if producer is not None:
            await self._stop(producer)

    async def _metadata(self) -> Any:
        producer = await self._started()
        try:
            async with asyncio.timeout(self.timeout_s):
                return await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError) as error:
            raise AppendFailed(self._explain(error, "")) from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is not None:
                return self._producer
            producer = AIOKafkaProducer(
                **self._connection.for_aiokafka(),
                acks="all",
                enable_idempotence=True,
                compression_type=self._compression,
                max_batch_size=self.BATCH_BYTES,
                # Room for keys and headers beside the largest value.
                max_request_size=RECORD_MAX_BYTES + 64 * 1024,
                request_timeout_ms=int(self.timeout_s * 1000),
            )
            try:
                await producer.start()
            except (KafkaError, TimeoutError) as error:
                await producer.stop()
                raise AppendFailed(self._explain(error, "")) from error
            except BaseException:
                # Whoever waited was told to end.
                await producer.stop()
                raise
            self._producer = producer
            return producer

    async def _forget_if_broken(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        # An idempotent producer that lost its place in the sequence refuses everything from then
        # on; the next request gets a new one.
        harmless = (KafkaTimeoutError, MessageSizeTooLargeError, UnknownTopicOrPartitionError)
        if isinstance(error, (*harmless, TimeoutError)) or getattr(error, "retriable", False):
            return
        async with self._starting:
            if self._producer is producer:
                self._producer = None
        await self._stop(producer)

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        try:
            async with asyncio.timeout(self.timeout_s):
                await producer.stop()
        except TimeoutError:
            await producer.client.close()

    def _explain(self, error: BaseException, topic: str) -> str:
        brokers = ",".join(self._connection.bootstrap)
        if isinstance(error, UnknownTopicOrPartitionError):
            return f"topic {topic} does not exist on {brokers}: run `headrace topics`"
        if isinstance(error, TimeoutError | KafkaTimeoutError):
            return f"log.url: Kafka at {brokers} did not answer within {self.timeout_s:g} s"
        if isinstance(error, KafkaConnectionError):
            return (
                f"log.url: Kafka at {brokers} cannot be reached; check that it runs and that the "
                "address is right"
            )
        return f"log.url: Kafka at {brokers} refused: {str(error) or type(error).__name__}"


def _error(future: asyncio.Future[Any]) -> BaseException | None:
    return future.exception() if future.done() and not future.cancelled() else None
