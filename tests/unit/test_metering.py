"""When the partitions of a process bring its metrics up to date."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.metrics import Metrics
from stream import metering
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.events import EVENTS
from stream.metering import MeteredPipeline, ProcessMeters
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.state import PartitionHead


def test_partitions_feed_the_metrics_one_by_one_each_once_a_second() -> None:
    spec = replace(pipeline_spec(Settings()), n_partitions=4)
    meters = ProcessMeters(Metrics(process=False))
    for partition in range(4):
        meters.begin(PartitionPipeline(spec, partition))
    turns = [meters.next_turn(10.0) for _ in range(4)]
    assert turns == [11.0, 11.25, 11.5, 11.75]
    assert [meters.next_turn(now) for now in turns] == [12.0, 12.25, 12.5, 12.75]


def test_of_partitions_that_come_to_rest_together_none_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metering, "_MERGE_EVERY_S", 1e9)
    monkeypatch.setattr(metering, "_REST_EVERY_S", 0.0)
    metrics = Metrics(process=False)
    meters = ProcessMeters(metrics)
    spec = replace(pipeline_spec(Settings()), n_partitions=2)
    both = [MeteredPipeline(PartitionPipeline(spec, n), metrics, meters) for n in range(2)]
    for one in both:
        one.restore(PartitionHead(one.pipeline.partition))
        assert one.tell()

    def apply(number: int) -> None:
        one = both[number]
        line = b'{"event_id":"e","type":"click","ts":1700000000,"user_id":"u%d","item_id":"i"}'
        batch = RecordBatch(EVENTS, number, [0], [line % (1 - number)], [1.8e9])
        one.process(one.prepare(batch), {})

    apply(0)
    assert both[0].tell()
    monkeypatch.setattr(metering, "_REST_EVERY_S", 1e9)
    apply(1)
    # What the first has just had merged lacks the second.
    assert both[0].tell()
    assert not both[1].tell()
    monkeypatch.setattr(metering, "_REST_EVERY_S", 0.0)
    merges = meters.merges
    assert both[1].tell() and both[1].tell() and both[0].tell()
    assert meters.merges == merges + 1
