"""Where the door puts what it accepted: durable in the events log before it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

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

__all__ = ["AppendFailed", "AppendLog", "EmbeddedSink", "EventSink", "KafkaSink"]


class AppendFailed(Exception):
    """Not every record is known to be durable.

    Parameters
    ----------
    reason
        What failed, for the operator; it names no user.
    stored
        Positions of the records that are durable all the same.
    unknown
        Positions of those that may become so: sent, and not answered for in time.
    """

    def __init__(
        self, reason: str, stored: Collection[int] = (), unknown: Collection[int] = ()
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stored = frozenset(stored)
        self.unknown = frozenset(unknown)


class EventSink(Protocol):
    """Port to an events log, as the API needs it."""

    async def start(self) -> None:
        """Connect; raise `AppendFailed` with the setting at fault if that cannot be done."""
        ...

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has, or raise `AppendFailed`."""
        ...

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Make the records durable before returning, or raise `AppendFailed`."""
        ...

    async def ping(self) -> str:
        """Return a short description of what answers, or raise `AppendFailed` saying why not."""
        ...

    async def close(self) -> None:
        """Finish what was handed over, and disconnect; harmless when repeated."""
        ...


class AppendLog(Protocol):
    """What `EmbeddedSink` asks of a log: synchronous, durable, all records or none."""

    def append(self, records: Sequence[Outgoing]) -> object:
        """Make all records durable in one transaction, or raise and keep none of them."""
        ...

    def partitions_of(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        ...

    def ping(self) -> str:
        """Return a short description of what answers, or raise saying why not."""
        ...


class EmbeddedSink:
    """Append to the embedded log from one thread; who waits meanwhile shares the next commit.

    Parameters
    ----------
    log
        The log; it stays open when the sink closes.
    group_bytes
        How much one commit takes at most, unless a single request has more.

    State
    -----
    Requests that wait for their commit; the API bounds how many there can be.
    """

    def __init__(self, log: AppendLog, *, group_bytes: int = 32 * 1024 * 1024) -> None:
        self._log = log
        self._group_bytes = group_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-sink")
        self._waiting: list[tuple[list[Outgoing], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Do nothing: the log is open already."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        return self._log.partitions_of(topic)

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Wait until the records are committed with whatever else was waiting."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(records), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        # Whoever gives up waiting does not take its records back.
        await asyncio.shield(done)

    async def ping(self) -> str:
        """Ask the log; not in the writer's thread, which may be busy for good reason."""
        try:
            return await asyncio.to_thread(self._log.ping)
        except Exception as error:
            raise AppendFailed(str(error)) from error

    async def close(self) -> None:
        """Commit what waits, then end the thread."""
        while self._writer is not None:
            await asyncio.wait([self._writer])
        self._thread.shutdown(wait=True)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group = self._take()
                records = [record for each, _ in group for record in each]
                try:
                    await loop.run_in_executor(self._thread, self._log.append, records)
                except Exception as error:
                    # Each waiter gets it, as a refusal.
                    for _, done in group:
                        if not done.cancelled():
                            done.set_exception(AppendFailed(str(error)))
                else:
                    for _, done in group:
                        if not done.cancelled():
                            done.set_result(None)
        finally:
            self._writer = None

    def _take(self) -> list[tuple[list[Outgoing], asyncio.Future[None]]]:
        size = taken = 0
        for records, _ in self._waiting:
            size += sum(len(record.value) for record in records)
            if taken and size > self._group_bytes:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group


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
