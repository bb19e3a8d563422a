"""What every worker reads: a bad record is told once, with its origin, wherever it is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stream.assembly import pipeline_spec
from stream.catalogue import Catalogue, CatalogueReading
from stream.config import Settings
from stream.events import CONTROL, EVENTS, ITEMS
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore

T = 1_700_000_000.0
EPOCH = Epoch(1, "one")
SPEC = pipeline_spec(Settings(), partitions=2)
ERASE = b'{"kind":"erase_user","ts":1,"who":"a","why":"b","user_hash":"0123456789abcdef"}'
NO_ITEM = b'{"item_id": 3}'


def batch(topic: str, *values: bytes, first: int = 0) -> RecordBatch:
    n = len(values)
    return RecordBatch(topic, 0, range(first, first + n), values, [T] * n)


def letters(runner: PartitionRunner, topic: str, *values: bytes, first: int = 0) -> list[Any]:
    """Apply records; return the dead letters that this asks for."""
    effects = runner.run(batch(topic, *values, first=first))
    return [orjson.loads(letter.value) for letter in effects.dead_letters]


class Worker:
    """A process with both partitions, over a store that survives it."""

    def __init__(self, store: MemoryStore) -> None:
        self.catalogue = Catalogue()
        self.pipelines = [
            PartitionPipeline(
                SPEC, number, reading=CatalogueReading(self.catalogue, tells=number == 0)
            )
            for number in range(2)
        ]
        self.runners = [PartitionRunner(one, store, one.partition, EPOCH) for one in self.pipelines]

    def letters(self, topic: str, *values: bytes, first: int = 0) -> list[Any]:
        """Apply records in both partitions, as a topic that every worker reads whole."""
        return [
            letter
            for runner in self.runners
            for letter in letters(runner, topic, *values, first=first)
        ]


@pytest.mark.parametrize(
    ("line", "field"), [(b"{", "line"), (b'{"kind":"dance"}', "line"), (ERASE, "kind")]
)
def test_an_order_that_is_not_obeyed_is_a_dead_letter_once(line: bytes, field: str) -> None:
    worker = Worker(MemoryStore())
    found = worker.letters(CONTROL, ERASE.replace(b"erase_user", b"dance"), line, first=4)[1:]
    assert [(one["topic"], one["partition"], one["offset"], one["value"]) for one in found] == [
        (CONTROL, 0, 5, line.decode())
    ]
    assert found[0]["field"] == field
    counted = [sum(one.counts.rejected.values()) for one in worker.pipelines]
    assert counted == [2, 0]
    assert [one.next_offsets[CONTROL] for one in worker.pipelines] == [6, 6]


def test_a_line_that_is_no_item_is_a_dead_letter_once() -> None:
    store = MemoryStore()
    worker = Worker(store)
    worker.catalogue.take_in(batch(ITEMS, b'{"item_id":"a"}', NO_ITEM))
    (letter,) = worker.letters(EVENTS, b"")
    assert (letter["topic"], letter["offset"], letter["field"]) == (ITEMS, 1, "item_id")
    assert worker.letters(EVENTS, b"", first=1) == []
    worker.runners[0].checkpoint()
    # Whoever reads the topic again from its beginning tells only what is new.
    after = Worker(store)
    after.catalogue.take_in(batch(ITEMS, b'{"item_id":"a"}', NO_ITEM, NO_ITEM))
    assert [one["offset"] for one in after.letters(EVENTS, b"", first=2)] == [2]


def test_a_checkpoint_does_not_cover_a_refused_item_that_is_not_told() -> None:
    store = MemoryStore()
    worker = Worker(store)
    worker.letters(EVENTS, b"")
    worker.catalogue.take_in(batch(ITEMS, b'{"item_id":"a"}', NO_ITEM, b'{"item_id":"b"}'))
    for runner in worker.runners:
        runner.checkpoint()
    assert [store.partitions()[number][ITEMS] for number in range(2)] == [1, 3]
    after = Worker(store)
    after.catalogue.take_in(batch(ITEMS, b'{"item_id":"a"}', NO_ITEM))
    assert [one["offset"] for one in after.letters(EVENTS, b"", first=1)] == [1]


def test_a_checkpoint_says_how_far_the_catalogue_was_known() -> None:
    store = MemoryStore()

    def saved(worker: Worker) -> int:
        worker.runners[0].checkpoint()
        return store.partitions()[0][ITEMS]

    worker = Worker(store)
    worker.catalogue.next_offset = 7
    worker.letters(EVENTS, b"")
    assert saved(worker) == 7
    worker.catalogue.next_offset = 9
    assert saved(worker) == 9
    after = Worker(store)
    assert after.pipelines[0].next_offsets == {EVENTS: 1, ITEMS: 9}
    # A process that is not that far yet takes nothing back.
    after.catalogue.next_offset = 8
    assert saved(after) == 9


@pytest.mark.parametrize(("lines", "size", "kept"), [(10_050, 10, 10_000), (40, 1_000_000, 16)])
def test_refused_items_that_nobody_tells_of_are_bounded(lines: int, size: int, kept: int) -> None:
    catalogue = Catalogue()
    line = b"{" * size
    for offset in range(lines):
        catalogue.take_in(batch(ITEMS, line, first=offset))
    assert [one.offset for one in catalogue.refused] == list(range(lines - kept, lines))


def test_refused_items_that_went_untold_are_counted_once() -> None:
    store = MemoryStore()
    worker = Worker(store)
    pipeline = worker.pipelines[0]
    lines = [NO_ITEM] * 100
    # More than are kept: the first 50 go before the partition is asked.
    for first in range(0, 10_050, 100):
        worker.catalogue.take_in(batch(ITEMS, *lines[: min(100, 10_050 - first)], first=first))
    assert pipeline.reading is not None and pipeline.reading.next_offset == 0
    assert len(worker.letters(EVENTS, b"")) == 10_000
    assert pipeline.counts.rejected[ITEMS, "other"] == 50
    assert pipeline.counts.rejected[ITEMS, "item_id"] == 10_000
    assert pipeline.join.counts.dropped["dead_letters"] == 50
    # What was told goes in silence.
    worker.catalogue.take_in(batch(ITEMS, NO_ITEM, first=10_050))
    assert len(worker.letters(EVENTS, b"", first=1)) == 1
    assert pipeline.join.counts.dropped["dead_letters"] == 50
    worker.runners[0].checkpoint()
    after = Worker(store)
    for first in range(0, 10_051, 3_000):
        n = min(3_000, 10_051 - first)
        after.catalogue.take_in(batch(ITEMS, *[NO_ITEM] * n, first=first))
    assert after.letters(EVENTS, b"", first=2) == []
    assert after.pipelines[0].join.counts.dropped["dead_letters"] == 50


def test_one_record_of_more_refused_items_than_are_kept_is_told_as_far_as_it_is_kept() -> None:
    worker = Worker(MemoryStore())
    pipeline = worker.pipelines[0]
    worker.catalogue.take_in(batch(ITEMS, b"\n".join([NO_ITEM] * 10_050), first=5))
    assert [one["line"] for one in worker.letters(EVENTS, b"")] == list(range(51, 10_051))
    assert pipeline.counts.rejected[ITEMS, "other"] == 50
    assert pipeline.counts.rejected[ITEMS, "item_id"] == 10_000
    assert worker.letters(EVENTS, b"", first=1) == []
    assert pipeline.join.counts.dropped["dead_letters"] == 50


def test_a_line_that_is_no_item_is_told_though_no_event_comes() -> None:
    worker = Worker(MemoryStore())
    idle, other = worker.pipelines
    worker.letters(EVENTS, b'{"tick":1700000000.0}')
    assert idle.tick(60.0) is None
    worker.catalogue.take_in(batch(ITEMS, NO_ITEM))
    assert other.tick(60.0) is None
    tick = idle.tick(60.0)
    assert tick is not None
    (letter,) = letters(worker.runners[0], EVENTS, tick.value or b"", first=1)
    assert (letter["topic"], letter["offset"]) == (ITEMS, 0)
    assert idle.tick(60.0) is None
