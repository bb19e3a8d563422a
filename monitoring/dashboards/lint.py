"""What a dashboard of ours must be like; a rule that is broken is said in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final

from monitoring.catalogue import CATALOGUE, PREFIX, Kind

__all__ = ["metrics_of", "panels_of", "problems"]

_DATASOURCE: Final = "${datasource}"
_WINDOWS: Final = frozenset({"$__rate_interval", "$__range", "1h"})
_WIDTH: Final = 24
_BUILT_IN: Final = frozenset({"__rate_interval", "__interval", "__range"})

# A series and its matchers, if it is one of ours.
_SERIES: Final = re.compile(r"(?<![\w:$])((?:headrace|process)_\w+|up)\b(?!\s*\()(\{[^}]*\})?")
_RANGE: Final = re.compile(r"(\w+)\(\s*([\w:]+)(\{[^}]*\})?\[([^\]]+)\]")
_VARIABLE: Final = re.compile(r"\$\{?(\w+)\}?")


def _exposed() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for spec in CATALOGUE:
        if spec.kind is Kind.HISTOGRAM:
            for part in ("_bucket", "_sum", "_count"):
                found[spec.full_name + part] = spec.kind
        else:
            found[spec.full_name] = spec.kind
    return found


_EXPOSED: Final = _exposed()


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that show something: all but the titles of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def metrics_of(board: dict[str, Any]) -> set[str]:
    """Return the names of our series in panels and annotations."""
    exprs = [target["expr"] for panel in panels_of(board) for target in panel["targets"]]
    exprs += [annotation["expr"] for annotation in board["annotations"]["list"]]
    return {name for expr in exprs for name, _ in _SERIES.findall(expr)}


def problems(board: dict[str, Any]) -> list[str]:
    """Return what is wrong with a dashboard, as Grafana's JSON has it; nothing if all is well."""
    return [*_frame(board), *_layout(board), *_panels(board)]


def _frame(board: dict[str, Any]) -> Iterator[str]:
    if board.get("editable") is not False:
        yield "it can be edited in the browser"
    variables = {each["name"]: each for each in board["templating"]["list"]}
    for needed in ("datasource", "job", "instance"):
        if needed not in variables:
            yield f"it lacks the variable {needed}"
    for each in variables.values():
        if each["type"] == "query" and each["datasource"]["uid"] != _DATASOURCE:
            yield f"variable {each['name']} names a data source"
    for annotation in board["annotations"]["list"]:
        if annotation["datasource"]["uid"] != _DATASOURCE:
            yield f"annotation {annotation['name']} names a data source"
        yield from _expression(annotation["expr"], annotation["name"], set(variables))
    for panel in panels_of(board):
        for target in panel["targets"]:
            yield from _expression(target["expr"], panel["title"], set(variables))


def _expression(expr: str, where: str, variables: set[str]) -> Iterator[str]:
    for name in set(_VARIABLE.findall(expr)) - variables - _BUILT_IN:
        yield f"{where}: ${name} is no variable"
    for name, matchers in _SERIES.findall(expr):
        if name.startswith(PREFIX) and name not in _EXPOSED:
            yield f"{where}: {name} is not in the catalogue"
        for needed in ('job=~"$job"', 'instance=~"$instance"'):
            if needed not in matchers:
                yield f"{where}: {name} is not restricted by {needed}"
    ranged = set()
    for function, name, _, window in _RANGE.findall(expr):
        ranged.add(name)
        if window not in _WINDOWS:
            yield f"{where}: {function} over [{window}], not over [$__rate_interval]"
        counts = name.endswith(("_total", "_bucket", "_sum", "_count"))
        if function in ("rate", "increase", "irate") and not counts:
            yield f"{where}: {function} of {name}, which is no counter"
    if " offset $__interval" in expr:
        return
    for name, _ in _SERIES.findall(expr):
        cumulative = _EXPOSED.get(name) in (Kind.COUNTER, Kind.HISTOGRAM)
        if (cumulative or name.endswith("_total")) and name not in ranged:
            yield f"{where}: {name} as it stands: it starts anew with the process; take its rate"


def _layout(board: dict[str, Any]) -> Iterator[str]:
    ids = [panel["id"] for panel in board["panels"]]
    if len(set(ids)) < len(ids):
        yield "two panels have the same id"
    titles = [panel["title"] for panel in panels_of(board)]
    for title in {title for title in titles if titles.count(title) > 1}:
        yield f"two panels are called {title}"
    for panel in board["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > _WIDTH:
            yield f"{panel['title']} is wider than the page"
    for one, other in combinations(board["panels"], 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} lies on {other['title']}"


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    return across and down


def _panels(board: dict[str, Any]) -> Iterator[str]:
    for panel in panels_of(board):
        title = panel.get("title") or "a panel without a title"
        defaults = panel["fieldConfig"]["defaults"]
        if not defaults.get("unit"):
            yield f"{title}: no unit"
        if not panel.get("description", "").endswith((".", "?")):
            yield f"{title}: no description in sentences"
        if not defaults.get("thresholds", {}).get("steps"):
            yield f"{title}: no thresholds"
        if not panel.get("targets"):
            yield f"{title}: no query"
        for holder in (panel, *panel["targets"]):
            if holder.get("datasource", {}).get("uid") != _DATASOURCE:
                yield f"{title}: names a data source"
        for link in panel.get("links", ()):
            if link["title"].startswith("Runbook: ") and not link["url"].startswith("/public/"):
                yield f"{title}: its runbook is elsewhere"
