"""Annotation and segments: the people who answer, the people who are served, what was changed."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.frame import Row, dashboard, variable
from monitoring.dashboards.panels import SERVICE, Limits, Query, bars, graph, table

__all__ = ["people"]

_S: Final = SERVICE
_TASK: Final = f'{_S}, task=~"$task"'
_SEGMENT: Final = f'{_S}, segment=~"$segment"'
_R: Final = "$__rate_interval"


def people() -> Dashboard:
    """Return the dashboard for annotators, segments and governance."""
    return dashboard(
        "headrace-people",
        "Headrace / Annotation and segments",
        "Questions to annotators and how long they wait; segments side by side; changes made.",
        [_annotation(), _segments(), _governance()],
        variables=[
            variable("task", "Task", 'label_values(headrace_labels_total{job=~"$job"}, task)'),
            variable(
                "segment",
                "Segment",
                'label_values(headrace_segment_hit_ratio{job=~"$job"}, segment)',
            ),
        ],
    )


def _annotation() -> Row:
    buckets = f"sum by (le, task) (rate(headrace_annotation_latency_seconds_bucket{{{_TASK}}}[1h]))"
    return (
        "Annotation",
        [
            graph(
                "Open questions",
                "Annotation requests that wait for a person.",
                "short",
                Query(f"max by (task) (headrace_annotation_queue_size{{{_TASK}}})", "{{task}}"),
                runbook="AnnotationQueueOld",
                width=6,
            ),
            graph(
                "Oldest question",
                "Age of the oldest open annotation request.",
                "s",
                Query(
                    f"max by (task) (headrace_annotation_oldest_age_seconds{{{_TASK}}})",
                    "{{task}}",
                ),
                limits=Limits(43_200, 86_400),
                runbook="AnnotationQueueOld",
                width=6,
            ),
            graph(
                "Answers",
                "Annotation requests settled, by outcome, in the time of a point.",
                "none",
                Query(
                    f"sum by (outcome) (increase(headrace_annotations_total{{{_S}}}[{_R}]))",
                    "{{outcome}}",
                ),
                stacked=True,
                runbook="AnnotationQueueOld",
                width=6,
            ),
            graph(
                "Time to an answer",
                "From the request to a person's answer; half are faster, and nine of ten.",
                "s",
                Query(f"histogram_quantile(0.5, {buckets})", "{{task}} p50"),
                Query(f"histogram_quantile(0.9, {buckets})", "{{task}} p90"),
                runbook="AnnotationQueueOld",
                width=6,
            ),
        ],
    )


def _segments() -> Row:
    return (
        "Segments",
        [
            graph(
                "Hit rate by segment",
                "How often the chosen item was among those recommended, within a segment.",
                "percentunit",
                Query(
                    f"avg by (segment) (headrace_segment_hit_ratio{{{_SEGMENT}}})", "{{segment}}"
                ),
                runbook="SegmentDegraded",
                width=8,
            ),
            bars(
                "Hit rate against all",
                "Hit rate of each segment, in shares of the hit rate of all.",
                "percentunit",
                Query(
                    f"avg by (segment) (headrace_segment_hit_ratio{{{_SEGMENT}}})"
                    " / on () group_left () "
                    f'avg(headrace_prequential_hit_ratio{{{_S}, k="10"}})',
                    "{{segment}}",
                ),
                limits=Limits(0.8, 0.6),
                runbook="SegmentDegraded",
                width=8,
            ),
            graph(
                "Labels by segment",
                "Share of each class among the labels of a segment.",
                "percentunit",
                Query(
                    f"avg by (segment, class) (headrace_segment_label_share_ratio{{{_SEGMENT}}})",
                    "{{segment}} {{class}}",
                ),
                runbook="LabelShift",
                width=8,
                top=1,
            ),
            table(
                "What stands behind a segment",
                "Recommender quality beside confidence, coverage and conflict of its labels.",
                "percentunit",
                [
                    ("Hit rate", f"avg by (segment) (headrace_segment_hit_ratio{{{_SEGMENT}}})"),
                    (
                        "Confidence",
                        f"avg by (segment) (headrace_segment_label_confidence_ratio{{{_SEGMENT}}})",
                    ),
                    (
                        "Coverage",
                        f"avg by (segment) (headrace_segment_coverage_ratio{{{_SEGMENT}}})",
                    ),
                    (
                        "Conflict",
                        f"avg by (segment) (headrace_segment_conflict_ratio{{{_SEGMENT}}})",
                    ),
                ],
                keys=["segment"],
                shaded=[("Conflict", Limits(0.3, 0.5))],
                runbook="SegmentDegraded",
            ),
            table(
                "Functions behind a segment",
                "Where coverage differs most from everywhere, and where votes conflict most.",
                "percentunit",
                [
                    (
                        "Coverage",
                        f"avg by (segment, lf) (headrace_segment_lf_coverage_ratio{{{_SEGMENT}}})",
                    ),
                    (
                        "Conflict",
                        f"avg by (segment, lf) (headrace_segment_lf_conflict_ratio{{{_SEGMENT}}})",
                    ),
                ],
                keys=["segment", "lf"],
                shaded=[("Conflict", Limits(0.3, 0.5))],
                runbook="SegmentDegraded",
            ),
        ],
    )


def _governance() -> Row:
    return (
        "Changes",
        [
            graph(
                "Labeling functions changed",
                "Switched on or off, or given a new version, in the time of a point.",
                "none",
                Query(
                    f"sum by (action) (increase(headrace_lf_changes_total{{{_S}}}[{_R}]))",
                    "{{action}}",
                ),
                runbook="LFDrift",
                width=8,
            ),
            graph(
                "References taken anew",
                "Drift references reset by command, in the time of a point.",
                "none",
                Query(f"sum(increase(headrace_reference_resets_total{{{_S}}}[{_R}]))", "resets"),
                runbook="LFDrift",
                width=8,
            ),
            graph(
                "Configuration reloads",
                "Reloads by result, in the time of a point.",
                "none",
                Query(
                    f"sum by (result) (increase(headrace_config_reloads_total{{{_S}}}[{_R}]))",
                    "{{result}}",
                ),
                runbook="ServiceDown",
                width=8,
            ),
        ],
    )
