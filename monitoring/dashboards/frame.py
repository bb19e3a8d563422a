"""What all dashboards have in common: variables, annotations, links, time range, read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as models

from monitoring.dashboards.panels import DATASOURCE, SERVICE, Panel

__all__ = ["TAG", "Row", "dashboard", "variable"]

TAG: Final = "headrace"

_REFRESH: Final = "30s"
_ALL: Final = ".+"
# Prometheus may scrape other services; all jobs means all of ours.
_OURS: Final = "headrace.*"

# An event is a step up of a counter; `or ... * 0` lets one count that is born with its first step.
_EVENTS: Final = (
    ("Labeling functions changed", "lf_changes_total", "action", "blue"),
    ("Drift reference taken anew", "reference_resets_total", "instance", "purple"),
    ("Configuration reloaded", "config_reloads_total", "result", "light-blue"),
    ("Drift detected", "drift_detections_total", "signal, detector", "orange"),
)

Row = tuple[str, Sequence[Panel]]


def variable(name: str, label: str, query: str) -> build.QueryVariable:
    """Return a variable that offers the values of a label, many at once, all by default."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(_ALL)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    *,
    variables: Sequence[build.QueryVariable] = (),
) -> models.Dashboard:
    """Return a dashboard, its panels numbered from 1 in reading order."""
    board = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .time("now-1h", "now")
        .refresh(_REFRESH)
        .link(
            build.DashboardLink("Headrace")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            build.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
            .current(models.VariableOption(selected=True, text="Prometheus", value="prometheus"))
        )
        .with_variable(
            variable("job", "Job", "label_values(headrace_build_info, job)").all_value(_OURS)
        )
        .with_variable(
            variable(
                "instance", "Instance", 'label_values(headrace_build_info{job=~"$job"}, instance)'
            )
        )
    )
    for each in variables:
        board.with_variable(each)
    for name, metric, labels, colour in _EVENTS:
        board.annotation(_annotation(name, metric, labels, colour))
    number = 0
    for row_title, panels in rows:
        number += 1
        board.with_row(build.Row(row_title).id(number))
        for panel in panels:
            number += 1
            board.with_panel(panel.id(number))
    return board.build()


def _annotation(name: str, metric: str, labels: str, colour: str) -> build.AnnotationQuery:
    now = f"sum by ({labels}) (headrace_{metric}{{{SERVICE}}})"
    before = f"sum by ({labels}) (headrace_{metric}{{{SERVICE}}} offset $__interval)"
    return (
        build.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(f"({now} - ({before} or {now} * 0)) > 0")
    )
