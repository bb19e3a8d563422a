"""Recommender and join: does it hit, and does feedback find the exposure that it answers."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards.frame import Row, dashboard
from monitoring.dashboards.panels import SERVICE, Limits, Query, graph, heat

__all__ = ["recommender"]

_S: Final = SERVICE
_R: Final = "$__rate_interval"


def _sum_rate(metric: str, by: str = "") -> str:
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}(rate(headrace_{metric}{{{_S}}}[{_R}]))"


def _quantiles(metric: str, *, window: str = _R) -> list[Query]:
    buckets = f"sum by (le) (rate(headrace_{metric}_bucket{{{_S}}}[{window}]))"
    return [
        Query(f"histogram_quantile({q}, {buckets})", f"p{round(q * 100)}") for q in (0.5, 0.9, 0.99)
    ]


def recommender() -> Dashboard:
    """Return the dashboard for recommendations and the rewards they are learned from."""
    return dashboard(
        "headrace-recommender",
        "Headrace / Recommender and join",
        "Quality, exploration and speed of recommendations; how rewards are joined, and how late.",
        [_quality(), _serving(), _join(), _windows()],
    )


def _quality() -> Row:
    return (
        "Quality, each event predicted before it is learned",
        [
            graph(
                "Hit rate",
                "Share of positive events whose item was among k recommended; all items compete.",
                "percentunit",
                Query(f"avg by (k) (headrace_prequential_hit_ratio{{{_S}}})", "hit@{{k}}"),
                runbook="HitRateDrop",
                width=8,
            ),
            graph(
                "nDCG",
                "The same, worth less the further down the item stands.",
                "percentunit",
                Query(f"avg by (k) (headrace_prequential_ndcg{{{_S}}})", "nDCG@{{k}}"),
                runbook="HitRateDrop",
                width=8,
            ),
            graph(
                "Log loss",
                "Log loss of predicted rewards, in nats.",
                "short",
                Query(f"avg(headrace_prequential_loss{{{_S}}})", "log loss"),
                runbook="PredictionDrift",
                width=8,
            ),
            graph(
                "Share of the catalogue shown",
                "Share of items recommended lately. It falls when the popular crowd out the rest.",
                "percentunit",
                Query(f"avg(headrace_catalogue_coverage_ratio{{{_S}}})", "coverage"),
                runbook="ExplorationOutOfBand",
                top=1,
            ),
            graph(
                "Novelty",
                "Mean self-information of recommended items, in bits: low is popular.",
                "short",
                Query(f"avg(headrace_novelty{{{_S}}})", "novelty"),
                runbook="ExplorationOutOfBand",
            ),
            graph(
                "Lift over popularity",
                "nDCG over that of what is popular lately, on all engagements so far.",
                "short",
                Query(f"avg(headrace_prequential_lift_ratio{{{_S}}})", "lift"),
                runbook="HitRateDrop",
                width=8,
            ),
            graph(
                "Popularity alone",
                "What recommending what is popular lately would have had, on all so far.",
                "percentunit",
                Query(f"avg by (k) (headrace_popularity_hit_ratio{{{_S}}})", "hit@{{k}}"),
                Query(f"avg by (k) (headrace_popularity_ndcg{{{_S}}})", "nDCG@{{k}}"),
                runbook="HitRateDrop",
                width=8,
            ),
            graph(
                "Diversity within a list",
                "1 is ten things that never went together, 0 the same thing ten times.",
                "percentunit",
                Query(f"avg(headrace_intra_list_diversity_ratio{{{_S}}})", "diversity"),
                runbook="ExplorationOutOfBand",
                width=8,
            ),
        ],
    )


def _serving() -> Row:
    return (
        "Serving and learning",
        [
            graph(
                "Recommendations",
                "Recommendations served a second, by policy.",
                "reqps",
                Query(_sum_rate("recommendations_total", "policy"), "{{policy}}"),
                stacked=True,
                runbook="ServiceDown",
                width=6,
            ),
            graph(
                "Explored slots per recommendation",
                "How many of a slate's slots were filled to learn rather than to please.",
                "short",
                Query(
                    f"{_sum_rate('explorations_total', 'policy')}"
                    f" / {_sum_rate('recommendations_total', 'policy')}",
                    "{{policy}}",
                ),
                limits=Limits(2, 3),
                runbook="ExplorationOutOfBand",
                width=6,
            ),
            graph(
                "Time to rank",
                "Time to rank items for one request.",
                "s",
                *_quantiles("recommend_duration_seconds"),
                limits=Limits(0.1, 0.25),
                runbook="LatencyBudgetBurn",
                width=6,
            ),
            graph(
                "Time to learn",
                "Time of one update of the recommender.",
                "s",
                *_quantiles("update_duration_seconds"),
                runbook="LagHigh",
                width=6,
            ),
        ],
    )


def _join() -> Row:
    return (
        "Join",
        [
            graph(
                "Fate of feedback and exposures",
                "Feedback joined, feedback without an exposure, exposures without feedback, final "
                "labels corrected late, feedback that told nothing new; a second.",
                "ops",
                Query(_sum_rate("join_matched_total"), "joined"),
                Query(_sum_rate("join_organic_total"), "organic"),
                Query(_sum_rate("join_expired_total"), "expired"),
                Query(_sum_rate("join_late_corrections_total"), "late corrections"),
                Query(_sum_rate("join_duplicate_rewards_total"), "duplicates"),
                runbook="JoinExpired",
            ),
            graph(
                "Exposures without feedback",
                "Share of exposures that ended without any. High is usual; a jump is not.",
                "percentunit",
                Query(
                    f"{_sum_rate('join_expired_total')} / ({_sum_rate('join_expired_total')}"
                    f" + {_sum_rate('join_matched_total')})",
                    "expired",
                ),
                runbook="JoinExpired",
                top=1,
            ),
            heat(
                "Delay of feedback",
                "Event time from an exposure to the feedback that joined it.",
                "s",
                _sum_rate("join_delay_seconds_bucket", "le"),
                runbook="JoinExpired",
            ),
            graph(
                "Let go at a bound",
                "State dropped a second because a bound was reached, by what it was.",
                "ops",
                Query(_sum_rate("join_dropped_total", "what"), "{{what}}"),
                runbook="JoinExpired",
            ),
        ],
    )


def _windows() -> Row:
    return (
        "Windows",
        [
            graph(
                "Examples that wait",
                "Examples that wait for feedback or for their windows, by partition.",
                "short",
                Query(
                    f"max by (partition) (headrace_join_pending{{{_S}}})",
                    "partition {{partition}}",
                ),
                stacked=True,
                runbook="WatermarkStalled",
                width=8,
            ),
            graph(
                "Oldest example that waits",
                "Its age in event time.",
                "s",
                Query(
                    f"max by (partition) (headrace_join_oldest_pending_seconds{{{_S}}})",
                    "partition {{partition}}",
                ),
                runbook="WatermarkStalled",
                width=8,
            ),
            graph(
                "Event time behind the clock",
                "How far the watermark lies behind. A line that rises by a second a second is a "
                "watermark that stands still.",
                "s",
                Query(
                    f"max by (partition) (headrace_watermark_delay_seconds{{{_S}}})",
                    "partition {{partition}}",
                ),
                runbook="WatermarkStalled",
                width=8,
            ),
            graph(
                "Late outcomes still to come",
                "Of what the exposures of the last window will bring, by the delay curve; "
                "mean of the partitions. Predictions hold it already, raw counts do not.",
                "percentunit",
                Query(
                    f"avg by (outcome) (headrace_outcomes_to_come_ratio{{{_S}}})",
                    "{{outcome}}",
                ),
                width=24,
            ),
        ],
    )
