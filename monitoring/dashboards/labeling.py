"""Labeling: each function, how they get along, and what the label model makes of them."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.frame import Row, dashboard, variable
from monitoring.dashboards.panels import SERVICE, Limits, Query, graph, heat, table

__all__ = ["labeling"]

_LF: Final = f'{SERVICE}, lf=~"$lf"'
_TASK: Final = f'{SERVICE}, task=~"$task"'
_R: Final = "$__rate_interval"


def _rate(metric: str, by: str = "lf", matchers: str = _LF) -> str:
    return f"sum by ({by}) (rate(headrace_{metric}{{{matchers}}}[{_R}]))"


_CALLS: Final = f"({_rate('lf_votes_total')} + {_rate('lf_abstains_total')})"


def labeling() -> Dashboard:
    """Return the dashboard for who writes labeling functions."""
    return dashboard(
        "headrace-labeling",
        "Headrace / Labeling",
        "Coverage, conflict and accuracy of each labeling function; certainty, balance and "
        "calibration of the labels.",
        [_functions(), _votes(), _pairs(), _labels(), _gold()],
        variables=[
            variable("task", "Task", 'label_values(headrace_labels_total{job=~"$job"}, task)'),
            variable(
                "lf",
                "Labeling function",
                'label_values(headrace_lf_abstains_total{job=~"$job"}, lf)',
            ),
        ],
    )


def _functions() -> Row:
    return (
        "Labeling functions",
        [
            table(
                "Labeling functions",
                "One row each. Overlap and conflict are shares of all examples and of the "
                "overlapping ones; disagreement is the share of votes against the label model. "
                "Failures are those of the time range.",
                "percentunit",
                [
                    ("On", f"max by (lf) (headrace_lf_enabled{{{_LF}}})"),
                    ("Coverage", f"{_rate('lf_votes_total')} / {_CALLS}"),
                    ("Overlap", f"{_rate('lf_overlaps_total')} / {_CALLS}"),
                    ("Conflict", f"{_rate('lf_conflicts_total')} / {_rate('lf_overlaps_total')}"),
                    (
                        "Disagreement",
                        f"{_rate('lf_model_disagreements_total')} / {_rate('lf_votes_total')}",
                    ),
                    (
                        "Estimated accuracy",
                        f"avg by (lf) (headrace_lf_estimated_accuracy_ratio{{{_LF}}})",
                    ),
                    ("Gold accuracy", f"avg by (lf) (headrace_lf_gold_accuracy_ratio{{{_LF}}})"),
                    (
                        # 0 where votes are too few or too one-sided for a second estimate.
                        "Gap to triplets",
                        f"avg by (lf) (headrace_lf_triplet_gap_ratio{{{_LF}}}) or "
                        f"0 * avg by (lf) (headrace_lf_enabled{{{_LF}}})",
                    ),
                    ("Weight", f"avg by (lf) (headrace_lf_weight{{{_LF}}})"),
                    (
                        "Failures",
                        f"sum by (lf) (increase(headrace_lf_failures_total{{{_LF}}}[$__range]))",
                    ),
                ],
                keys=["lf"],
                units={"On": "bool_on_off", "Weight": "short", "Failures": "short"},
                shaded=[
                    ("Conflict", Limits(0.3, 0.5)),
                    ("Disagreement", Limits(0.25, 0.4)),
                    ("Estimated accuracy", Limits(0.65, 0.55)),
                    ("Failures", Limits(1, 100)),
                ],
                runbook="LFConflictHigh",
            ),
        ],
    )


def _votes() -> Row:
    return (
        "Votes",
        [
            graph(
                "Coverage",
                "Share of examples on which a function voted.",
                "percentunit",
                Query(f"{_rate('lf_votes_total')} / {_CALLS}", "{{lf}}"),
                runbook="LFCoverageCollapse",
                width=8,
            ),
            graph(
                "Votes by class",
                "Votes a second of each function, by class.",
                "ops",
                Query(_rate("lf_votes_total", "lf, label"), "{{lf}} {{label}}"),
                runbook="LFDrift",
                width=8,
            ),
            graph(
                "Estimated accuracy",
                "What the label model thinks a vote is worth, mean of the workers.",
                "percentunit",
                Query(f"avg by (lf) (headrace_lf_estimated_accuracy_ratio{{{_LF}}})", "{{lf}}"),
                limits=Limits(0.65, 0.55),
                runbook="LFAccuracyDrop",
                width=8,
                top=1,
            ),
            graph(
                "Conflict",
                "Where another function votes, too: share of examples on which one differs.",
                "percentunit",
                Query(
                    f"{_rate('lf_conflicts_total')} / {_rate('lf_overlaps_total')}",
                    "{{lf}}",
                ),
                limits=Limits(0.3, 0.5),
                runbook="LFConflictHigh",
                width=8,
            ),
            graph(
                "Disagreement with the label model",
                "Share of a function's votes that are not the most probable class.",
                "percentunit",
                Query(
                    f"{_rate('lf_model_disagreements_total')} / {_rate('lf_votes_total')}",
                    "{{lf}}",
                ),
                limits=Limits(0.25, 0.4),
                runbook="LFConflictHigh",
                width=8,
            ),
            graph(
                "Failures",
                "Examples a second on which a function raised or answered what is no class.",
                "ops",
                Query(_rate("lf_failures_total", "lf, reason"), "{{lf}} {{reason}}"),
                limits=Limits(0.1, 1),
                runbook="LFFailures",
                width=8,
            ),
            graph(
                "Time in labeling functions",
                "Seconds of a second spent in each function.",
                "percentunit",
                Query(_rate("lf_duration_seconds_sum"), "{{lf}}"),
                stacked=True,
                runbook="LagHigh",
                width=12,
            ),
            graph(
                "Weight",
                "What a vote adds to the log-odds of its class, in nats, mean of the workers.",
                "short",
                Query(f"avg by (lf) (headrace_lf_weight{{{_LF}}})", "{{lf}}"),
                runbook="LFAccuracyDrop",
                width=12,
            ),
            graph(
                "Trend of the estimated accuracy",
                "By how much the estimate changes in an hour, at the pace of the last half.",
                "percentunit",
                Query('lf:headrace_lf_estimated_accuracy:change_per_hour{lf=~"$lf"}', "{{lf}}"),
                runbook="LFAccuracyDrop",
                width=12,
            ),
            graph(
                "Longest silence",
                "Event time since the latest vote, of the twenty most silent functions.",
                "s",
                Query(f"max by (lf) (headrace_lf_silence_seconds{{{_LF}}})", "{{lf}}"),
                runbook="LFSilent",
                width=12,
            ),
            table(
                "Lately",
                "The last thousand labels, decayed: who voted, who was contradicted, by whom.",
                "percentunit",
                [
                    ("Coverage", f"avg by (lf) (headrace_lf_coverage_ratio{{{_LF}}})"),
                    ("Conflict", f"avg by (lf) (headrace_lf_conflict_ratio{{{_LF}}})"),
                    (
                        "Against the model",
                        f"avg by (lf) (headrace_lf_disagreement_ratio{{{_LF}}})",
                    ),
                ],
                keys=["lf"],
                shaded=[
                    ("Conflict", Limits(0.3, 0.5)),
                    ("Against the model", Limits(0.25, 0.4)),
                ],
                runbook="LFConflictHigh",
            ),
        ],
    )


def _pairs() -> Row:
    pair = f'{SERVICE}, lf_a=~"$lf"'
    return (
        "Pairs",
        [
            table(
                "Pairs in conflict",
                "The twenty pairs that differ most often where both vote.",
                "percentunit",
                [
                    (
                        "Conflict",
                        "topk(20, max by (lf_a, lf_b) "
                        f"(headrace_lf_pair_conflict_ratio{{{pair}}}))",
                    )
                ],
                keys=["lf_a", "lf_b"],
                shaded=[("Conflict", Limits(0.3, 0.5))],
                runbook="LFConflictHigh",
                width=12,
            ),
            table(
                "Pairs that err together",
                "The twenty pairs whose errors correlate most: they count as less than two.",
                "percentunit",
                [
                    (
                        "Correlation",
                        "topk(20, max by (lf_a, lf_b) "
                        f"(headrace_lf_pair_correlation_ratio{{{pair}}}))",
                    )
                ],
                keys=["lf_a", "lf_b"],
                shaded=[("Correlation", Limits(0.5, 0.9))],
                runbook="LFConflictHigh",
                width=12,
            ),
        ],
    )


def _labels() -> Row:
    by_class = "task, class, stage"
    return (
        "Labels",
        [
            graph(
                "Share of classes",
                "Share of each class among recent labels.",
                "percentunit",
                Query(
                    f"avg by (task, class) (headrace_class_share_ratio{{{_TASK}}})",
                    "{{task}} {{class}}",
                ),
                runbook="LabelShift",
                width=8,
                top=1,
            ),
            graph(
                "Labels by class and stage",
                "Labels published a second, by their most probable class.",
                "ops",
                Query(_rate("labels_total", by_class, _TASK), "{{task}} {{class}} {{stage}}"),
                stacked=True,
                runbook="LabelShift",
                width=8,
            ),
            heat(
                "Entropy of labels",
                "How uncertain labels are, in bits; 1 is complete ignorance of a binary task.",
                "short",
                _rate("label_entropy_bucket", "le", _TASK),
                runbook="CalibrationError",
                width=8,
            ),
        ],
    )


def _gold() -> Row:
    return (
        "Against people's answers",
        [
            graph(
                "Gold labels",
                "Answers of people that were learned from, a second.",
                "ops",
                Query(_rate("gold_labels_total", "task", _TASK), "{{task}}"),
                runbook="AnnotationQueueOld",
                width=6,
            ),
            graph(
                "Calibration error",
                "Mean distance between confidence and accuracy on gold labels.",
                "percentunit",
                Query(f"avg by (task) (headrace_calibration_error_ratio{{{_TASK}}})", "{{task}}"),
                limits=Limits(0.05, 0.1),
                runbook="CalibrationError",
                width=6,
            ),
            graph(
                "Brier score",
                "Mean squared distance of probabilities from gold labels; 0 is perfect.",
                "short",
                Query(f"avg by (task) (headrace_brier_score{{{_TASK}}})", "{{task}}"),
                runbook="CalibrationError",
                width=6,
            ),
            graph(
                "Accuracy without truth, and with",
                "Mean confidence of calibrated labels beside each function's accuracy on gold.",
                "percentunit",
                Query(
                    f"avg by (task) (headrace_estimated_accuracy_ratio{{{_TASK}}})",
                    "labels of {{task}}, estimated",
                ),
                Query(f"avg by (lf) (headrace_lf_gold_accuracy_ratio{{{_LF}}})", "{{lf}} on gold"),
                runbook="LFAccuracyDrop",
                width=6,
                top=1,
            ),
        ],
    )
