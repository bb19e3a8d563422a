"""The full worker path on real Kafka and Redis, against a stock Faust agent that does nothing.

Both read the same records of the same topic in the same run, one after the other, each in a
process of its own; of several rounds the fastest counts, since neighbours only slow things down.
``full`` is everything that is there by default; ``plain``, which ``--plain`` adds, what
`bench.plain` says.

    python -m bench.worker --events 100000 --rounds 2 [--plain]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faust
import orjson
from faust.app.base import BootStrategy

from bench.plain import PLAIN_ENVIRONMENT
from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.catalogue import Catalogue
from stream.config import Settings, load_settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.options import worker_options
from stream.distributed.process import serve
from stream.distributed.publishing import KafkaPublisher
from stream.distributed.topics import create_topics, topic_plan
from stream.effects import Effects
from stream.events import EVENTS, LABELS
from stream.metering import MeteredPipeline, ProcessMeters
from stream.peers import Peers
from stream.pipeline import PartitionPipeline, Prepared
from stream.readiness import get_ready
from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint, Epoch
from stream.stores.redis import RedisStore
from tests.integration.counting_processor import CountingProcessor
from tests.services.kafka import KafkaBroker
from tests.services.redis import RedisServer

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("HEADRACE_SHARED_DATA", ROOT.parent / "shared" / "data"))
SHOP = SHARED / "clicks" / "shop.events.ndjson.gz"
LAST_STAGES = ("count", "encode labels")
CONSUMERS = ("stock", "counting", "plain", "full")


class Stages:
    """Seconds spent in each stage, and how many events went through."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seconds: dict[str, float] = {}
        self.began = 0.0
        self.cpu_began = 0.0
        self.ended = 0.0
        self.reached: dict[int, int] = {}
        self.done = threading.Event()

    def timed(self, stage: str, work: Callable[..., Any], *args: Any) -> Any:
        """Run a stage on this thread's own clock."""
        if not self.began:
            self.began = time.perf_counter()
            self.cpu_began = time.process_time()
        began = time.thread_time()
        try:
            return work(*args)
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.thread_time() - began
            if stage in LAST_STAGES:
                self.ended = time.perf_counter()

    def saved(self, checkpoint: Checkpoint) -> None:
        """Note how far a checkpoint reaches."""
        self.reached[checkpoint.partition] = checkpoint.next_offsets.get(EVENTS, 0)
        if sum(self.reached.values()) >= self.total and not self.done.is_set():
            self.done.set()
            print(json.dumps(self.report()), flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

    def report(self) -> dict[str, Any]:
        """Return the figures of a run."""
        # The last checkpoint's wait for its turn is no work.
        elapsed = (self.ended or time.perf_counter()) - self.began
        return {
            "events_per_s": self.total / elapsed,
            "cpu_us": (time.process_time() - self.cpu_began) * 1e6 / self.total,
            "stages_us": {name: s * 1e6 / self.total for name, s in self.seconds.items()},
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


@dataclass
class TimedEffects:
    """Effects that are encoded on the clock."""

    effects: Effects
    stages: Stages

    def outgoing(self) -> list[Outgoing]:
        """Return the records to publish."""
        records: list[Outgoing] = self.stages.timed("encode labels", self.effects.outgoing)
        return records


class TimedPipeline(MeteredPipeline):
    """The pipeline, timed by stage."""

    def __init__(self, pipeline: PartitionPipeline, meters: ProcessMeters, stages: Stages) -> None:
        super().__init__(pipeline, meters.metrics, meters, tell_at_cut=False)
        self._stages = stages

    def prepare(self, batch: RecordBatch) -> Prepared:
        prepared: Prepared = self._stages.timed("decode", super().prepare, batch)
        return prepared

    def process(self, prepared: Prepared, loaded: Mapping[bytes, bytes]) -> Any:
        process = super().process
        effects = self._stages.timed("join, label, learn", process, prepared, loaded)
        return TimedEffects(effects, self._stages)

    def settling(self) -> Sequence[Callable[[], None]]:
        return [partial(self._stages.timed, "cut", part) for part in super().settling()]

    def cut(self) -> Checkpoint:
        checkpoint: Checkpoint = self._stages.timed("cut", super().cut)
        return checkpoint


class TimedCounting(CountingProcessor):
    """The smallest processor, which tells when it began."""

    def __init__(self, partition: int, stages: Stages) -> None:
        super().__init__(partition, events=EVENTS, labels=None)
        self._stages = stages

    def prepare(self, batch: RecordBatch) -> Any:
        return self._stages.timed("decode", super().prepare, batch)

    def process(self, prepared: Any, loaded: Mapping[bytes, bytes]) -> Any:
        return self._stages.timed("count", super().process, prepared, loaded)


class TimedStore(RedisStore):
    """The Redis store, timed."""

    stages: Stages

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        found: dict[int, dict[bytes, bytes]] = self.stages.timed(
            "load users", super().load_users_of, wanted
        )
        return found

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        self.stages.timed("save", super().save, checkpoint, epoch)
        self.stages.saved(checkpoint)


def consume(kind: str, total: int) -> int:
    """Run one consumer in this process until it has everything."""
    settings = load_settings()
    connection = KafkaConnection.from_settings(settings)
    if kind == "stock":
        return run_stock(settings, total)
    stages = Stages(total)
    store = TimedStore(settings.store.url, instance=settings.store.instance)
    store.stages = stages
    metrics = Metrics()
    spec = pipeline_spec(settings)
    get_ready(spec)
    meters = ProcessMeters(metrics)
    peers = Peers(spec.recommender.config)
    catalogue = Catalogue()

    def make(partition: int) -> Any:
        if kind == "counting":
            return TimedCounting(partition, stages)
        pipeline = PartitionPipeline(
            spec, partition, items=catalogue, peers=peers, content=catalogue.content
        )
        return TimedPipeline(pipeline, meters, stages)

    return serve(worker_options(settings, connection), store, make, metrics=metrics)


class _Boot(BootStrategy):
    enable_web = False


class _StockApp(faust.App):
    BootStrategy = _Boot

    def _create_directories(self) -> None:
        """Leave nothing behind."""


def run_stock(settings: Settings, total: int) -> int:
    """Run the agent that Faust's own documentation begins with, doing nothing."""
    stages = Stages(total)
    app = _StockApp(
        f"stock-{uuid.uuid4().hex[:6]}",
        broker=settings.log.url,
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        store="memory://",
    )

    async def nothing(events: faust.StreamT[Any]) -> None:
        count = 0
        async for _ in events:
            if not count:
                stages.began, stages.cpu_began = time.perf_counter(), time.process_time()
            count += 1
            if count == total:
                print(json.dumps(stages.report()), flush=True)
                os._exit(0)

    app.agent(app.topic(EVENTS, value_serializer="json"))(nothing)

    async def run() -> None:
        await app.start()
        await asyncio.sleep(3600)

    asyncio.run(run())
    return 0


def read_events(total: int) -> Iterator[bytes]:
    """Yield lines of the shop, over and over with new event ids and later times."""
    with gzip.open(SHOP) as file:
        events = [orjson.loads(line) for line in file]
    span_s = max(event["ts"] for event in events) - min(event["ts"] for event in events) + 1
    for number in range(total):
        lap, index = divmod(number, len(events))
        event = events[index]
        if lap:
            event = event | {
                "event_id": f"{event['event_id']}-{lap}",
                "ts": event["ts"] + lap * span_s,
            }
        yield orjson.dumps(event)


async def produce(connection: KafkaConnection, total: int) -> None:
    """Fill the events topic."""
    publisher = KafkaPublisher(connection)
    await publisher.start()
    lines: list[Outgoing] = []
    for line in read_events(total):
        lines.append(Outgoing(EVENTS, orjson.loads(line)["user_id"].encode(), line))
        if len(lines) == 5000:
            await asyncio.gather(*await publisher.send(lines))
            lines = []
    await asyncio.gather(*await publisher.send(lines))
    await publisher.stop()


def measure(kind: str, total: int, env: Mapping[str, str]) -> dict[str, Any]:
    """Run a consumer in a process of its own and return its figures."""
    tag = f"bench-{kind}-{uuid.uuid4().hex[:6]}"
    own = {"HEADRACE_STORE__INSTANCE": tag, "HEADRACE_KAFKA__GROUP": tag}
    if kind == "plain":
        own |= PLAIN_ENVIRONMENT
    done = subprocess.run(
        [sys.executable, "-m", "bench.worker", "--consume", kind, "--events", str(total)],
        env=os.environ | env | own,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{kind} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=CONSUMERS, action="append")
    parser.add_argument("--plain", action="store_true", help="plain settings, too")
    parser.add_argument("--consume", choices=CONSUMERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.consume:
        return consume(options.consume, options.events)
    if not SHOP.exists():
        print(f"skipped: needs {SHOP.name} below the shared data folder")
        return 0
    with KafkaBroker() as broker, RedisServer() as redis:
        env = {
            "HEADRACE_LOG__URL": f"kafka://{broker.bootstrap}",
            "HEADRACE_STORE__URL": redis.url,
            "HEADRACE_WORKER__METRICS_PORT": "0",
            "HEADRACE_TICKS__ENABLED": "false",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        settings = load_settings(env=env)
        connection = KafkaConnection.from_settings(settings)
        create_topics(connection, topic_plan(settings))
        asyncio.run(produce(connection, options.events))
        kinds = options.only or [k for k in CONSUMERS if options.plain or k != "plain"]
        best: dict[str, dict[str, Any]] = {}
        for _ in range(options.rounds):
            for kind in kinds:
                figures = measure(kind, options.events, env)
                if figures["events_per_s"] > best.get(kind, figures)["events_per_s"]:
                    best[kind] = figures
                best.setdefault(kind, figures)
    show(best, options.events)
    return 0


def show(best: Mapping[str, Mapping[str, Any]], total: int) -> None:
    """Print rates, ratios to the stock agent, and the budget of each stage."""
    print(f"{total} events, {EVENTS} → {LABELS}, checkpoints every 2 s")
    stock = best.get("stock")
    for kind, figures in best.items():
        line = (
            f"{kind:9s} {figures['events_per_s']:9,.0f} events/s {figures['cpu_us']:6.1f} µs CPU "
            f"an event, peak RSS {figures['peak_rss_mb']:.0f} MB"
        )
        if stock is not None and kind != "stock":
            line += (
                f"; {figures['events_per_s'] / stock['events_per_s']:.2f} × stock "
                f"({stock['cpu_us'] / figures['cpu_us']:.2f} × by CPU)"
            )
        print(line)
        stages = figures["stages_us"]
        if stages:
            shown = ", ".join(f"{name} {us:.2f}" for name, us in stages.items())
            rest = figures["cpu_us"] - sum(stages.values())
            print(f"          µs an event: {shown}, fetch, publish and the rest {rest:.2f}")


if __name__ == "__main__":
    sys.exit(main())
