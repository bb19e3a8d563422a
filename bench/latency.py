"""From produced to labelled, and to covered by a checkpoint: one worker on real Kafka and Redis.

    python -m bench.latency [--rate 5000] [--seconds 30] [--users shop|fresh]
                            [--plain-worker | --without STAGE …] [--rounds 1] [--own-core]

Two kinds of traffic, both printed unless one is chosen:

- ``shop``: `headrace simulate`'s default shop with 100,000 users, sent faster than it happened:
  impressions in sessions, feedback on some of them. Event times are the simulation's. A label is
  traced to the feedback that asked for it.
- ``fresh``: the worst case. Each event is a view by one of 50,000 people who is known, but not in
  memory (a worker keeps 500 of each partition here, instead of 50,000), so each opens an example,
  gets its label at once, and waits for a load from the store.

An event's clock starts when it is handed to the producer; a consumer of the labels topic notes
when the label arrives. Prints percentiles in milliseconds beside the targets (p99 of 50 ms to the
label, 300 ms to the checkpoint, checkpoints every 0.25 s), and what share of a core each process
had: on few cores, producer, broker and consumer slow the worker down. ``--own-core`` gives the
worker one core to itself, as where those run elsewhere, and the others the rest. Then, by stage,
how long each event took from the stage before and from the beginning; ``--plain-worker`` leaves
that out, and runs `headrace worker` as it is. ``--without`` runs each kind of traffic twice in
turn, with and without what `bench.latency_stages` says, ``--rounds`` times.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata
from numpy.typing import NDArray

from bench.cores import cores, on_its_own_core, shares_of
from bench.kafka_deployment import PARTITIONS, Fleet, environment, make_topics, wait_for
from bench.latency_stages import LEFT_OUT, STAGES, Stamps, passed
from stream.assembly import open_state
from stream.config import load_settings
from stream.events import EVENTS, LABELS
from stream.partitioning import partition_for
from stream.simulate import World, WorldConfig
from stream.state import StateStore
from tests.services.kafka import KafkaBroker
from tests.services.process import OwnedProcess
from tests.services.redis import RedisServer

FRESH_USERS = 50_000
FRESH_ITEMS = 5_000
FRESH_CACHE = 500
STEP_S = 0.005
COVERAGE_STEP_S = 0.02
WARM_UP_S = 5.0
LABEL_TARGET_MS = 50.0
CHECKPOINT_TARGET_MS = 300.0

Asked = tuple[str, float]
"""Whose feedback asks for a label, and its event time."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event to send; ``asks`` names the provisional label that it causes, if any."""

    partition: int
    value: bytes
    asks: Asked | None


def fresh(count: int) -> Iterator[Line]:
    """Yield views, each by somebody who was not seen for as long as possible."""
    rng = np.random.default_rng(1)
    users = np.concatenate([rng.permutation(FRESH_USERS) for _ in range(count // FRESH_USERS + 1)])[
        :count
    ]
    began = time.time()
    line = '{"event_id":"e%d","type":"view","ts":%.6f,"user_id":"u%d","item_id":"i%d"}'
    for number, user in enumerate(users.tolist()):
        # Nobody views an item twice: a second view would join the first one's example.
        item = (user * 7 + number // FRESH_USERS * 13) % FRESH_ITEMS
        ts = began + number / 1e4
        value = (line % (number, ts, user, item)).encode()
        yield Line(partition_for(b"u%d" % user, PARTITIONS), value, (f"u{user}", round(ts, 6)))


def shop(count: int) -> Iterator[Line]:
    """Yield the events of a simulated shop, in the order of their arrival."""
    world = World(WorldConfig(users=100_000, items=20_000, events=count))
    for part in world.slices():
        for value in part.events:
            event = orjson.loads(value)
            asks = None
            if event["type"] not in {"impression", "search"}:
                asks = (event["user_id"], event["ts"])
            yield Line(partition_for(event["user_id"].encode(), PARTITIONS), value, asks)


async def _watch(bootstrap: str, ready: Event, stop: Event) -> list[tuple[str, float, float]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100
    )
    await consumer.start()
    parts = [TopicPartition(LABELS, number) for number in range(PARTITIONS)]
    consumer.assign(parts)
    await consumer.seek_to_end(*parts)
    ready.set()
    batches: list[tuple[float, list[bytes]]] = []
    while not stop.is_set():
        for records in (await consumer.getmany(timeout_ms=50)).values():
            batches.append((time.time(), [record.value for record in records]))
    await consumer.stop()
    arrived = []
    for now, values in batches:
        for label in map(orjson.loads, values):
            if label["stage"] == "provisional":
                arrived.append((label["user_id"], label["ts"], now))
    return arrived


def watch_arrivals(bootstrap: str, ready: Event, stop: Event, answer: Any) -> None:
    """Note when each label arrives, in a process of its own."""
    gc.disable()
    answer.send(asyncio.run(_watch(bootstrap, ready, stop)))


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
            time.sleep(COVERAGE_STEP_S)

    def covered_at(self, partition: int, offsets: list[int]) -> list[float]:
        """Return when each offset lay below a checkpoint's next offset; NaN if never."""
        times: list[float] = passed(self.seen[partition], offsets).tolist()
        return times


async def produce(bootstrap: str, rate: float, lines: list[Line]) -> tuple[list[float], Stamps]:
    """Send the lines at a rate, each to its partition.

    Returns when each was handed over, and when the broker had acknowledged which offsets.
    """
    # Dearer than nothing, cheaper than `send` for each record: the machine is the worker's, too.
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=1 << 20
    )
    await producer.start()
    began, sent = time.monotonic(), 0
    handed: list[float] = []
    stamps = Stamps()

    def acknowledged(future: asyncio.Future[RecordMetadata], partition: int, count: int) -> None:
        stamps.add("acknowledged", partition, future.result().offset + count)

    while sent < len(lines):
        due = min(len(lines), int((time.monotonic() - began) * rate))
        if due > sent:
            now = time.time()
            builders: dict[int, BatchBuilder] = {}
            for line in lines[sent:due]:
                builder = builders.get(line.partition)
                if builder is None:
                    builder = builders[line.partition] = producer.create_batch()
                builder.append(key=None, value=line.value, timestamp=None)
            for partition, builder in builders.items():
                future = await producer.send_batch(builder, EVENTS, partition=partition)
                done = partial(acknowledged, partition=partition, count=builder.record_count())
                future.add_done_callback(done)
            handed += [now] * (due - sent)
            sent = due
        await asyncio.sleep(STEP_S)
    await producer.flush()
    await producer.stop()
    return handed, stamps


def measure(
    kind: str,
    rate: float,
    seconds: float,
    *,
    plain: bool,
    own_core: bool,
    without: Sequence[str] = (),
) -> None:
    """Run one kind of traffic through a deployment of its own, and print."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        broker = stack.enter_context(KafkaBroker())
        redis = stack.enter_context(RedisServer())
        services = {
            service.name: service.runner.pid
            for service in (broker, redis)
            if isinstance(service.runner, OwnedProcess)
        }
        if own_core and len(services) < 2:
            raise SystemExit(
                "--own-core: Kafka or Redis runs in a container, whose core is not ours to choose; "
                "they are started as processes where Docker is not found"
            )
        variables = environment(broker.bootstrap, redis.url)
        if kind == "fresh":
            variables["HEADRACE_WORKER__CACHED_USERS"] = str(FRESH_CACHE)
        make_topics(variables, folder)
        store = open_state(load_settings(env=variables))
        stack.callback(store.close)
        fleet = Fleet(variables, folder)
        stack.callback(fleet.close)
        stamps_file = folder / "stamps.json"
        if not plain:
            fleet.command = ("-m", "bench.latency_stages", str(stamps_file), *without)
        worker = fleet.start()
        count = int(rate * seconds)
        n_first = FRESH_USERS if kind == "fresh" else 500
        lines = list(fresh(n_first + count) if kind == "fresh" else shop(n_first + count))
        first, lines = lines[:n_first], lines[n_first:]
        asyncio.run(produce(broker.bootstrap, rate, first))
        # A worker whose kernels changed compiles them first: minutes on a busy machine.
        wait_for(lambda: works(fleet, store, len(first)), 600, "the worker works")
        spawn = multiprocessing.get_context("spawn")
        ready, stop = spawn.Event(), spawn.Event()
        answer, told = spawn.Pipe(duplex=False)
        arrivals = spawn.Process(
            target=watch_arrivals, args=(broker.bootstrap, ready, stop, told), daemon=True
        )
        arrivals.start()
        ready.wait(60)
        coverage = Coverage(store)
        coverage.start()
        pids = {"worker": worker.pid, "generator": os.getpid(), "consumer": arrivals.pid or 0}
        pids |= services
        how = f" without {' and '.join(without)}" if without else ""
        how += ", worker on a core of its own" if own_core else ""
        print(
            f"--- {kind}{how}: {', '.join(f'{name} {pid}' for name, pid in pids.items())}",
            flush=True,
        )
        gc.collect()
        gc.disable()
        with on_its_own_core("worker", pids) if own_core else nullcontext():
            with shares_of(pids) as shares:
                handed, stamps = asyncio.run(produce(broker.bootstrap, rate, lines))
            gc.enable()
            whole = len(first) + count
            wait_for(lambda: works(fleet, store, whole), 60, "every event is covered")
        time.sleep(0.5)
        coverage.running = False
        stop.set()
        arrived = answer.recv()
        arrivals.join(60)
        worker.terminate()
        if not plain:
            stamps.seen |= Stamps.read(stamps_file).seen
    report(lines, first, handed, arrived, coverage)
    if not plain:
        report_stages(lines, first, handed, arrived, coverage, stamps)
    used = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    print(f"cores in use: {used} (of {os.cpu_count()})", flush=True)


def report(
    lines: list[Line],
    first: list[Line],
    handed: list[float],
    arrived: list[tuple[str, float, float]],
    coverage: Coverage,
) -> None:
    """Print percentiles of both waits, the warm-up left out."""
    steady = handed[0] + WARM_UP_S
    asked = {
        line.asks: when for line, when in zip(lines, handed, strict=True) if line.asks is not None
    }
    waits = []
    for user_id, ts, now in arrived:
        when = asked.get((user_id, ts))
        if when is not None and when > steady:
            waits.append((now - when) * 1e3)
    show("provisional label", waits, LABEL_TARGET_MS)
    waits = []
    for partition in range(PARTITIONS):
        times = [
            when for line, when in zip(lines, handed, strict=True) if line.partition == partition
        ]
        base = sum(line.partition == partition for line in first)
        saved = coverage.covered_at(partition, list(range(base, base + len(times))))
        waits += [(s - t) * 1e3 for s, t in zip(saved, times, strict=True) if t > steady]
    show("covered by a checkpoint", waits, CHECKPOINT_TARGET_MS)


def report_stages(
    lines: list[Line],
    first: list[Line],
    handed: list[float],
    arrived: list[tuple[str, float, float]],
    coverage: Coverage,
    stamps: Stamps,
) -> None:
    """Print percentiles of each stage: from the one before, and from the beginning."""
    steady = handed[0] + WARM_UP_S
    read = {(user_id, ts): now for user_id, ts, now in arrived}
    names = ("acknowledged", *STAGES, "label read", "announced")
    columns: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("produced", *names)}
    for partition in range(PARTITIONS):
        base = sum(line.partition == partition for line in first)
        mine = [(w, x) for x, w in zip(lines, handed, strict=True) if x.partition == partition]
        offsets = np.arange(base, base + len(mine))
        keep = np.array([when > steady for when, _ in mine], dtype=np.bool_)
        chosen = offsets[keep].tolist()
        columns["produced"].append(np.array([when for when, _ in mine])[keep])
        for name in ("acknowledged", *STAGES):
            columns[name].append(stamps.times(name, partition, chosen))
        labels = [read.get(x.asks, np.nan) if x.asks else np.nan for _, x in mine]
        columns["label read"].append(np.array(labels)[keep])
        columns["announced"].append(np.array(coverage.covered_at(partition, chosen)))
    times = {name: np.concatenate(parts) for name, parts in columns.items()}
    print(f"{'stage':14}{'from':>14}{'p50':>8}{'p99':>8}   since produced: p50     p99 ms")
    # Checkpoints go beside the labels' way.
    before = {name: other for name, other in zip(names, ("produced", *names), strict=False)} | {
        "cut": "applied",
        "label read": "sent",
        "announced": "saved",
    }
    for name in names:
        step = (times[name] - times[before[name]]) * 1e3
        whole = (times[name] - times["produced"]) * 1e3
        p50, p99 = np.nanpercentile(step, [50, 99])
        all50, all99 = np.nanpercentile(whole, [50, 99])
        print(f"{name:14}{before[name]:>14}{p50:8.1f}{p99:8.1f}{all50:22.1f}{all99:8.1f}")


def covered(store: StateStore) -> int:
    """Return how many events lie below a checkpoint."""
    return sum(offsets.get(EVENTS, 0) for offsets in store.partitions().values())


def works(fleet: Fleet, store: StateStore, events: int) -> bool:
    """Return whether so many events are covered; raises if the worker has ended."""
    fleet.check()
    return covered(store) >= events


def show(what: str, waits_ms: list[float], target: float) -> None:
    """Print percentiles."""
    p50, p90, p99 = np.nanpercentile(np.array(waits_ms), [50, 90, 99])
    print(
        f"{what:24} n {len(waits_ms):7,}  p50 {p50:7.1f}  p90 {p90:7.1f}  p99 {p99:7.1f} ms  "
        f"(target p99 {target:.0f} ms: {'reached' if p99 <= target else 'NOT reached'})"
    )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--users", choices=("shop", "fresh"), action="append")
    parser.add_argument("--plain-worker", action="store_true", help="no stages")
    parser.add_argument("--without", choices=LEFT_OUT, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=1, help="times that all of it is run")
    parser.add_argument("--own-core", action="store_true", help="the worker shares no core")
    args = parser.parse_args()
    if args.without and args.plain_worker:
        parser.error("--without: a plain worker leaves nothing out")
    if args.own_core and len(cores()) < 2:
        parser.error("--own-core: two cores are needed, one is there")
    if args.seconds <= WARM_UP_S:
        parser.error(
            f"--seconds: found {args.seconds:g}; more than {WARM_UP_S:g} is needed, since the "
            f"first {WARM_UP_S:g} s are warm-up and not measured"
        )
    variants = [(), tuple(args.without)] if args.without else [()]
    for _ in range(args.rounds):
        for kind in args.users or ("shop", "fresh"):
            for without in variants:
                measure(
                    kind,
                    args.rate,
                    args.seconds,
                    plain=args.plain_worker,
                    own_core=args.own_core,
                    without=without,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
