"""Drift: how far signals have moved from their reference, beside what chance alone would do."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.frame import Row, dashboard, variable
from monitoring.dashboards.panels import SERVICE, Limits, Query, bars, figure, graph, table

__all__ = ["drift"]

_S: Final = f'{SERVICE}, signal=~"$signal"'


def drift() -> Dashboard:
    """Return the dashboard that a drift alert leads to."""
    return dashboard(
        "headrace-drift",
        "Headrace / Drift",
        "Votes, labels, features, predictions and rewards against their frozen references.",
        [_now(), _course(), _reference()],
        variables=[
            variable("signal", "Signal", 'label_values(headrace_drift_zscore{job=~"$job"}, signal)')
        ],
    )


def _now() -> Row:
    return (
        "Now",
        [
            figure(
                "Greatest change",
                "Largest change of any signal, in its own standard deviations.",
                "short",
                f"max(abs(headrace_drift_zscore{{{_S}}}))",
                limits=Limits(4, 8),
                decimals=1,
                runbook="LFDrift",
                width=6,
            ),
            figure(
                "Detections in the last hour",
                "Changes that a detector signalled, all signals.",
                "none",
                f"sum(increase(headrace_drift_detections_total{{{_S}}}[1h]))",
                limits=Limits(1, 5),
                runbook="LFDrift",
                width=6,
            ),
            figure(
                "Oldest reference",
                "Age of the reference that was taken the longest ago.",
                "s",
                f"time() - min(headrace_drift_reference_timestamp_seconds{{{_S}}})",
                limits=Limits(2_592_000, 7_776_000),
                runbook="LFDrift",
                width=6,
            ),
            figure(
                "Smallest reference",
                "Samples in the reference that has the fewest.",
                "short",
                f"min(headrace_drift_reference_samples{{{_S}}})",
                limits=Limits(5_000, 1_000),
                runbook="LFDrift",
                width=6,
            ),
            bars(
                "Change by signal",
                "Change of each signal's decayed mean, in its own standard deviations; the twenty "
                "largest.",
                "short",
                Query(
                    f"topk(20, max by (signal) (abs(headrace_drift_zscore{{{_S}}})))",
                    "{{signal}}",
                ),
                limits=Limits(4, 8),
                runbook="LFDrift",
            ),
            table(
                "Distance against its noise floor",
                "Distance from the reference, what is to be expected without any change, and "
                "their ratio. Look at ratios: a distance alone says nothing.",
                "short",
                [
                    ("Distance", f"max by (signal, measure) (headrace_drift_score{{{_S}}})"),
                    (
                        "Noise floor",
                        f"max by (signal, measure) (headrace_drift_noise_floor{{{_S}}})",
                    ),
                    (
                        "Ratio",
                        f"max by (signal, measure) (headrace_drift_score{{{_S}}}"
                        f" / headrace_drift_noise_floor{{{_S}}})",
                    ),
                ],
                keys=["signal", "measure"],
                shaded=[("Ratio", Limits(3, 10))],
                runbook="FeatureDrift",
                width=12,
                height=8,
            ),
        ],
    )


def _course() -> Row:
    return (
        "Course",
        [
            graph(
                "Change",
                "Change of each signal's decayed mean against its reference, in its own standard "
                "deviations.",
                "short",
                Query(f"max by (signal) (headrace_drift_zscore{{{_S}}})", "{{signal}}"),
                limits=Limits(4, 8),
                runbook="LFDrift",
            ),
            graph(
                "Distance over noise floor",
                "1 is what chance does; a real change of relevant size lies far above.",
                "short",
                Query(
                    f"max by (signal, measure) (headrace_drift_score{{{_S}}}"
                    f" / headrace_drift_noise_floor{{{_S}}})",
                    "{{signal}} {{measure}}",
                ),
                limits=Limits(3, 10),
                runbook="FeatureDrift",
            ),
            graph(
                "Distance and noise floor",
                "Both parts of the ratio beside it.",
                "short",
                Query(
                    f"max by (signal, measure) (headrace_drift_score{{{_S}}})",
                    "{{signal}} {{measure}}",
                ),
                Query(
                    f"max by (signal, measure) (headrace_drift_noise_floor{{{_S}}})",
                    "floor of {{signal}} {{measure}}",
                ),
                runbook="LabelShift",
            ),
            graph(
                "Detections",
                "Changes signalled in the time of a point, by detector. ADWIN is information: it "
                "reacts to bursts of like events, too.",
                "none",
                Query(
                    "sum by (signal, detector) "
                    f"(increase(headrace_drift_detections_total{{{_S}}}[$__rate_interval]))",
                    "{{signal}} {{detector}}",
                ),
                runbook="PredictionDrift",
            ),
        ],
    )


def _reference() -> Row:
    return (
        "Reference",
        [
            graph(
                "Age of references",
                "Time since each reference was taken.",
                "s",
                Query(
                    "time() - max by (signal) "
                    f"(headrace_drift_reference_timestamp_seconds{{{_S}}})",
                    "{{signal}}",
                ),
                runbook="LFDrift",
                width=8,
            ),
            graph(
                "Samples in references",
                "How many values a reference rests on.",
                "short",
                Query(f"min by (signal) (headrace_drift_reference_samples{{{_S}}})", "{{signal}}"),
                runbook="LFDrift",
                width=8,
            ),
            graph(
                "References taken anew",
                "Resets by command, in the time of a point.",
                "none",
                Query(
                    "sum by (instance) "
                    f"(increase(headrace_reference_resets_total{{{SERVICE}}}[$__rate_interval]))",
                    "{{instance}}",
                ),
                runbook="LFDrift",
                width=8,
            ),
        ],
    )
