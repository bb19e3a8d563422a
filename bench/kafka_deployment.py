"""A deployment on real Kafka and Redis for benchmarks: a feed, workers, and a watch on them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition

from stream.distributed.clients import KafkaConnection
from stream.distributed.publishing import KafkaPublisher
from stream.events import EVENTS
from stream.records import Outgoing
from stream.state import StateStore, StoreError
from tests.services.process import OwnedProcess

__all__ = ["PARTITIONS", "Feed", "Fleet", "Watch", "environment", "lag", "records_of", "wait_for"]

PARTITIONS = 8
POLL_S = 0.05

# Every reconnection is told several times a second; what matters is printed by the benchmark.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def environment(bootstrap: str, redis_url: str, **settings: str) -> dict[str, str]:
    """Return the settings of the deployment as variables, and nothing else of Headrace's."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
        "HEADRACE_LOG__URL": f"kafka://{bootstrap}",
        "HEADRACE_LOG__PARTITIONS": str(PARTITIONS),
        "HEADRACE_STORE__URL": redis_url,
        "HEADRACE_CHECKPOINT__INTERVAL_S": "0.25",
        "HEADRACE_KAFKA__SESSION_TIMEOUT_S": "3",
        "HEADRACE_KAFKA__HEARTBEAT_S": "0.5",
        "HEADRACE_WORKER__METRICS_PORT": "0",
        **settings,
    }


@dataclass
class Feed(threading.Thread):
    """Produces lines in order, each to its partition, at a rate, through every fault.

    ``records`` yields (partition, line).
    """

    bootstrap: str
    records: Sequence[tuple[int, bytes]]
    rate: float
    sent: int = 0
    ended_at: float = float("inf")
    error: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:
            self.error = error

    async def _produce(self) -> None:
        publisher = KafkaPublisher(KafkaConnection((self.bootstrap,)), timeout_s=90.0)
        await publisher.start()
        try:
            began = time.monotonic()
            while self.sent < len(self.records):
                due = 1 + int((time.monotonic() - began) * self.rate)
                stop = min(len(self.records), due, self.sent + 2000)
                if stop > self.sent:
                    records = [
                        Outgoing(EVENTS, None, line, partition)
                        for partition, line in self.records[self.sent : stop]
                    ]
                    await asyncio.gather(*await publisher.send(records))
                    self.sent = stop
                else:
                    await asyncio.sleep(0.005)
            self.ended_at = time.monotonic()
        finally:
            await publisher.stop()


@dataclass
class Watch(threading.Thread):
    """Notes when each partition's checkpoint moves, to say for how long one stood still."""

    store: StateStore
    moved: dict[int, list[float]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    running: bool = True

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while self.running:
            try:
                partitions = self.store.partitions()
            except StoreError:
                partitions = {}
            now = time.monotonic()
            for partition, offsets in partitions.items():
                offset = offsets.get(EVENTS, 0)
                if offset != self.offsets.get(partition):
                    self.offsets[partition] = offset
                    self.moved.setdefault(partition, []).append(now)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End; what it noted stays."""
        self.running = False
        self.join()

    def longest_stall(self, since: float, until: float) -> float:
        """Return the longest time between two moves of a partition that overlaps the window."""
        longest = 0.0
        for times in self.moved.values():
            known = [*times, until]
            for before, after in zip(known, known[1:], strict=False):
                if after > since and before < until:
                    longest = max(longest, after - before)
        return longest


def make_topics(variables: dict[str, str], folder: Path) -> None:
    """Create the topics of a deployment by its own command."""
    with OwnedProcess(
        [sys.executable, "-m", "stream.cli", "topics"],
        output=folder / "topics.log",
        env=variables,
    ) as topics:
        if topics.wait(300) != 0:
            raise AssertionError(topics.tail())


@dataclass
class Fleet:
    """The workers; ``command`` is what Python is to run for each."""

    environment: dict[str, str]
    folder: Path
    command: Sequence[str] = ("-m", "stream.cli", "worker")
    workers: list[OwnedProcess] = field(default_factory=list)
    count: int = 0

    def start(self) -> OwnedProcess:
        """Start one more worker."""
        self.count += 1
        worker = OwnedProcess(
            [sys.executable, *self.command],
            output=self.folder / f"worker-{self.count}.log",
            env=self.environment,
        )
        worker.start()
        self.workers.append(worker)
        return worker

    def wait_joined(self) -> None:
        """Wait until everybody has joined the group: from there on they heed signals."""
        wait_for(
            lambda: all(
                "joined group" in worker.output.read_text(encoding="utf-8", errors="replace")
                for worker in self.workers
                if worker.running
            ),
            300,
            "every worker joins",
        )

    def check(self) -> None:
        """Raise, with the last that it wrote, if a worker has ended by itself."""
        for worker in self.workers:
            if not worker.running:
                written = worker.output.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"a worker ended; its last lines:\n{written[-2_000:]}")

    def replace(self, worker: OwnedProcess) -> None:
        """Forget a worker that has ended, and start another."""
        self.workers.remove(worker)
        worker.close()
        self.start()

    def close(self) -> None:
        """End everybody."""
        with ExitStack() as stack:
            for worker in self.workers:
                stack.callback(worker.close)


def records_of(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Yield the value of every record of a topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_bytes=64 << 20
    )
    try:
        parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while any(consumer.position(part) < ends[part] for part in parts):
            for batch in consumer.poll(timeout_ms=1000, max_records=20_000).values():
                for record in batch:
                    yield record.value
    finally:
        consumer.close()


def lag(bootstrap: str, group: str) -> int:
    """Return how many events the group has not committed."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    try:
        parts = [TopicPartition(EVENTS, number) for number in range(PARTITIONS)]
        ends = consumer.end_offsets(parts)
        return sum(ends[part] - (consumer.committed(part) or 0) for part in parts)
    finally:
        consumer.close()


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.2)
