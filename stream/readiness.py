"""What a process does before its first event: compile what is compiled, and calm the collector."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from models.recommender import HISTORY, SharedRecommender
from monitoring.drift_view import DriftView, contribution
from stream.catalogue import Catalogue
from stream.compiled_files import keep_entries_apart
from stream.compiling import said_if_long
from stream.events import EVENTS, GOLD, ITEMS
from stream.ids import example_id, user_key
from stream.interrupts import interruptible
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

__all__ = ["calm_collector", "get_ready"]

_GC_THRESHOLDS: Final = (50_000, 50, 1_000)
"""State is a large heap of plain values without cycles: looking through it again and again costs
a tenth of the throughput and frees nothing."""

_TS: Final = 1_700_000_000.0
_LOG_TS: Final = _TS + 1e6
_EVENTS: Final = 300
_EPOCH: Final = Epoch(0, "readiness")
_PEOPLE: Final = 3
_TYPES: Final = ("impression", "click", "view", "dwell", "purchase", "rating", "hide")


def calm_collector() -> None:
    """Let the collector of garbage look through the heap rarely."""
    gc.set_threshold(*_GC_THRESHOLDS)


@interruptible()
@said_if_long()
def get_ready(spec: PipelineSpec) -> None:
    """Run a few made-up events through a pipeline of their own, so that every kernel is compiled.

    Compiled code is cached on disk; the first time on a machine takes minutes, in which a worker
    that had joined its group already would miss its heartbeats.
    """
    keep_entries_apart()
    calm_collector()
    alone = replace(spec, n_partitions=1, timer=None, pseudonymise=False)
    catalogue, store = Catalogue(), MemoryStore()
    for part in range(3):
        if part != 1:
            # The last part is applied by one that was restored, as after a restart.
            pipeline = PartitionPipeline(alone, 0, items=catalogue, content=catalogue.content)
            runner = PartitionRunner(pipeline, store, 0, _EPOCH)
        # Items come again and again, and what changed since a save is written another way.
        catalogue.take_in(_batch(ITEMS, part, [_item(number) for number in _numbers(part)]))
        runner.run(_batch(EVENTS, part, [_event(number) for number in _numbers(part)]))
        if not part:
            runner.run(_batch(GOLD, 0, [_answer(spec)]))
        runner.checkpoint()
    if spec.n_partitions > 1:
        _get_peers_ready(spec)
    monitor = pipeline.watch.drift.monitor
    DriftView({0: contribution(monitor)}).readings(monitor.signals)


def _numbers(part: int) -> range:
    return range(part * _EVENTS, (part + 1) * _EVENTS)


def _batch(topic: str, part: int, lines: Sequence[bytes]) -> RecordBatch:
    first = part * _EVENTS
    return RecordBatch(topic, 0, range(first, first + len(lines)), lines, [_LOG_TS] * len(lines))


def _event(number: int) -> bytes:
    """Return an event: people are shown things, act on them, and come back after hours."""
    kind = _TYPES[number % len(_TYPES)]
    shown = number // len(_TYPES)
    ts = _TS + 500.0 * number
    return b'{"event_id":"e%d","type":"%s","ts":%f,"user_id":"u%d","item_id":"i%d","value":4}' % (
        number,
        kind.encode(),
        ts,
        shown % _PEOPLE,
        shown,
    )


def _item(number: int) -> bytes:
    return b'{"item_id":"i%d","title":"thing %d","categories":["c%d"]}' % (
        number, number % _PEOPLE, number % 2,
    )  # fmt: skip


def _answer(spec: PipelineSpec) -> bytes:
    return b'{"example_id":"%s","task":"%s","label":"%s","annotator":"a","ts":%f}' % (
        example_id(user_key("u0", spec.secret), None, "i0", "e0").encode(),
        spec.tasks[0].name.encode(),
        spec.tasks[0].classes[0].encode(),
        _TS,
    )


def _get_peers_ready(spec: PipelineSpec) -> None:
    """Let one partition's recommender learn an event, and another process learn it from there."""
    model = SharedRecommender(spec.recommender.config)
    model.step_many(
        np.full((1, HISTORY), -1, np.int32),
        np.zeros((1, HISTORY), np.float32),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        model.item_indexes(["i0"]),
        np.zeros(1, np.int32),
        np.full(1, -1.0),
        np.ones(1),
        np.full(1, _TS),
        np.zeros(1, np.int8),
    )
    updates = model.publish()
    elsewhere = SharedRecommender(spec.recommender.config, 1)
    if updates is not None:
        elsewhere.world.take_in([(0, updates)])
    elsewhere.world.draw_up({0: model.contribution()})
