"""How long a produced event waits for its provisional label, and for a checkpoint that covers it.

One worker on real Kafka and Redis, checkpoints every 0.25 s. Each event is the first of its
user, a click without an exposure: its provisional label is due at once.

    python -m bench.latency --rate 5000 --seconds 15
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer

from stream.config import load_settings
from stream.events import EVENTS, LABELS
from stream.kafka_clients import KafkaConnection
from stream.partitioning import partition_for
from stream.publishing import KafkaPublisher
from stream.records import Outgoing
from stream.state import StateStore
from stream.stores import open_store
from stream.topics import create_topics, topic_plan
from tests.services.kafka import KafkaBroker
from tests.services.process import OwnedProcess
from tests.services.redis import RedisServer

PARTITIONS = 8
WARM_S = 5.0


class Clock:
    """When each event was handed to the producer, labelled and covered by a checkpoint."""

    def __init__(self, total: int) -> None:
        self.produced = np.full(total, np.nan)
        self.labelled = np.full(total, np.nan)
        self.covered = np.full(total, np.nan)
        self.order: list[list[int]] = [[] for _ in range(PARTITIONS)]


def click(number: int) -> Outgoing:
    """Return the first event of user ``number``."""
    user = f"u{number}"
    value = b'{"event_id":"e","type":"click","ts":%f,"user_id":"%s","item_id":"i%d"}' % (
        time.time(),
        user.encode(),
        number % 500,
    )
    return Outgoing(EVENTS, user.encode(), value, partition_for(user.encode(), PARTITIONS))


async def feed(publisher: KafkaPublisher, clock: Clock, rate: float) -> None:
    """Produce at the rate, in steps of some milliseconds as a product would."""
    began, sent, total = time.perf_counter(), 0, len(clock.produced)
    pending: set[asyncio.Future[object]] = set()
    while sent < total:
        due = min(total, int((time.perf_counter() - began) * rate))
        if due > sent:
            records = [click(number) for number in range(sent, due)]
            clock.produced[sent:due] = time.perf_counter()
            for number, record in zip(range(sent, due), records, strict=True):
                clock.order[record.partition or 0].append(number)
            pending.update(await publisher.send(records))
            sent = due
        await asyncio.sleep(0.004)
    await asyncio.gather(*pending)


async def watch_labels(consumer: AIOKafkaConsumer, clock: Clock) -> None:
    """Note when the first label of each event arrives."""
    while np.isnan(clock.labelled).any():
        for records in (await consumer.getmany(timeout_ms=200)).values():
            now = time.perf_counter()
            for record in records:
                number = int(orjson.loads(record.value)["user_id"][1:])
                if np.isnan(clock.labelled[number]):
                    clock.labelled[number] = now


async def watch_checkpoints(store: StateStore, clock: Clock) -> None:
    """Note when a checkpoint covers each event."""
    seen = [0] * PARTITIONS
    while np.isnan(clock.covered).any():
        heads = await asyncio.to_thread(store.partitions)
        now = time.perf_counter()
        for partition, offsets in heads.items():
            reached = offsets.get(EVENTS, 0)
            clock.covered[clock.order[partition][seen[partition] : reached]] = now
            seen[partition] = reached
        await asyncio.sleep(0.005)


async def measure(connection: KafkaConnection, store: StateStore, rate: float, total: int) -> Clock:
    """Feed and watch until everything is labelled and covered."""
    clock = Clock(total)
    publisher = KafkaPublisher(connection)
    await publisher.start()
    consumer = AIOKafkaConsumer(
        LABELS, **connection.for_aiokafka(), group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        await asyncio.gather(
            feed(publisher, clock, rate),
            watch_labels(consumer, clock),
            watch_checkpoints(store, clock),
        )
    finally:
        await consumer.stop()
        await publisher.stop()
    return clock


def show(name: str, seconds: np.ndarray) -> None:
    """Print percentiles in milliseconds."""
    p50, p90, p99, worst = np.percentile(seconds * 1000.0, (50, 90, 99, 100))
    print(f"{name:34s} p50 {p50:6.1f}  p90 {p90:6.1f}  p99 {p99:6.1f}  max {worst:6.1f} ms")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5000.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    total = int(options.rate * (options.seconds + WARM_S))
    with KafkaBroker() as broker, RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        env = {
            "HEADRACE_LOG__URL": f"kafka://{broker.bootstrap}",
            "HEADRACE_STORE__URL": redis.url,
            "HEADRACE_STORE__INSTANCE": f"latency-{uuid.uuid4().hex[:6]}",
            "HEADRACE_CHECKPOINT__INTERVAL_S": "250ms",
            "HEADRACE_WORKER__METRICS_PORT": "0",
            "HEADRACE_TICKS__ENABLED": "false",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        settings = load_settings(env=env)
        connection = KafkaConnection.from_settings(settings)
        create_topics(connection, topic_plan(settings))
        worker = OwnedProcess(
            [sys.executable, "-m", "stream.distributed"],
            output=Path(folder) / "worker.log",
            env=os.environ | env,
            cwd=Path(__file__).resolve().parents[1],
        )
        store = open_store(settings.store.url, instance=settings.store.instance)
        with worker:
            while "joined group" not in worker.tail(200):
                if not worker.running:
                    raise SystemExit(f"the worker ended:\n{worker.tail()}")
                time.sleep(0.1)
            clock = asyncio.run(measure(connection, store, options.rate, total))
            worker.terminate()
        store.close()
    warm = int(options.rate * WARM_S)
    print(
        f"{options.rate:,.0f} events/s for {options.seconds:g} s, after {WARM_S:g} s of warming up"
    )
    show("produced → provisional label read", (clock.labelled - clock.produced)[warm:])
    show("produced → covered by a checkpoint", (clock.covered - clock.produced)[warm:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
