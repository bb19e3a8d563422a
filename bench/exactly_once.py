"""Effects on real Kafka, exactly once: three workers, every fault, one undisturbed replay beside.

    python -m bench.exactly_once [--events 300000] [--rate 3000] [--learn]

Feeds a simulated shop to Kafka while workers, the broker and Redis are killed, paused and
restarted, then compares what was published and stored with one replay of the same file with as
many partitions. Prints each fault with the longest time for which any partition stood still.
Exits 1 if a single label, vote or count differs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition

from monitoring.counts import StageCounts
from monitoring.counts_snapshot import counts_from_bytes
from stream.assembly import open_state, pipeline_spec
from stream.config import Settings, load_settings
from stream.effects import Effects
from stream.events import EVENTS, LABELS
from stream.kafka_clients import KafkaConnection
from stream.publishing import KafkaPublisher
from stream.records import Outgoing
from stream.replay import Replay
from stream.simulate import World, WorldConfig
from stream.state import SHARED_PREFIX, StateStore, StoreError
from tests.services.kafka import KafkaBroker
from tests.services.process import OwnedProcess
from tests.services.redis import RedisServer

PARTITIONS = 8
WORKERS = 3
POLL_S = 0.05
Label = tuple[str, str, int]
Given = tuple[str, str, tuple[tuple[str, int, str], ...]]


def say(text: str) -> None:
    """Print with the time that has passed."""
    print(f"{time.monotonic() - STARTED:7.1f} s  {text}", flush=True)


STARTED = time.monotonic()


@dataclass
class Feed(threading.Thread):
    """Produces the lines in order, keyed by user, at a rate, through every fault."""

    bootstrap: str
    lines: Sequence[bytes]
    rate: float
    sent: int = 0
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
        began = time.monotonic()
        while self.sent < len(self.lines):
            due = 1 + int((time.monotonic() - began) * self.rate)
            stop = min(len(self.lines), due, self.sent + 2000)
            if stop > self.sent:
                records = [
                    Outgoing(EVENTS, orjson.loads(line)["user_id"].encode(), line)
                    for line in self.lines[self.sent : stop]
                ]
                await asyncio.gather(*await publisher.send(records))
                self.sent = stop
            else:
                await asyncio.sleep(0.005)
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

    def longest_stall(self, since: float, until: float) -> float:
        """Return the longest time between two moves of a partition that overlaps the window."""
        longest = 0.0
        for times in self.moved.values():
            known = [*times, until]
            for before, after in zip(known, known[1:], strict=False):
                if after > since and before < until:
                    longest = max(longest, after - before)
        return longest


@dataclass
class Fleet:
    """The workers."""

    environment: dict[str, str]
    folder: Path
    workers: list[OwnedProcess] = field(default_factory=list)
    count: int = 0

    def start(self) -> OwnedProcess:
        """Start one more worker."""
        self.count += 1
        worker = OwnedProcess(
            [sys.executable, "-m", "stream.cli", "worker"],
            output=self.folder / f"worker-{self.count}.log",
            env=self.environment,
        )
        worker.start()
        self.workers.append(worker)
        return worker

    def replace(self, worker: OwnedProcess) -> None:
        """Forget a worker that has ended, and start another."""
        self.workers.remove(worker)
        worker.close()
        self.start()

    def close(self) -> None:
        """End everybody."""
        for worker in self.workers:
            worker.close()


def reference(settings: Settings, path: Path) -> tuple[dict[Label, Given], StageCounts, Replay]:
    """Return labels and counts of one undisturbed replay."""
    labels: dict[Label, Given] = {}

    def keep(effects: Effects) -> None:
        for block in effects.labels:
            for record in block.records():
                take(labels, record.value)

    replay = Replay(pipeline_spec(settings, partitions=PARTITIONS), on_effects=keep)
    replay.read_events([path])
    counts = StageCounts()
    for pipeline in replay.pipelines:
        counts.add(pipeline.counts)
    return labels, counts, replay


PROBABILITIES: dict[int, dict[Label, bytes]] = {}


def take(labels: dict[Label, Given], value: bytes) -> None:
    """Keep a label; of several with one revision the last counts."""
    label = orjson.loads(value)
    key = (label["example_id"], label["task"], label["revision"])
    votes = tuple(sorted((v["lf"], v["version"], v["vote"]) for v in label["votes"]))
    labels[key] = (label["stage"], label["reason"], votes)
    PROBABILITIES.setdefault(id(labels), {})[key] = orjson.dumps(label["probabilities"])


def published(bootstrap: str) -> tuple[dict[Label, Given], int]:
    """Return all labels in the topic, and how many records there are."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_bytes=64 << 20
    )
    try:
        parts = [TopicPartition(LABELS, number) for number in range(PARTITIONS)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        labels: dict[Label, Given] = {}
        records = 0
        while any(consumer.position(part) < ends[part] for part in parts):
            for batch in consumer.poll(timeout_ms=1000, max_records=20_000).values():
                for record in batch:
                    take(labels, record.value)
                    records += 1
        return labels, records
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


def additive(counts: StageCounts) -> dict[str, Any]:
    """Return the counts that must be equal, whatever was learned."""
    join = counts.join
    task = counts.tasks["relevance"]
    return {
        "consumed": counts.consumed[EVENTS],
        "duplicates": counts.duplicates,
        "rejected": sum(counts.rejected.values()),
        "matched": join.matched,
        "organic": join.organic,
        "expired": join.expired,
        "late_corrections": join.late_corrections,
        "dropped": dict(join.dropped),
        "votes": {
            name: (task.votes[m].tolist(), int(task.abstains[m]), int(task.overlaps[m]))
            for m, name in enumerate(task.lfs)
        },
        "conflicts": task.conflicts.tolist(),
        "labels by stage": task.labels.sum(axis=1).tolist(),
    }


def stored_counts(store: StateStore) -> StageCounts:
    """Return the counts of all partitions, as the store holds them."""
    total = StageCounts()
    for chunk in store.shared(f"{SHARED_PREFIX}counts", {}):
        total.add(counts_from_bytes(chunk.data))
    return total


Fault = tuple[str, Callable[[], float]]
"""Name; commits the fault and returns when it happened."""


def faults(
    fleet: Fleet, broker: KafkaBroker, redis: RedisServer, rng: random.Random
) -> list[Fault]:
    """Return every fault that the run commits, in a random order."""

    def kill() -> float:
        victim = rng.choice(fleet.workers)
        at = time.monotonic()
        victim.kill()
        fleet.replace(victim)
        return at

    def roll() -> float:
        worker = fleet.workers[0]
        fleet.start()
        time.sleep(6.0)  # the newcomer has joined: the group is whole when the old one leaves
        at = time.monotonic()
        worker.terminate()
        if worker.returncode != 0:
            raise AssertionError(f"a worker ended with {worker.returncode} after SIGTERM")
        fleet.workers.remove(worker)
        worker.close()
        return at

    def pause() -> float:
        worker = rng.choice(fleet.workers)
        at = time.monotonic()
        worker.pause()
        time.sleep(8.0)
        worker.resume()
        time.sleep(2.0)
        if not worker.running:
            fleet.replace(worker)
        return at

    def broker_restart() -> float:
        at = time.monotonic()
        broker.kill()
        broker.restart()
        return at

    def redis_restart() -> float:
        at = time.monotonic()
        redis.kill()
        time.sleep(1.0)
        redis.restart()
        return at

    chosen: list[Fault] = [
        *[("worker killed (-9)", kill)] * 8,
        *[("worker rolled (SIGTERM)", roll)] * 4,
        ("worker paused 8 s", pause),
        ("broker killed and restarted", broker_restart),
        ("Redis killed for 1 s", redis_restart),
    ]
    rng.shuffle(chosen)
    return chosen


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.2)


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rate", type=float, default=3_000.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learn", action="store_true", help="learn; else probabilities, too")
    parser.add_argument("--calm", action="store_true", help="commit no faults")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        say(f"making {args.events:,} events")
        world = World(
            WorldConfig(
                seed=args.seed,
                events=args.events,
                users=5_000,
                items=2_000,
                days=3.0,
                duplicates=0.01,
                disorder=0.02,
            )
        )
        lines = [line for chunk in world.chunks() for line in chunk]
        path = folder / "events.ndjson"
        path.write_bytes(b"\n".join(lines) + b"\n")
        broker = stack.enter_context(KafkaBroker({"group.min.session.timeout.ms": "3000"}))
        redis = stack.enter_context(RedisServer())
        settings_env = {
            "HEADRACE_LOG__URL": f"kafka://{broker.bootstrap}",
            "HEADRACE_LOG__PARTITIONS": str(PARTITIONS),
            "HEADRACE_STORE__URL": redis.url,
            "HEADRACE_LEARN": "true" if args.learn else "false",
            "HEADRACE_TICKS__ENABLED": "false",
            "HEADRACE_CHECKPOINT__INTERVAL_S": "0.25",
            "HEADRACE_KAFKA__SESSION_TIMEOUT_S": "3",
            "HEADRACE_KAFKA__HEARTBEAT_S": "0.5",
            "HEADRACE_WORKER__METRICS_PORT": "0",
        }
        settings = load_settings(env=settings_env)
        say("replaying undisturbed")
        expected, expected_counts, _ = reference(settings, path)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")},
            **settings_env,
        }
        topics = OwnedProcess(
            [sys.executable, "-m", "stream.cli", "topics"],
            output=folder / "topics.log",
            env=environment,
        )
        with topics:
            if topics.wait(60) != 0:
                raise AssertionError(topics.tail())
        store = open_state(settings)
        stack.callback(store.close)
        fleet = Fleet(environment, folder)
        stack.callback(fleet.close)
        for _ in range(WORKERS):
            fleet.start()
        watch = Watch(store)
        watch.start()
        feed = Feed(broker.bootstrap, lines, args.rate)
        feed.start()
        wait_for(lambda: len(watch.moved) == PARTITIONS, 90, "every partition moves")
        say("every partition moves; faults begin")
        stalls: dict[str, list[float]] = {}
        plan = [] if args.calm else faults(fleet, broker, redis, rng)
        quiet_s = max(6.0, (args.events / args.rate - 15.0) / max(1, len(plan)) - 4.0)
        for name, commit in plan:
            at = commit()
            time.sleep(quiet_s)
            stall = watch.longest_stall(at - 0.5, time.monotonic())
            stalls.setdefault(name, []).append(stall)
            say(f"{name}: longest stall {stall:.2f} s")
        wait_for(lambda: feed.sent == len(lines) or feed.error is not None, 300, "feed")
        if feed.error is not None:
            raise feed.error
        say("everything is sent")
        wait_for(
            lambda: sum(o.get(EVENTS, 0) for o in store.partitions().values()) >= len(lines),
            120,
            "everything is saved",
        )
        wait_for(lambda: lag(broker.bootstrap, "headrace") == 0, 30, "lag 0")
        say("everything is saved and committed; lag 0")
        for worker in list(fleet.workers):
            worker.terminate()
        watch.running = False
        found, records = published(broker.bootstrap)
        found_counts = stored_counts(store)
        differences = compare(expected, found, args.learn)
        want, got = additive(expected_counts), additive(found_counts)
        for name, value in want.items():
            if got[name] != value:
                differences.append(f"{name}: {got[name]} instead of {value}")
        print()
        for name, values in sorted(stalls.items()):
            shown = ", ".join(f"{value:.1f}" for value in values)
            print(f"{name:32} median {median(values):5.2f} s  ({shown})")
        print(f"labels: {len(found):,} of {len(expected):,}, in {records:,} records")
        print(f"additive counts: {orjson.dumps(want).decode()[:600]}")
        for difference in differences[:20]:
            print("DIFFERENT", difference)
        print("exact" if not differences else f"{len(differences)} differences")
        return bool(differences)


def compare(expected: dict[Label, Given], found: dict[Label, Given], learned: bool) -> list[str]:
    """Return what differs between two sets of labels."""
    differences = [f"label {key} is missing" for key in expected.keys() - found.keys()]
    differences += [f"label {key} is too much" for key in found.keys() - expected.keys()]
    differences += [
        f"label {key}: {found[key]} instead of {expected[key]}"
        for key in expected.keys() & found.keys()
        if expected[key] != found[key]
    ]
    if not learned:
        before, after = PROBABILITIES[id(expected)], PROBABILITIES[id(found)]
        differences += [
            f"label {key}: probabilities {after[key]!r} instead of {before[key]!r}"
            for key in expected.keys() & found.keys()
            if before[key] != after[key]
        ]
    return differences


if __name__ == "__main__":
    sys.exit(main())
