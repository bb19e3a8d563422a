"""From produced to labelled, and to covered by a checkpoint: one worker on real Kafka and Redis.

    python -m bench.latency [--rate 5000] [--seconds 30]

Each event is a view by one of many people, so each opens an example and gets a provisional label
at once. Its event time is the moment at which it is handed to the producer; a consumer of the
labels topic notes when the label arrives. Prints percentiles in milliseconds beside the targets:
p99 of 50 ms to the label, 300 ms to the checkpoint (checkpoints every 0.25 s).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import orjson
from kafka import KafkaConsumer, TopicPartition

from bench.kafka_deployment import PARTITIONS, Fleet, environment, wait_for
from stream.assembly import open_state
from stream.config import load_settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.publishing import KafkaPublisher
from stream.events import EVENTS, LABELS
from stream.partitioning import partition_for
from stream.records import Outgoing
from stream.state import StateStore
from tests.services.kafka import KafkaBroker
from tests.services.process import OwnedProcess
from tests.services.redis import RedisServer

USERS = 50_000
ITEMS = 5_000
STEP_S = 0.005
WARM_UP_S = 5.0
LABEL_TARGET_MS = 50.0
CHECKPOINT_TARGET_MS = 300.0


def watch_arrivals(bootstrap: str, ready: Event, stop: Event, target: str) -> None:
    """Note when each label arrives; the label's time is when its event was produced.

    Runs in a process of its own, so that it does not wait for whoever produces.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=5
    )
    parts = [TopicPartition(LABELS, number) for number in range(PARTITIONS)]
    consumer.assign(parts)
    consumer.seek_to_end(*parts)
    for part in parts:
        consumer.position(part)
    ready.set()
    arrived: list[tuple[float, float]] = []
    while not stop.is_set():
        for batch in consumer.poll(timeout_ms=5, max_records=5_000).values():
            now = time.time()
            for record in batch:
                ts = orjson.loads(record.value)["ts"]
                arrived.append((ts, now - ts))
    consumer.close()
    np.save(target, np.array(arrived))


class Coverage(threading.Thread):
    """Notes when checkpoints cover which offsets."""

    def __init__(self, store: StateStore) -> None:
        super().__init__(daemon=True)
        self._store = store
        self.seen: dict[int, list[tuple[int, float]]] = {n: [] for n in range(PARTITIONS)}
        self.running = True

    def run(self) -> None:
        while self.running:
            partitions = self._store.partitions()
            now = time.time()
            for number, offsets in partitions.items():
                offset = offsets.get(EVENTS, 0)
                if not self.seen[number] or self.seen[number][-1][0] != offset:
                    self.seen[number].append((offset, now))
            time.sleep(0.01)

    def covered_at(self, partition: int, offsets: list[int]) -> list[float]:
        """Return when each offset lay below a checkpoint's next offset; NaN if never."""
        bounds = [offset for offset, _ in self.seen[partition]]
        times = [*(when for _, when in self.seen[partition]), float("nan")]
        return [times[int(i)] for i in np.searchsorted(bounds, offsets, side="right")]


async def produce(
    bootstrap: str, rate: float, seconds: float, prefix: str
) -> tuple[dict[int, list[float]], int]:
    """Produce views at a rate; return when each record of each partition was produced."""
    homes = [partition_for(f"u{n}".encode(), PARTITIONS) for n in range(USERS)]
    produced: dict[int, list[float]] = {n: [] for n in range(PARTITIONS)}
    name = prefix.encode()
    publisher = KafkaPublisher(KafkaConnection((bootstrap,)))
    await publisher.start()
    began, sent, waiting = time.monotonic(), 0, []
    # Nobody views an item twice: a second view would join the first one's example.
    n = int(rate * seconds)
    rng = np.random.default_rng(1)
    users = np.concatenate([rng.permutation(USERS) for _ in range(n // USERS + 1)])[:n]
    items = (users * 7 + np.arange(n) // USERS * 13) % ITEMS
    while sent < len(users):
        due = min(len(users), int((time.monotonic() - began) * rate))
        if due > sent:
            records = []
            now = time.time()
            for number in range(sent, due):
                user = int(users[number])
                line = (
                    b'{"event_id":"%s%d","type":"view","ts":%.6f,"user_id":"u%d","item_id":"%s%d"}'
                )
                value = line % (name, number, now, user, name, items[number])
                records.append(Outgoing(EVENTS, None, value, homes[user]))
                produced[homes[user]].append(now)
            waiting += await publisher.send(records)
            waiting = [future for future in waiting if not future.done()]
            sent = due
        await asyncio.sleep(STEP_S)
    await asyncio.gather(*waiting)
    await publisher.stop()
    return produced, sent


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        broker = stack.enter_context(KafkaBroker())
        redis = stack.enter_context(RedisServer())
        variables = environment(broker.bootstrap, redis.url)
        with OwnedProcess(
            [sys.executable, "-m", "stream.cli", "topics"],
            output=folder / "topics.log",
            env=variables,
        ) as topics:
            if topics.wait(60) != 0:
                raise AssertionError(topics.tail())
        store = open_state(load_settings(env=variables))
        stack.callback(store.close)
        fleet = Fleet(variables, folder)
        stack.callback(fleet.close)
        fleet.start()
        first, n_first = asyncio.run(produce(broker.bootstrap, 500.0, 1.0, "first"))
        wait_for(lambda: covered(store) >= n_first, 120, "the worker works")
        spawn = multiprocessing.get_context("spawn")
        ready, stop = spawn.Event(), spawn.Event()
        target = str(folder / "arrived.npy")
        arrivals = spawn.Process(
            target=watch_arrivals, args=(broker.bootstrap, ready, stop, target), daemon=True
        )
        arrivals.start()
        ready.wait(60)
        coverage = Coverage(store)
        coverage.start()
        produced, sent = asyncio.run(produce(broker.bootstrap, args.rate, args.seconds, "e"))
        wait_for(lambda: covered(store) >= n_first + sent, 60, "every event is covered")
        time.sleep(0.5)
        coverage.running = False
        stop.set()
        arrivals.join(60)
        at, latency = np.load(target).T
    began = min(times[0] for times in produced.values() if times)
    show("provisional label", latency[at > began + WARM_UP_S] * 1e3, LABEL_TARGET_MS)
    waits = []
    for partition, times in produced.items():
        base = len(first[partition])
        saved = coverage.covered_at(partition, list(range(base, base + len(times))))
        waits += [(s - t) * 1e3 for s, t in zip(saved, times, strict=True) if t > began + WARM_UP_S]
    show("covered by a checkpoint", np.array(waits), CHECKPOINT_TARGET_MS)
    return 0


def covered(store: StateStore) -> int:
    """Return how many events lie below a checkpoint."""
    return sum(offsets.get(EVENTS, 0) for offsets in store.partitions().values())


def show(
    what: str, latency_ms: np.ndarray[tuple[int], np.dtype[np.float64]], target: float
) -> None:
    """Print percentiles."""
    p50, p90, p99 = np.nanpercentile(latency_ms, [50, 90, 99])
    print(
        f"{what:26} n {len(latency_ms):7,}  p50 {p50:7.1f}  p90 {p90:7.1f}  p99 {p99:7.1f} ms  "
        f"(target p99 {target:.0f} ms: {'reached' if p99 <= target else 'NOT reached'})"
    )


if __name__ == "__main__":
    sys.exit(main())
