"""The committed dashboards: as the code makes them, and as our own lint wants them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from monitoring.catalogue import CATALOGUE, Kind
from monitoring.dashboards.build import FOLDER, rendered
from monitoring.dashboards.lint import metrics_of, panels_of, problems

ROOT = FOLDER.parents[2]
RUNBOOKS = ROOT / "monitoring" / "runbooks"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
Board = dict[str, Any]


def test_the_committed_dashboards_are_what_the_code_makes() -> None:
    committed = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert committed == rendered(), "run python -m monitoring.dashboards.build"


def test_there_are_six_and_each_has_its_own_name() -> None:
    assert len(BOARDS) == 6
    assert {board["uid"] for board in BOARDS.values()} == set(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == 6


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_as_the_lint_wants_it(name: str) -> None:
    assert problems(BOARDS[name]) == []


@pytest.mark.parametrize("name", BOARDS)
def test_links_lead_to_runbooks_that_exist(name: str) -> None:
    urls = [link["url"] for panel in panels_of(BOARDS[name]) for link in panel.get("links", ())]
    assert len(urls) > len(panels_of(BOARDS[name])) / 2
    for url in urls:
        assert (RUNBOOKS / url.removeprefix("/public/runbooks/")).is_file(), url


def test_every_metric_of_the_catalogue_is_shown_somewhere() -> None:
    shown = set().union(*map(metrics_of, BOARDS.values()))
    for spec in CATALOGUE:
        if spec.kind is Kind.HISTOGRAM:
            assert shown & {spec.full_name + part for part in ("_bucket", "_sum", "_count")}, spec
        else:
            assert spec.full_name in shown, spec.name


def test_instances_tasks_functions_signals_and_segments_can_be_chosen() -> None:
    offered = {
        name: {each["name"] for each in board["templating"]["list"]}
        for name, board in BOARDS.items()
    }
    assert {"task", "lf"} <= offered["headrace-labeling"]
    assert {"task", "segment"} <= offered["headrace-people"]
    assert "signal" in offered["headrace-drift"]


@pytest.mark.parametrize("name", BOARDS)
def test_what_people_changed_is_marked(name: str) -> None:
    marks = {each["name"] for each in BOARDS[name]["annotations"]["list"]}
    assert {"Labeling functions changed", "Drift reference taken anew"} <= marks


def test_grafana_finds_the_data_source_that_the_dashboards_ask_for() -> None:
    folder = ROOT / "monitoring" / "dashboards" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "headrace.yml").read_text("utf-8"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    for source in sources["datasources"]:
        service, port = source["url"].removeprefix("http://").split(":")
        assert service in compose
        assert any(address.endswith(f":{port}") for address in compose[service]["ports"])
    chosen = {
        each["current"]["value"]
        for board in BOARDS.values()
        for each in board["templating"]["list"]
        if each["type"] == "datasource"
    }
    assert chosen <= {source["uid"] for source in sources["datasources"]}


def test_grafana_mounts_what_its_provisioning_reads() -> None:
    folder = ROOT / "monitoring" / "dashboards" / "provisioning"
    text = (folder / "dashboards" / "headrace.yml").read_text("utf-8")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    mounts = dict(
        volume.split(":")[1::-1] for volume in compose["grafana"]["volumes"] if volume[0] == "."
    )
    (provider,) = yaml.safe_load(text)["providers"]
    assert (ROOT / mounts[provider["options"]["path"]]).resolve() == FOLDER.resolve()
    assert (ROOT / mounts["/usr/share/grafana/public/runbooks"]).resolve() == RUNBOOKS.resolve()
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.rsplit("/", 1)[1] in {f"{name}.json" for name in BOARDS}


def first(board: Board) -> dict[str, Any]:
    panel: dict[str, Any] = panels_of(board)[0]
    return panel


def with_expr(expr: str) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        first(board)["targets"][0]["expr"] = expr

    return change


MATCHED = '{job=~"$job", instance=~"$instance"}'
FAULTS: dict[str, tuple[Callable[[Board], None], str]] = {
    "editable": (lambda board: board.update(editable=True), "edited in the browser"),
    "no unit": (lambda board: first(board)["fieldConfig"]["defaults"].pop("unit"), "no unit"),
    "no description": (lambda board: first(board).pop("description"), "no description"),
    "no thresholds": (
        lambda board: first(board)["fieldConfig"]["defaults"].pop("thresholds"),
        "no thresholds",
    ),
    "a fixed data source": (
        lambda board: first(board)["targets"][0].update(datasource={"uid": "mine"}),
        "names a data source",
    ),
    "no instance": (
        with_expr('headrace_novelty{job=~"$job"}'),
        'not restricted by instance=~"$instance"',
    ),
    "no matchers": (with_expr("headrace_novelty"), 'not restricted by job=~"$job"'),
    "a fixed window": (
        with_expr(f"rate(headrace_join_matched_total{MATCHED}[5m])"),
        "not over [$__rate_interval]",
    ),
    "rate of a gauge": (
        with_expr(f"rate(headrace_novelty{MATCHED}[$__rate_interval])"),
        "which is no counter",
    ),
    "a bare counter": (with_expr(f"headrace_join_matched_total{MATCHED}"), "take its rate"),
    "an unknown metric": (with_expr(f"headrace_nonsense{MATCHED}"), "not in the catalogue"),
    "a bits suffix that is not exposed": (
        with_expr(f"headrace_novelty_bits{MATCHED}"),
        "not in the catalogue",
    ),
    "an unknown variable": (
        with_expr('headrace_novelty{job=~"$job", instance=~"$instance", lf="$nobody"}'),
        "$nobody is no variable",
    ),
    "one on the other": (
        lambda board: first(board)["gridPos"].update(board["panels"][2]["gridPos"]),
        "lies on",
    ),
    "too wide": (lambda board: first(board)["gridPos"].update(w=30), "wider than the page"),
    "no job variable": (
        lambda board: board["templating"].update(
            list=[each for each in board["templating"]["list"] if each["name"] != "job"]
        ),
        "lacks the variable job",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_lint_finds_a_fault(fault: str) -> None:
    board = copy.deepcopy(BOARDS["headrace-overview"])
    change, said = FAULTS[fault]
    change(board)
    assert any(said in problem for problem in problems(board)), problems(board)
