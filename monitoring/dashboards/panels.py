"""What the dashboards are built from: queries, panels and rows with the settings they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import table as table_builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

__all__ = ["DATASOURCE", "SERVICE", "Limits", "Query", "bars", "figure", "graph", "heat", "table"]

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

SERVICE: Final = 'job=~"$job", instance=~"$instance"'
"""Matchers that every series of ours gets."""

Panel: TypeAlias = (
    timeseries.Panel | stat.Panel | table_builder.Panel | heatmap.Panel | bargauge.Panel
)

_HEIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a value stops being good; ``bad`` lies below ``warn`` if less is worse."""

    warn: float
    bad: float

    def steps(self) -> list[models.Threshold]:
        """Return Grafana's steps, the first one without a lower end."""
        if self.bad >= self.warn:
            colours = [(None, "green"), (self.warn, "orange"), (self.bad, "red")]
        else:
            colours = [(None, "red"), (self.bad, "orange"), (self.warn, "green")]
        return [models.Threshold(value=value, color=colour) for value, colour in colours]


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    runbook: str | None = None,
    width: int = 12,
    top: float | None = None,
    stacked: bool = False,
) -> timeseries.Panel:
    """Return lines over time."""
    panel = (
        timeseries.Panel()
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .line_width(1)
        .fill_opacity(30 if stacked else 5)
        .show_points(common_models.VisibilityMode.NEVER)
        .axis_soft_min(0)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if top is not None:
        panel.axis_soft_max(top)
    if limits is not None:
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    _describe(panel, title, description, unit, limits, runbook)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    return panel.span(width).height(_HEIGHT)


def figure(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    limits: Limits | None = None,
    runbook: str | None = None,
    width: int = 3,
    decimals: int | None = None,
) -> stat.Panel:
    """Return one number, coloured by its limits, with its recent course behind it."""
    panel = (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .color_mode(common_models.BigValueColorMode.VALUE)
    )
    if decimals is not None:
        panel.decimals(decimals)
    _describe(panel, title, description, unit, limits, runbook)
    return panel.with_target(_target(Query(expr), 0)).span(width).height(4)


def bars(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    runbook: str | None = None,
    width: int = 12,
) -> bargauge.Panel:
    """Return the present values side by side, one bar a series."""
    panel = (
        bargauge.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .orientation(common_models.VizOrientation.HORIZONTAL)
    )
    _describe(panel, title, description, unit, limits, runbook)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number, instant=True))
    return panel.span(width).height(_HEIGHT)


def heat(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    runbook: str | None = None,
    width: int = 12,
) -> heatmap.Panel:
    """Return a histogram over time; ``expr`` gives one series for each ``le``."""
    panel = (
        heatmap.Panel()
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .steps(32)
        )
    )
    _describe(panel, title, description, unit, None, runbook)
    target = _target(Query(expr, "{{le}}"), 0).format(prometheus_models.PromQueryFormat.HEATMAP)
    return panel.with_target(target).span(width).height(_HEIGHT)


def table(
    title: str,
    description: str,
    unit: str,
    columns: Sequence[tuple[str, str]],
    *,
    keys: Sequence[str],
    runbook: str | None = None,
    units: dict[str, str] | None = None,
    shaded: Sequence[tuple[str, Limits]] = (),
    width: int = 24,
    height: int = 10,
) -> table_builder.Panel:
    """Return the present values of several queries, joined to one row a combination of ``keys``.

    Parameters
    ----------
    columns
        Heading and expression of each column; each gives one value for every combination.
    unit
        Of the columns that `units` does not name.
    shaded
        Columns whose cells are coloured.
    """
    panel = table_builder.Panel().show_header(True).cell_height(common_models.TableCellHeight.SM)
    _describe(panel, title, description, unit, None, runbook)
    for number, (_, expr) in enumerate(columns):
        target = _target(Query(expr), number, instant=True)
        panel.with_target(target.format(prometheus_models.PromQueryFormat.TABLE))
    names: dict[str, str] = {
        f"Value #{_ref(number)}" if len(columns) > 1 else "Value": heading
        for number, (heading, _) in enumerate(columns)
    }
    order = {name: n for n, name in enumerate([*keys, *names])}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": order,
                "renameByName": names,
            },
        )
    )
    for heading, own in (units or {}).items():
        panel.override_by_name(heading, [models.DynamicConfigValue("unit", own)])
    for heading, limits in shaded:
        steps = [{"color": step.color, "value": step.value} for step in limits.steps()]
        panel.override_by_name(
            heading,
            [
                models.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}),
                models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ],
        )
    return panel.span(width).height(height)


def _describe(
    panel: Panel,
    title: str,
    description: str,
    unit: str,
    limits: Limits | None,
    runbook: str | None,
) -> None:
    panel.title(title).description(description).unit(unit).datasource(DATASOURCE)
    steps = limits.steps() if limits else [models.Threshold(value=None, color="green")]
    panel.thresholds(build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    if runbook is not None:
        link = build.DashboardLink(f"Runbook: {runbook}").type(models.DashboardLinkType.LINK)
        panel.links([link.url(f"/public/runbooks/{runbook}.md").target_blank(True)])


def _ref(number: int) -> str:
    return chr(ord("A") + number)


def _target(query: Query, number: int, *, instant: bool = False) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .ref_id(_ref(number))
        .datasource(DATASOURCE)
    )
    return target.instant() if instant else target.range()
