"""Overview: is it up, does it keep up, are labels and recommendations as good as they were."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.frame import Row, dashboard
from monitoring.dashboards.panels import SERVICE, Limits, Query, figure, graph, table

__all__ = ["overview"]

S = SERVICE


def overview() -> Dashboard:
    """Return the dashboard that is looked at first."""
    return dashboard(
        "headrace-overview",
        "Headrace / Overview",
        "Whether the service is up, keeps up, and is as good as it was. Start here.",
        [_now(), _alerts(), _flow(), _quality()],
    )


def _now() -> Row:
    return (
        "Now",
        [
            figure(
                "Processes down",
                "Scraped processes that do not answer, and learning ones that the process that "
                "answers for them did not hear from.",
                "none",
                f"(count(up{{{S}}} == 0) or vector(0))"
                f" + (count(headrace_learner_up{{{S}}} == 0) or vector(0))",
                limits=Limits(1, 2),
                runbook="ServiceDown",
            ),
            figure(
                "Events",
                "Events applied a second, all workers.",
                "eps",
                f"sum(rate(headrace_events_consumed_total{{{S}}}[$__rate_interval]))",
                runbook="EventConsumptionStalled",
            ),
            figure(
                "Records waiting",
                "Records in the log that are not applied yet, all partitions.",
                "short",
                f"sum(headrace_consumer_lag_messages{{{S}}})",
                limits=Limits(10_000, 100_000),
                runbook="LagHigh",
            ),
            figure(
                "Oldest checkpoint",
                "Age of the checkpoint of the partition that was saved the longest ago. An idle "
                "partition is saved with every tick.",
                "s",
                f"time() - min(max by (partition) (headrace_checkpoint_timestamp_seconds{{{S}}}))",
                limits=Limits(60, 120),
                runbook="CheckpointFailing",
            ),
            figure(
                "Slow requests",
                "Share of requests under /v1 that took more than 250 ms. Objective: 1 %.",
                "percentunit",
                "1 - sum(rate(headrace_api_request_duration_seconds_bucket"
                f'{{{S}, route=~"/v1/.*", le="0.25"}}[$__rate_interval]))'
                " / sum(rate(headrace_api_request_duration_seconds_count"
                f'{{{S}, route=~"/v1/.*"}}[$__rate_interval]))',
                limits=Limits(0.01, 0.06),
                runbook="LatencyBudgetBurn",
            ),
            figure(
                "Hit rate at 10",
                "How often the item that a person chose was among ten recommended before.",
                "percentunit",
                f'avg(headrace_prequential_hit_ratio{{{S}, k="10"}})',
                runbook="HitRateDrop",
            ),
            figure(
                "Uncertainty of labels",
                "Mean entropy of the labels just published, in bits; 1 bit is complete ignorance "
                "of a binary task.",
                "short",
                f"sum(rate(headrace_label_entropy_sum{{{S}}}[$__rate_interval]))"
                f" / sum(rate(headrace_label_entropy_count{{{S}}}[$__rate_interval]))",
                limits=Limits(0.9, 0.99),
                decimals=2,
                runbook="CalibrationError",
            ),
            figure(
                "Greatest drift",
                "Largest change of any signal, in units of its own standard deviation.",
                "short",
                f"max(abs(headrace_drift_zscore{{{S}}}))",
                limits=Limits(4, 8),
                decimals=1,
                runbook="LFDrift",
            ),
        ],
    )


def _alerts() -> Row:
    return (
        "Alerts",
        [
            table(
                "Firing",
                "Alerts that fire or wait for their time. Watchdog always fires: it shows that "
                "alerts are evaluated.",
                "none",
                [("Since", 'ALERTS_FOR_STATE * on (alertname) group_left (alertstate, severity) '
                           'max by (alertname, alertstate, severity) (ALERTS) * 1000')],
                keys=["severity", "alertname", "alertstate", "instance", "lf", "signal"],
                units={"Since": "dateTimeFromNow"},
                runbook="Watchdog",
                height=6,
            ),
        ],
    )  # fmt: skip


def _flow() -> Row:
    return (
        "Flow",
        [
            graph(
                "Events by topic",
                "Records applied a second, by the topic they came from.",
                "eps",
                Query(
                    "sum by (topic) "
                    f"(rate(headrace_events_consumed_total{{{S}}}[$__rate_interval]))",
                    "{{topic}}",
                ),
                width=8,
            ),
            graph(
                "Labels by stage",
                "Labels published a second: provisional with the first feedback, final when all "
                "windows have closed, revised by what came later.",
                "ops",
                Query(
                    f"sum by (stage) (rate(headrace_labels_total{{{S}}}[$__rate_interval]))",
                    "{{stage}}",
                ),
                stacked=True,
                width=8,
            ),
            graph(
                "Join",
                "Feedback joined to its exposure, feedback without one, and exposures that ended "
                "without feedback, a second.",
                "ops",
                Query(f"sum(rate(headrace_join_matched_total{{{S}}}[$__rate_interval]))", "joined"),
                Query(
                    f"sum(rate(headrace_join_organic_total{{{S}}}[$__rate_interval]))", "organic"
                ),
                Query(
                    f"sum(rate(headrace_join_expired_total{{{S}}}[$__rate_interval]))", "expired"
                ),
                runbook="JoinExpired",
                width=8,
            ),
        ],
    )


def _quality() -> Row:
    return (
        "Quality",
        [
            graph(
                "Recommender",
                "Hit rate and nDCG of events that were predicted before they were learned.",
                "percentunit",
                Query(f"avg by (k) (headrace_prequential_hit_ratio{{{S}}})", "hit@{{k}}"),
                Query(f"avg by (k) (headrace_prequential_ndcg{{{S}}})", "nDCG@{{k}}"),
                runbook="HitRateDrop",
                width=8,
            ),
            graph(
                "Coverage of labeling functions",
                "Share of examples on which each function voted.",
                "percentunit",
                Query(
                    f"sum by (lf) (rate(headrace_lf_votes_total{{{S}}}[$__rate_interval]))"
                    f" / (sum by (lf) (rate(headrace_lf_votes_total{{{S}}}[$__rate_interval]))"
                    f" + sum by (lf) (rate(headrace_lf_abstains_total{{{S}}}[$__rate_interval])))",
                    "{{lf}}",
                ),
                runbook="LFCoverageCollapse",
                width=8,
            ),
            graph(
                "Share of classes",
                "Share of each class among recent labels.",
                "percentunit",
                Query(
                    f"avg by (task, class) (headrace_class_share_ratio{{{S}}})",
                    "{{task}} {{class}}",
                ),
                runbook="LabelShift",
                width=8,
                top=1,
            ),
        ],
    )
