"""Every metric of the service, defined once: name, type, labels, meaning, bound on its series."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from monitoring.counts import DELAY_BOUNDS_S, ENTROPY_BOUNDS_BITS

__all__ = ["CATALOGUE", "LABEL_BOUNDS", "OTHER", "PREFIX", "Kind", "MetricSpec", "by_name"]

PREFIX: Final = "headrace_"

OTHER: Final = "other"
"""The label value that takes what no longer fits, of what adds up: of a gauge it is left out. Both
are counted in ``metrics_overflow_total``."""

LABEL_BOUNDS: Final = {
    "action": 16,
    "api": 8,
    "class": 64,
    "code": 24,
    "config": 1,
    "detector": 8,
    "k": 8,
    "label": 64,
    "lf": 256,
    "lf_a": 256,
    "lf_b": 256,
    "measure": 8,
    "metric": 128,
    "outcome": 16,
    "partition": 256,
    "policy": 32,
    "python": 1,
    "reason": 64,
    "result": 16,
    "route": 32,
    "segment": 21,
    "signal": 512,
    "stage": 8,
    "state": 8,
    "task": 32,
    "topic": 32,
    "version": 1,
    "what": 16,
}
"""How many values a label may take in one process before the rest becomes `OTHER`.

No label here can hold a user, an item or an event: those have no bound.
"""


class Kind(StrEnum):
    """Type of a metric, by Prometheus' name for it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Parameters
    ----------
    name
        Without `PREFIX`; in base units; a counter ends in ``_total``.
    help
        One sentence without a full stop.
    labels
        Names of the labels, each of them in `LABEL_BOUNDS`.
    bound
        Series that one process may hold; the next new one becomes `OTHER`.
    buckets
        Upper bounds of a histogram's buckets.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bound: int = 1
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """Return the name that Prometheus sees.

        ``bits`` is left out: promtool takes it for a quantity of data, to be given in bytes.
        """
        return PREFIX + self.name.removesuffix("_bits")


def _specs(kind: Kind, rows: Iterable[tuple[str, str, int, str]]) -> list[MetricSpec]:
    return [MetricSpec(name, kind, text, tuple(labels.split()), bound)
            for name, labels, bound, text in rows]  # fmt: skip


# name, labels, bound, meaning
_COUNTERS: Final = (
    # ingest
    (
        "events_consumed_total",
        "topic",
        32,
        "Events applied; repeats and rejected ones are counted elsewhere",
    ),
    ("event_failures_total", "topic reason", 256, "Events rejected by validation, by reason"),
    ("dead_letters_total", "topic", 32, "Rejected events, by the topic they came from"),
    ("duplicate_events_total", "", 1, "Events ignored as repeats inside the horizon"),
    ("misplaced_events_total", "", 1, "Events published anew to their user's own partition"),
    ("ignored_fields_total", "", 1, "Unknown event fields that the configuration does not keep"),
    ("rebalances_total", "", 1, "Times the consumer group gave this process other partitions"),
    ("api_requests_total", "route code", 256, "HTTP requests answered, by route and status code"),
    ("api_events_total", "route outcome", 64, "Events offered over HTTP, by what became of them"),
    ("api_received_bytes_total", "route", 32, "Bytes of HTTP request bodies, decompressed"),
    # labeling functions
    ("lf_votes_total", "lf label", 4096, "Votes of a labeling function, by class"),
    ("lf_abstains_total", "lf", 256, "Examples on which a labeling function abstained"),
    ("lf_failures_total", "lf reason", 512, "Labeling function calls that failed, by reason"),
    ("lf_overlaps_total", "lf", 256, "Examples on which it and another function voted"),
    ("lf_conflicts_total", "lf", 256, "Examples on which it and another one voted differently"),
    ("lf_model_disagreements_total", "lf", 256, "Votes against the label model's best class"),
    # labels
    ("labels_total", "task class stage", 2048, "Labels published, by most probable class"),
    ("gold_labels_total", "task", 32, "Gold labels learned from"),
    # drift
    ("drift_detections_total", "signal detector", 1024, "Changes that a detector signalled"),
    # join
    ("join_matched_total", "", 1, "Feedback joined to the exposure that it answers"),
    ("join_organic_total", "", 1, "Feedback without an exposure, that opened its own example"),
    ("join_expired_total", "", 1, "Examples closed without engagement"),
    ("join_late_corrections_total", "", 1, "Final labels revised by late feedback"),
    ("join_duplicate_rewards_total", "", 1, "Feedback that told its example nothing new"),
    ("join_dropped_total", "what", 16, "State let go because a bound was reached, by what it was"),
    # recommender
    ("recommendations_total", "policy", 32, "Recommendations served, by policy"),
    ("explorations_total", "policy", 32, "Slots filled by exploration, by policy"),
    # annotation, governance
    ("annotations_total", "outcome", 16, "Annotation requests settled, by outcome"),
    ("lf_changes_total", "action", 16, "Changes of labeling functions, by action"),
    ("reference_resets_total", "", 1, "Times a drift reference was taken anew"),
    ("checkpoints_total", "result", 16, "Checkpoints, by result"),
    ("log_trimmed_records_total", "topic", 32, "Records that the embedded log let go of"),
    ("config_reloads_total", "result", 16, "Configuration reloads, by result"),
    (
        "metrics_overflow_total",
        "metric",
        128,
        "Samples under other, or of a gauge left out: too many label values",
    ),
)

_GAUGES: Final = (
    # ingest
    ("consumer_lag_messages", "topic partition", 512, "Records in the log not yet applied"),
    ("consumer_lag_seconds", "topic", 32, "Age of the oldest record not yet applied"),
    ("checkpoint_timestamp_seconds", "partition", 256, "When the last checkpoint was written"),
    ("exchange_timestamp_seconds", "", 1, "When this worker last read what others had learned"),
    ("learner_up", "", 1, "1 if the process that learns gave its metrics, 0 if they are missing"),
    ("worker_state", "state", 8, "1 for what the Faust worker is doing, 0 for the other states"),
    ("worker_partitions", "", 1, "Partitions that this worker owns"),
    ("worker_generation", "", 1, "Generation of the consumer group that this worker is in"),
    # labeling functions
    ("lf_estimated_accuracy_ratio", "lf", 256, "Accuracy that the label model estimates"),
    (
        "lf_gold_accuracy_ratio",
        "lf",
        256,
        "Accuracy on gold labels, the random audit share if there is one",
    ),
    (
        "lf_triplet_gap_ratio",
        "lf",
        256,
        "Estimated accuracy less the triplet estimate of the same votes, two classes",
    ),
    ("lf_weight", "lf", 256, "Log odds of its votes by its estimated accuracy, in nats"),
    ("lf_coverage_ratio", "lf", 256, "Recent examples on which it voted"),
    ("lf_conflict_ratio", "lf", 256, "Recent votes that another function contradicted"),
    ("lf_disagreement_ratio", "lf", 256, "Recent votes against the label model's best class"),
    ("lf_silence_seconds", "lf", 20, "Event time since its latest vote, the 20 most silent"),
    ("lf_enabled", "lf", 256, "1 if the labeling function votes, 0 if it is switched off"),
    ("lf_pair_conflict_ratio", "lf_a lf_b", 20, "Conflicts among joint votes, worst 20 pairs"),
    ("lf_pair_correlation_ratio", "lf_a lf_b", 20, "Correlation of errors, highest 20 pairs"),
    # labels
    ("class_share_ratio", "task class", 512, "Share of a class among recent labels"),
    ("calibration_error_ratio", "task", 32, "Expected calibration error on gold labels"),
    ("brier_score", "task", 32, "Brier score on gold labels"),
    ("estimated_accuracy_ratio", "task", 32, "Mean confidence of calibrated labels"),
    # drift
    ("drift_score", "signal measure", 1024, "Distance of recent values from the reference"),
    ("drift_noise_floor", "signal measure", 1024, "Distance to be expected without any change"),
    ("drift_zscore", "signal", 512, "Change in units of its own standard deviation"),
    ("drift_reference_timestamp_seconds", "signal", 512, "When the reference was taken"),
    ("drift_reference_samples", "signal", 512, "Samples in the reference"),
    # join
    ("join_pending", "partition", 256, "Examples that wait for feedback or for their windows"),
    ("join_oldest_pending_seconds", "partition", 256, "Age of the oldest of them, event time"),
    ("outcomes_to_come_ratio", "partition outcome", 1024, "Late outcomes that are still to come"),
    ("watermark_delay_seconds", "partition", 256, "How far event time lies behind the clock"),
    # recommender
    ("prequential_hit_ratio", "k", 8, "Recent hit rate, each predicted before it is learned"),
    ("prequential_ndcg", "k", 8, "Recent nDCG, each predicted before it is learned"),
    ("prequential_loss", "", 1, "Recent log loss in nats, each predicted before it is learned"),
    ("catalogue_coverage_ratio", "", 1, "Share of items recommended lately"),
    ("novelty_bits", "", 1, "Mean self-information of recommended items, in bits"),
    ("intra_list_diversity_ratio", "", 1, "How little what is recommended together went together"),
    ("popularity_hit_ratio", "k", 8, "Hit rate of popularity alone on all engagements so far"),
    ("popularity_ndcg", "k", 8, "nDCG of popularity alone on all engagements so far"),
    ("prequential_lift_ratio", "", 1, "nDCG on all engagements so far over popularity's"),
    # annotation, segments, governance
    ("annotation_queue_size", "task", 32, "Annotation requests that wait for a person"),
    ("annotation_oldest_age_seconds", "task", 32, "Age of the oldest open annotation request"),
    ("segment_hit_ratio", "segment", 21, "Recent hit rate within a configured segment"),
    (
        "segment_label_share_ratio",
        "task segment class",
        512,
        "Recent share of a class in a segment",
    ),
    ("segment_label_confidence_ratio", "task segment", 64, "Recent confidence of labels, segment"),
    ("segment_coverage_ratio", "task segment", 64, "Recent examples with any vote, by segment"),
    ("segment_conflict_ratio", "task segment", 64, "Recent examples with a conflict, by segment"),
    ("segment_lf_coverage_ratio", "segment lf", 20, "Coverage where it differs most, 20 pairs"),
    ("segment_lf_conflict_ratio", "segment lf", 20, "Votes in conflict, worst 20 pairs"),
    ("merged_records", "what", 16, "Counted by all partitions since they began, by what"),
    ("build_info", "version python", 1, "Always 1; what is running"),
)

_REQUEST_BUCKETS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_BATCH_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# Its mean is what is shown: a bucket more is a series more for every function.
_LF_BUCKETS: Final = ()
_WAIT_BUCKETS: Final = (60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 604800.0)

# name, labels, bound, buckets, meaning
_HISTOGRAMS: Final = (
    ("batch_duration_seconds", "", 1, _BATCH_BUCKETS, "Time to process a micro-batch"),
    ("checkpoint_duration_seconds", "", 1, _BATCH_BUCKETS, "Time to write a checkpoint"),
    ("api_request_duration_seconds", "route", 32, _REQUEST_BUCKETS, "Time to answer a request"),
    ("lf_duration_seconds", "lf", 256, _LF_BUCKETS, "Time of a labeling function per batch"),
    ("label_entropy_bits", "task", 32, ENTROPY_BOUNDS_BITS, "Entropy of published labels, in bits"),
    ("join_delay_seconds", "", 1, DELAY_BOUNDS_S, "Event time from exposure to its feedback"),
    ("recommend_duration_seconds", "", 1, _REQUEST_BUCKETS, "Time to rank for one request"),
    ("update_duration_seconds", "", 1, _BATCH_BUCKETS, "Time of a recommender update"),
    (
        "annotation_latency_seconds",
        "task",
        32,
        _WAIT_BUCKETS,
        "Event time from an example to a person's answer",
    ),
)

CATALOGUE: Final[tuple[MetricSpec, ...]] = (
    *_specs(Kind.COUNTER, _COUNTERS),
    *_specs(Kind.GAUGE, _GAUGES),
    *(
        MetricSpec(name, Kind.HISTOGRAM, text, tuple(labels.split()), bound, buckets)
        for name, labels, bound, buckets, text in _HISTOGRAMS
    ),
)


def by_name(specs: Iterable[MetricSpec]) -> dict[str, MetricSpec]:
    """Return the specs by name; two of one name, or a label without a bound, raise ValueError."""
    found: dict[str, MetricSpec] = {}
    for spec in specs:
        unbounded = [label for label in spec.labels if label not in LABEL_BOUNDS]
        if spec.name in found or unbounded:
            raise ValueError(f"metric {spec.name}: defined twice, or unbounded labels {unbounded}")
        found[spec.name] = spec
    return found
