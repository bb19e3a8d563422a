"""The metric that compares accuracies with an estimate that shares the votes only."""

from __future__ import annotations

from models.checks import planted_votes
from monitoring.metrics import Metrics
from stream.assembly import pipeline_spec
from stream.config import Settings
from stream.metering import ProcessMeters
from stream.pipeline import PartitionPipeline


def test_the_gap_to_the_triplet_estimate_is_a_metric_of_each_function_that_has_one() -> None:
    spec = pipeline_spec(Settings())
    pipeline = PartitionPipeline(spec, 0)
    task = pipeline.labelling.tasks["relevance"]
    votes, _ = planted_votes(2_000, len(task.names), 2)
    # The others are silent: nobody agrees with them.
    votes[:, 6:] = -1
    task.model.learn_many(votes)
    metrics = Metrics()
    meters = ProcessMeters(metrics)
    meters.begin(pipeline)
    meters.update(0.0)
    lines = metrics.render().decode().splitlines()
    shown = {
        line.partition('"')[2].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("headrace_lf_triplet_gap_ratio{")
    }
    assert set(shown) == set(task.names[:6])
    assert max(abs(gap) for gap in shown.values()) < 0.15
