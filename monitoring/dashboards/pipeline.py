"""Pipeline: from the door to the checkpoint, and the processes that do it."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.frame import Row, dashboard
from monitoring.dashboards.panels import SERVICE, Limits, Query, graph, heat, table

__all__ = ["pipeline"]

_S: Final = SERVICE
_R: Final = "$__rate_interval"


def _sum_rate(metric: str, by: str = "") -> str:
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}(rate(headrace_{metric}{{{_S}}}[{_R}]))"


def pipeline() -> Dashboard:
    """Return the dashboard for who operates the service."""
    return dashboard(
        "headrace-pipeline",
        "Headrace / Pipeline",
        "Intake, lag, batches, checkpoints, the HTTP door, and the processes themselves.",
        [_intake(), _lag(), _checkpoints(), _door(), _processes()],
    )


def _intake() -> Row:
    return (
        "Intake",
        [
            graph(
                "Events applied",
                "Records applied a second, by process and topic.",
                "eps",
                Query(
                    _sum_rate("events_consumed_total", "instance, topic"),
                    "{{instance}} {{topic}}",
                ),
                runbook="EventConsumptionStalled",
                width=8,
            ),
            graph(
                "Rejected",
                "Records that validation refused a second, by reason; all are in the dead letters.",
                "eps",
                Query(_sum_rate("event_failures_total", "topic, reason"), "{{topic}} {{reason}}"),
                Query(_sum_rate("dead_letters_total", "topic"), "dead letters of {{topic}}"),
                limits=Limits(1, 100),
                runbook="EventConsumptionStalled",
                width=8,
            ),
            graph(
                "Ignored and moved",
                "Repeated events, events published anew to their own partition, and fields that "
                "the configuration does not keep; a second.",
                "eps",
                Query(_sum_rate("duplicate_events_total"), "duplicates"),
                Query(_sum_rate("misplaced_events_total"), "misplaced"),
                Query(_sum_rate("ignored_fields_total"), "ignored fields"),
                runbook="LagHigh",
                width=8,
            ),
        ],
    )


def _lag() -> Row:
    return (
        "Lag and batches",
        [
            graph(
                "Records waiting",
                "Records in the log that are not applied yet, by partition.",
                "short",
                Query(
                    f"max by (topic, partition) (headrace_consumer_lag_messages{{{_S}}})",
                    "{{topic}} {{partition}}",
                ),
                limits=Limits(10_000, 100_000),
                runbook="LagHigh",
                width=8,
            ),
            graph(
                "Age of what waits",
                "Age of the oldest record that is not applied yet.",
                "s",
                Query(
                    f"max by (topic) (headrace_consumer_lag_seconds{{{_S}}})",
                    "{{topic}}",
                ),
                limits=Limits(30, 60),
                runbook="LagHigh",
                width=8,
            ),
            graph(
                "Rebalances",
                "Times the group gave a process other partitions, in the time of a point.",
                "none",
                Query(
                    f"sum by (instance) (increase(headrace_rebalances_total{{{_S}}}[{_R}]))",
                    "{{instance}}",
                ),
                runbook="LagHigh",
                width=8,
            ),
            graph(
                "State of workers",
                "Faust workers by what they are doing; the embedded service has none.",
                "none",
                Query(f"sum by (state) (headrace_worker_state{{{_S}}})", "{{state}}"),
                runbook="EventConsumptionStalled",
                width=12,
            ),
            graph(
                "Partitions of workers",
                "Partitions that each Faust worker owns, and its generation of the group.",
                "none",
                Query(f"sum by (instance) (headrace_worker_partitions{{{_S}}})", "{{instance}}"),
                Query(f"max by (instance) (headrace_worker_generation{{{_S}}})", "generation"),
                runbook="EventConsumptionStalled",
                width=12,
            ),
            heat(
                "Time of a batch",
                "Time to process a micro-batch.",
                "s",
                _sum_rate("batch_duration_seconds_bucket", "le"),
                runbook="LagHigh",
                width=12,
            ),
            graph(
                "Busy",
                "Share of its time that a process spends processing batches. Near 1 it cannot "
                "take more: add workers.",
                "percentunit",
                Query(_sum_rate("batch_duration_seconds_sum", "instance"), "{{instance}}"),
                limits=Limits(0.7, 0.9),
                runbook="LagHigh",
                width=12,
                top=1,
            ),
        ],
    )


def _checkpoints() -> Row:
    buckets = f"sum by (le) (rate(headrace_checkpoint_duration_seconds_bucket{{{_S}}}[{_R}]))"
    return (
        "Checkpoints",
        [
            graph(
                "Age of checkpoints",
                "Time since each partition was saved.",
                "s",
                Query(
                    f"time() - max by (partition) (headrace_checkpoint_timestamp_seconds{{{_S}}})",
                    "partition {{partition}}",
                ),
                limits=Limits(60, 120),
                runbook="CheckpointFailing",
                width=8,
            ),
            graph(
                "Age of what others learned",
                "Time since each worker last read what the other workers had saved.",
                "s",
                Query(
                    f"time() - max by (instance) (headrace_exchange_timestamp_seconds{{{_S}}})",
                    "{{instance}}",
                ),
                limits=Limits(10, 60),
                runbook="CheckpointFailing",
                width=8,
            ),
            graph(
                "Checkpoints by result",
                "Checkpoints a second. Refused: a newer owner has taken the partition.",
                "ops",
                Query(_sum_rate("checkpoints_total", "result"), "{{result}}"),
                runbook="CheckpointFailing",
                width=8,
            ),
            graph(
                "Records let go",
                "Records a second that the embedded log gave up, by age or size.",
                "ops",
                Query(_sum_rate("log_trimmed_records_total", "topic"), "{{topic}}"),
                width=8,
            ),
            graph(
                "Time of a checkpoint",
                "Time to write a partition's state.",
                "s",
                Query(f"histogram_quantile(0.5, {buckets})", "p50"),
                Query(f"histogram_quantile(0.99, {buckets})", "p99"),
                limits=Limits(1, 2.5),
                runbook="CheckpointFailing",
                width=8,
            ),
        ],
    )


def _door() -> Row:
    buckets = (
        f"sum by (le, route) (rate(headrace_api_request_duration_seconds_bucket{{{_S}}}[{_R}]))"
    )
    return (
        "HTTP",
        [
            graph(
                "Requests",
                "Requests answered a second, by route and status code.",
                "reqps",
                Query(_sum_rate("api_requests_total", "route, code"), "{{route}} {{code}}"),
                runbook="ServiceDown",
                width=6,
            ),
            graph(
                "Time to answer, p99",
                "Ninety-nine of a hundred requests are faster.",
                "s",
                Query(f"histogram_quantile(0.99, {buckets})", "{{route}}"),
                limits=Limits(0.1, 0.25),
                runbook="LatencyBudgetBurn",
                width=6,
            ),
            graph(
                "Events offered",
                "Events and items offered over HTTP a second, by what became of them.",
                "eps",
                Query(_sum_rate("api_events_total", "route, outcome"), "{{route}} {{outcome}}"),
                runbook="EventConsumptionStalled",
                width=6,
            ),
            graph(
                "Bytes received",
                "Request bodies, decompressed.",
                "Bps",
                Query(_sum_rate("api_received_bytes_total", "route"), "{{route}}"),
                runbook="LatencyBudgetBurn",
                width=6,
            ),
        ],
    )


def _processes() -> Row:
    return (
        "Processes",
        [
            graph(
                "Memory",
                "Resident memory of each process.",
                "bytes",
                Query(f"process_resident_memory_bytes{{{_S}}}", "{{instance}}"),
                runbook="ServiceDown",
                width=6,
            ),
            graph(
                "CPU",
                "Cores in use by each process.",
                "short",
                Query(f"rate(process_cpu_seconds_total{{{_S}}}[{_R}])", "{{instance}}"),
                runbook="LagHigh",
                width=6,
            ),
            graph(
                "Open files",
                "Share of the file descriptors that a process may open.",
                "percentunit",
                Query(f"process_open_fds{{{_S}}} / process_max_fds{{{_S}}}", "{{instance}}"),
                limits=Limits(0.7, 0.9),
                runbook="ServiceDown",
                width=6,
            ),
            graph(
                "Samples without a series",
                "Samples under `other`, or of gauges left out: too many label values, by metric.",
                "none",
                Query(
                    "sum by (metric) "
                    f"(increase(headrace_metrics_overflow_total{{{_S}}}[{_R}]))",
                    "{{metric}}",
                ),
                runbook="LFConflictHigh",
                width=6,
            ),
            table(
                "All partitions",
                "What they counted since they began, as of their checkpoints.",
                "short",
                [("Records", f"max by (what) (headrace_merged_records{{{_S}}})")],
                keys=["what"],
                runbook="EventConsumptionStalled",
                height=6,
            ),
            table(
                "Versions",
                "What runs where, and since when.",
                "none",
                [
                    ("Running", f"max by (instance, job, version, python) "
                                f"(headrace_build_info{{{_S}}})"),
                    ("Started", f"process_start_time_seconds{{{_S}}} * 1000"),
                ],
                keys=["instance", "job", "version", "python"],
                units={"Started": "dateTimeFromNow", "Running": "bool_yes_no"},
                runbook="ServiceDown",
                height=6,
            ),
        ],
    )  # fmt: skip
