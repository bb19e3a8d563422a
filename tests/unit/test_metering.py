"""When the partitions of a process bring its metrics up to date."""

from __future__ import annotations

from dataclasses import replace

from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.metering import ProcessMeters
from stream.pipeline import PartitionPipeline


def test_partitions_feed_the_metrics_one_by_one_each_once_a_second() -> None:
    spec = replace(pipeline_spec(Settings()), n_partitions=4)
    meters = ProcessMeters(Metrics(process=False))
    for partition in range(4):
        meters.begin(PartitionPipeline(spec, partition))
    turns = [meters.next_turn(10.0) for _ in range(4)]
    assert turns == [11.0, 11.25, 11.5, 11.75]
    assert [meters.next_turn(now) for now in turns] == [12.0, 12.25, 12.5, 12.75]
