"""A worker that notes when each of its stages passed which offset, for `bench.latency`.

    python -m bench.latency_stages STAMPS.json [WITHOUT…]

It is the worker of `headrace worker` with its settings from the environment; at its end it writes,
by stage and partition, when the stage had passed which offset. Each word that follows leaves out
something that is there for the latency: ``hand-over`` of thin fetches by the consumer's thread,
``turns`` of the event loop, ``linger`` beyond the shortest pause, ``half-linger`` beyond half of
the longest.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from monitoring.metrics import Metrics
from stream.assembly import open_state, pipeline_spec
from stream.batching import Linger
from stream.catalogue import Catalogue
from stream.config import load_settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.consumer import CheckpointedConsumer, CheckpointedTransport
from stream.distributed.options import worker_options
from stream.distributed.process import serve
from stream.distributed.publishing import KafkaPublisher
from stream.distributed.turns import Turn
from stream.effects import Effects
from stream.events import EVENTS, ITEMS, LABELS
from stream.metering import MeteredPipeline, ProcessMeters
from stream.peers import Peers
from stream.pipeline import PartitionPipeline, Prepared
from stream.readiness import get_ready
from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint

__all__ = ["LEFT_OUT", "STAGES", "Stamps", "passed"]

LEFT_OUT = ("hand-over", "turns", "linger", "half-linger")

STAGES = (
    "fetched",
    "taken up",
    "loaded",
    "applied",
    "encoded",
    "sent",
    "published",
    "cut",
    "saved",
)


class Stamps:
    """When each stage had passed which offset of a partition."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[int, list[tuple[int, float]]]] = {}

    def add(self, stage: str, partition: int, next_offset: int, when: float | None = None) -> None:
        """Note that a stage has passed everything below an offset."""
        at = time.time() if when is None else when
        self.seen.setdefault(stage, {}).setdefault(partition, []).append((next_offset, at))

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        file.write_text(json.dumps(self.seen), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Stamps:
        """Return what was written."""
        stamps = cls()
        for stage, partitions in json.loads(file.read_text(encoding="utf-8")).items():
            stamps.seen[stage] = {int(p): [(n, at) for n, at in s] for p, s in partitions.items()}
        return stamps

    def times(self, stage: str, partition: int, offsets: Sequence[int]) -> NDArray[np.float64]:
        """Return when the stage had passed each offset, NaN if never."""
        return passed(self.seen.get(stage, {}).get(partition, []), offsets)


def passed(seen: Sequence[tuple[int, float]], offsets: Sequence[int]) -> NDArray[np.float64]:
    """Return when each offset lay below a next offset, NaN if never."""
    bounds = [offset for offset, _ in seen]
    times = np.array([*(when for _, when in seen), np.nan])
    return times[np.searchsorted(bounds, offsets, side="right")]


@dataclass
class _StampedEffects:
    effects: Effects
    pipeline: _StampedPipeline

    def outgoing(self) -> list[Outgoing]:
        records = self.effects.outgoing()
        self.pipeline.encoded(sum(record.topic == LABELS for record in records))
        return records


class _StampedPipeline(MeteredPipeline):
    """The pipeline, each call of which is noted."""

    def __init__(
        self, pipeline: PartitionPipeline, meters: ProcessMeters, publisher: _StampedPublisher
    ) -> None:
        super().__init__(pipeline, meters.metrics, meters, tell_at_cut=False)
        self._publisher, self._stamps = publisher, publisher.stamps
        self._cut = 0

    @property
    def _reached(self) -> int:
        return self.next_offsets.get(EVENTS, 0)

    def prepare(self, batch: RecordBatch) -> Prepared:
        if batch.topic == EVENTS:
            self._stamps.add("taken up", self.pipeline.partition, batch.offsets[-1] + 1)
        return super().prepare(batch)

    def process(self, prepared: Prepared, loaded: Mapping[bytes, bytes]) -> Any:
        began = time.time()
        effects = super().process(prepared, loaded)
        self._stamps.add("loaded", self.pipeline.partition, self._reached, began)
        self._stamps.add("applied", self.pipeline.partition, self._reached)
        return _StampedEffects(effects, self)

    def encoded(self, labels: int) -> None:
        """Note that labels are on their way."""
        self._stamps.add("encoded", self.pipeline.partition, self._reached)
        self._publisher.expect(self.pipeline.partition, labels, self._reached)

    def cut(self) -> Checkpoint:
        self._cut = self._reached
        checkpoint = super().cut()
        self._stamps.add("cut", self.pipeline.partition, self._cut)
        return checkpoint

    def saved(self) -> None:
        self._stamps.add("saved", self.pipeline.partition, self._cut)
        super().saved()


class _StampedPublisher(KafkaPublisher):
    """The publisher, which notes when labels were handed over and acknowledged."""

    def __init__(self, connection: KafkaConnection, stamps: Stamps) -> None:
        super().__init__(connection)
        self.stamps = stamps
        self._expected: dict[int, deque[tuple[int, int]]] = {}
        self._promised: dict[int, int] = {}
        self._handed: dict[int, int] = {}

    def expect(self, partition: int, labels: int, next_offset: int) -> None:
        """Learn that these many labels more stand for what was applied up to an offset."""
        self._promised[partition] = self._promised.get(partition, 0) + labels
        waiting = self._expected.setdefault(partition, deque())
        waiting.append((self._promised[partition], next_offset))

    async def send(self, records: Sequence[Outgoing]) -> list[asyncio.Future[Any]]:
        for record in records:
            if record.topic == LABELS and record.partition is not None:
                self._handed[record.partition] = self._handed.get(record.partition, 0) + 1
        reached: dict[int, int] = {}
        for partition, waiting in self._expected.items():
            while waiting and waiting[0][0] <= self._handed.get(partition, 0):
                reached[partition] = waiting.popleft()[1]
        for partition, next_offset in reached.items():
            self.stamps.add("sent", partition, next_offset)
        futures = await super().send(records)

        def published(_: object) -> None:
            for partition, next_offset in reached.items():
                self.stamps.add("published", partition, next_offset)

        asyncio.gather(*futures, return_exceptions=True).add_done_callback(published)
        return futures


def leave_out(words: Sequence[str]) -> None:
    """Run without what the words name."""
    if "hand-over" in words:
        CheckpointedConsumer.UNDER_WAY = 0
    if "turns" in words:
        Turn.BUDGET_S = float("inf")
    if "half-linger" in words:
        Linger.LONGEST_S /= 2.0
    if "linger" in words:
        Linger.LONGEST_S = 0.0


def main(file: Path, without: Sequence[str]) -> int:
    """Run the worker until it is told to stop."""
    leave_out(without)
    settings = load_settings()
    connection = KafkaConnection.from_settings(settings)
    store = open_state(settings)
    stamps = Stamps()
    publisher = _StampedPublisher(connection, stamps)

    class StampedConsumer(CheckpointedConsumer):
        """The consumer, which notes what arrived in the event loop."""

        def batches(
            self, records: Mapping[TP, Sequence[Any]], active: set[TP] | None
        ) -> list[RecordBatch]:
            batches = super().batches(records, active)
            for batch in batches:
                if batch.topic == EVENTS:
                    stamps.add("fetched", batch.partition, batch.offsets[-1] + 1)
            return batches

    CheckpointedTransport.Consumer = StampedConsumer
    metrics = Metrics()
    spec = pipeline_spec(settings, timer=time.perf_counter)
    get_ready(spec)
    meters = ProcessMeters(metrics)
    peers, catalogue = Peers(spec.recommender.config), Catalogue()

    def make(partition: int) -> MeteredPipeline:
        pipeline = PartitionPipeline(
            spec, partition, items=catalogue, peers=peers, content=catalogue.content
        )
        return _StampedPipeline(pipeline, meters, publisher)

    code = serve(
        worker_options(settings, connection),
        store,
        make,
        whole={ITEMS: catalogue.take_in},
        publisher=publisher,
        metrics=metrics,
    )
    store.close()
    stamps.write(file)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
