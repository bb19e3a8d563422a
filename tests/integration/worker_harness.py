"""A group of real workers on real Kafka and Redis, fed and checked for exact counts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
from aiokafka import AIOKafkaConsumer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import RetriableError
from redis import Redis
from redis.exceptions import RedisError

from stream.distributed.clients import KafkaConnection
from stream.distributed.publishing import KafkaPublisher
from stream.records import Outgoing
from tests.services.process import OwnedProcess

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = "tests.integration.worker_launcher"
PARTITIONS = 8
# For what comes at once on an idle machine, and much later on a busy one.
PATIENCE_S = 120.0


def event(number: int, users: int = 997) -> Outgoing:
    """Return event ``number`` of the feed; its user follows from the number."""
    user = f"u{number * 7919 % users}"
    return Outgoing("", user.encode(), b'{"event_id":%d,"user_id":"%s"}' % (number, user.encode()))


def expected_users(total: int) -> dict[bytes, tuple[int, int]]:
    """Return (events, sum of their numbers) of each user after ``total`` events."""
    users: dict[bytes, tuple[int, int]] = {}
    for number in range(total):
        key = event(number).key or b""
        count, summed = users.get(key, (0, 0))
        users[key] = count + 1, summed + number
    return users


class Feed(threading.Thread):
    """Produce numbered events at a rate, through broker restarts, from a thread."""

    def __init__(self, bootstrap: str, topic: str, total: int, rate: float, first: int = 0) -> None:
        super().__init__(daemon=True)
        self.sent = first
        self.error: BaseException | None = None
        self._args = (bootstrap, topic, first + total, rate)

    def run(self) -> None:
        try:
            asyncio.run(self._produce(*self._args))
        except BaseException as error:
            self.error = error

    def finish(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until everything is acknowledged."""
        self.join(timeout_s)
        if self.error is not None:
            raise self.error
        assert not self.is_alive(), "the feed did not finish"

    async def _produce(self, bootstrap: str, topic: str, total: int, rate: float) -> None:
        publisher = KafkaPublisher(KafkaConnection((bootstrap,)), timeout_s=60.0)
        await publisher.start()
        try:
            began, first = time.monotonic(), self.sent
            while self.sent < total:
                due = first + 1 + int((time.monotonic() - began) * rate)
                due = min(total, due, self.sent + 5000)
                if due > self.sent:
                    records = [
                        event(number)._replace(topic=topic) for number in range(self.sent, due)
                    ]
                    await asyncio.gather(*await publisher.send(records))
                    self.sent = due
                else:
                    await asyncio.sleep(0.01)
        finally:
            await publisher.stop()


def fill(bootstrap: str, topic: str, total: int, first: int = 0) -> None:
    """Produce numbered events at once."""
    feed = Feed(bootstrap, topic, total, 1e6, first)
    feed.run()
    if feed.error is not None:
        raise feed.error


@dataclass
class Group:
    """Topics, a store instance, and the workers that share them."""

    bootstrap: str
    redis_url: str
    folder: Path
    tag: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}")
    options: dict[str, Any] = field(default_factory=dict)
    workers: list[OwnedProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events, self.gold, self.labels, self.control = (
            f"{self.tag}.{name}" for name in ("events", "gold", "labels", "control")
        )
        self.redis: Redis = Redis.from_url(self.redis_url)

    def create_topics(self, config: dict[str, str] | None = None) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=self.bootstrap)) as admin:
            admin.create_topics(
                [
                    NewTopic(self.events, PARTITIONS, 1, topic_configs=config or {}),
                    NewTopic(self.gold, PARTITIONS, 1),
                    NewTopic(self.labels, PARTITIONS, 1),
                    NewTopic(self.control, 1, 1),
                ]
            )

    def start_worker(self, **spec: Any) -> OwnedProcess:
        """Start one more worker; ``spec`` goes to the launcher."""
        options = {
            "group": self.tag,
            "session_timeout_s": 3.0,
            "heartbeat_s": 0.5,
            "checkpoint_interval_s": 0.25,
            "commit_interval_s": 0.1,
            "tick_idle_s": None,
            "metrics_port": None,
        }
        settings = {
            "bootstrap": self.bootstrap,
            "redis": self.redis_url,
            "instance": self.tag,
            "partitioned_topics": [self.events, self.gold],
            "broadcast_topics": [self.control],
            "labels": self.labels,
        } | spec
        settings["options"] = options | self.options | spec.get("options", {})
        worker = OwnedProcess(
            [sys.executable, "-m", LAUNCHER],
            output=self.folder / f"worker{len(self.workers)}.log",
            env=os.environ | {"TEST_WORKER": json.dumps(settings), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
        )
        worker.start()
        self.workers.append(worker)
        return worker

    def users(self) -> dict[bytes, tuple[int, int]]:
        """Return what the store holds of every user."""
        found: dict[bytes, tuple[int, int]] = {}
        for partition in range(PARTITIONS):
            stored = self.redis.hgetall(f"{{{self.tag}:{partition}}}:users")
            for key, blob in cast("dict[bytes, bytes]", stored).items():
                assert key not in found, f"{key!r} lives in two partitions"
                count, summed = blob.split()
                found[key] = int(count), int(summed)
        return found

    def saved(self) -> dict[int, int]:
        """Return the saved offset of the events topic, by partition."""
        offsets = {}
        for partition in range(PARTITIONS):
            text = self.redis.hget(f"{{{self.tag}:{partition}}}:head", "offsets")
            offsets[partition] = orjson.loads(text).get(self.events, 0) if text else 0
        return offsets

    def wait_joined(self) -> None:
        """Wait until every worker is in the group: from there on it heeds signals."""

        def all_joined() -> bool:
            return all("joined group" in worker.output.read_text() for worker in self.workers)

        wait_until(all_joined, PATIENCE_S, self.logs)

    def wait_saved(self, total: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the store stands behind ``total`` events."""
        wait_until(lambda: sum(self.saved().values()) >= total, timeout_s, self.logs)

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the group's committed offsets."""
        deadline = time.monotonic() + PATIENCE_S
        with closing(KafkaAdminClient(bootstrap_servers=self.bootstrap)) as admin:
            while True:
                try:
                    groups = admin.list_group_offsets(self.tag)
                except RetriableError:
                    # A broker that was starved gives its groups up, and takes them up again.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
                else:
                    found = groups[self.tag]
                    return {(tp.topic, tp.partition): at.offset for tp, at in found.items()}

    def committed_events(self) -> int:
        """Return how many events the group has committed."""
        return sum(at for (topic, _), at in self.committed().items() if topic == self.events)

    def published(self) -> list[dict[str, Any]]:
        """Return every label that was published, repetitions included."""
        return asyncio.run(read_all(self.bootstrap, self.labels))

    def assert_exact(self, total: int) -> None:
        """Check that every event was counted once, and every effect was published."""
        assert self.users() == expected_users(total)
        labels = self.published()
        by_event = Counter(label["event"] for label in labels)
        assert sorted(by_event) == list(range(total))
        # An effect that was published twice says the same twice.
        assert len({orjson.dumps(label) for label in labels}) == total
        saved = self.saved()
        for (topic, partition), offset in self.committed().items():
            if topic == self.events:
                assert offset <= saved[partition]

    def events_in_log(self) -> list[dict[str, Any]]:
        """Return every record of the events topic."""
        return asyncio.run(read_all(self.bootstrap, self.events))

    def dump(self) -> dict[bytes, bytes]:
        """Return the whole state of the instance at one moment."""
        keys = [key for key in self.redis.scan_iter(f"*{self.tag}*")]
        with self.redis.pipeline() as together:
            for key in keys:
                together.dump(key)
            return dict(zip(keys, together.execute(), strict=True))

    def restore(self, dumped: dict[bytes, bytes]) -> None:
        """Put the whole state back at one moment."""
        with self.redis.pipeline() as together:
            for key, data in dumped.items():
                together.restore(key, 0, data, replace=True)
            together.execute()

    def logs(self) -> str:
        return "\n".join(f"--- {worker.output.name}\n{worker.tail(25)}" for worker in self.workers)

    def close(self) -> None:
        with ExitStack() as stack:
            stack.callback(self.redis.close)
            for worker in self.workers:
                stack.callback(worker.close)


@contextmanager
def group(bootstrap: str, redis_url: str, folder: Path, **options: Any) -> Iterator[Group]:
    """Give a group with topics of its own; its workers end with the test."""
    running = Group(bootstrap, redis_url, folder, options=options)
    try:
        yield running
    finally:
        running.close()


def wait_until(
    condition: Callable[[], bool], timeout_s: float, explain: Callable[[], str] = str
) -> float:
    """Wait for a condition and return how long it took."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except RedisError:
            pass  # The test has just killed it.
        assert time.monotonic() - began < timeout_s, f"not in {timeout_s} s\n{explain()}"
        time.sleep(0.05)


async def read_all(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Return every record of a topic, decoded."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    try:
        tps = consumer.assignment()
        ends = await consumer.end_offsets(tps)
        found = []
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [orjson.loads(record.value) for record in records]
        return found
    finally:
        await consumer.stop()
