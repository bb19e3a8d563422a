"""Rules, routes and runbooks: valid, complete, and each alert shown to fire and to keep silent."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from monitoring.catalogue import CATALOGUE, Kind
from stream.cli import command_line
from tests.conftest import services_required

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "monitoring" / "alerts"
RUNBOOKS = ROOT / "monitoring" / "runbooks"
TESTS = sorted((ALERTS / "tests").glob("*_test.yml"))

CRITICAL = {
    "CheckpointFailing",
    "EventConsumptionStalled",
    "LFFailures",
    "LagHigh",
    "LatencyBudgetBurnFast",
    "LatencyBudgetBurnSlow",
    "ServiceDown",
}
WARNING = {
    "AnnotationQueueOld",
    "CalibrationError",
    "ExplorationOutOfBand",
    "FeatureDrift",
    "HitRateDrop",
    "JoinExpired",
    "LFAccuracyDrop",
    "LFConflictHigh",
    "LFCoverageCollapse",
    "LFDrift",
    "LFSilent",
    "LabelShift",
    "PredictionDrift",
    "SegmentDegraded",
    "WatermarkStalled",
}
ALWAYS = "Watchdog"
NAMES = sorted({*CRITICAL, *WARNING, ALWAYS})
SECTIONS = ["Symptom", "Likely causes", "Commands to run", "What then"]


def tool(name: str) -> str:
    """Return the path of a program, or skip (in CI: fail) the test."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not on PATH; `make test-deps` tells how to get it"
        if services_required():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=ALERTS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return loaded


@cache
def config() -> dict[str, Any]:
    return load(ALERTS / "prometheus.yml")


@cache
def rules() -> list[dict[str, Any]]:
    return [
        rule
        for name in config()["rule_files"]
        for group in load(ALERTS / name)["groups"]
        for rule in group["rules"]
    ]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@cache
def exposed() -> set[str]:
    names = {"up", "process_start_time_seconds"}
    for spec in CATALOGUE:
        parts = ("_bucket", "_sum", "_count") if spec.kind is Kind.HISTOGRAM else ("",)
        names |= {spec.full_name + part for part in parts}
    return names | {rule["record"] for rule in rules() if "record" in rule}


def series_in(expr: str) -> set[str]:
    return set(re.findall(r"(?<![\w:])(?:\w+:)?headrace_\w+(?::\w+)?", expr))


def test_the_configuration_and_every_rule_are_valid() -> None:
    promtool = tool("promtool")
    run(promtool, "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *config()["rule_files"])


def test_no_rule_file_is_left_out() -> None:
    files = {path.name for path in ALERTS.glob("*.yml")}
    assert files - {"prometheus.yml", "alertmanager.yml"} == set(config()["rule_files"])


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_keep_silent_as_written(path: Path) -> None:
    run(tool("promtool"), "test", "rules", path)


def test_all_alerts_are_there_and_no_other() -> None:
    assert sorted(alerts()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_says_all_that_its_reader_needs(name: str) -> None:
    rule = alerts()[name]
    severity = "critical" if name in CRITICAL else "warning" if name in WARNING else "none"
    assert rule["labels"]["severity"] == severity
    assert rule["labels"]["team"] in {"operations", "learning", "annotation"}
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    for text in ("summary", "description"):
        assert rule["annotations"][text].rstrip().endswith(".")
    page = rule["annotations"]["runbook_url"].rsplit("/", 1)[1]
    assert name.startswith(page.removesuffix(".md"))
    assert (RUNBOOKS / page).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_both_ways(name: str) -> None:
    cases = [case for path in TESTS for case in load(path)["tests"]]
    fires, silent = set(), set()
    for case in cases:
        asked = [each for each in case.get("alert_rule_test", ()) if each["alertname"] == name]
        expected = [each for each in asked if each.get("exp_alerts")]
        if expected:
            fires.add(case["name"])
        elif asked:
            silent.add(case["name"])
    assert fires, "no test in which it fires"
    # That Watchdog is never silent is what it is for.
    assert silent or name == ALWAYS, "no test in which it keeps silent"


def test_rules_speak_of_series_that_exist() -> None:
    for rule in rules():
        unknown = series_in(rule["expr"]) - exposed()
        assert not unknown, f"{rule.get('alert') or rule['record']}: {unknown}"


def test_what_is_recorded_is_used() -> None:
    texts = [rule["expr"] for rule in rules()] + [
        path.read_text("utf-8") for path in RUNBOOKS.glob("*.md")
    ]
    for rule in rules():
        if "record" in rule:
            assert any(rule["record"] in text for text in texts), rule["record"]


def test_the_links_begin_at_one_place_that_compose_serves() -> None:
    base = config()["global"]["external_labels"]["runbooks"]
    compose = load(ROOT / "docker-compose.yml")["services"]["grafana"]
    host, port = base.removeprefix("http://").split("/")[0].split(":")
    assert host == "localhost"
    assert any(f":{port}:" in address for address in compose["ports"])
    for name in NAMES:
        assert "$externalLabels.runbooks" in alerts()[name]["annotations"]["runbook_url"]


def test_compose_gives_prometheus_its_files() -> None:
    services = load(ROOT / "docker-compose.yml")["services"]
    assert "./monitoring/alerts:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    for job in config()["scrape_configs"]:
        for discovery in job.get("dns_sd_configs", ()):
            for name in discovery["names"]:
                served = services[name].get("expose", []) + services[name].get("ports", [])
                assert any(str(each).endswith(str(discovery["port"])) for each in served), name


def test_the_routes_are_valid() -> None:
    assert "SUCCESS" in run(tool("amtool"), "check-config", "alertmanager.yml")


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_reaches_who_can_do_something(name: str) -> None:
    labels = alerts()[name]["labels"]
    expected = labels["team"]
    if name == ALWAYS:
        expected = "watchdog"
    elif name in CRITICAL:
        expected = "pager"
    given = [f"{label}={value}" for label, value in labels.items()]
    out = run(
        tool("amtool"), "config", "routes", "test", "--config.file=alertmanager.yml",
        f"--verify.receivers={expected}", f"alertname={name}", *given,
    )  # fmt: skip
    assert out.split()[0] == expected


# What follows from the rules and routes where Prometheus looks every second; `bench.alerting`
# measures it on a running deployment.
TOLD_WITHIN_S = {
    "EventConsumptionStalled": 90,
    "HitRateDrop": 90,
    "LFDrift": 10,
    "LFFailures": 10,
    "LabelShift": 10,
}


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


@pytest.mark.parametrize(("name", "within_s"), TOLD_WITHIN_S.items())
def test_an_alert_is_told_in_time_by_what_is_configured(name: str, within_s: int) -> None:
    rule = alerts()[name]
    # A rate is 0 once its window holds nothing else.
    emptied = re.match(r"(\S+) == 0", rule["expr"])
    recorded = {each["record"]: each["expr"] for each in rules() if "record" in each}
    windows = re.findall(r"\[(\w+)\]", recorded[emptied[1]]) if emptied else []
    (route,) = [
        each
        for each in load(ALERTS / "alertmanager.yml")["route"]["routes"]
        if each["receiver"] == ("pager" if name in CRITICAL else rule["labels"]["team"])
    ]
    # One look at the service, one for what is recorded, one for the alert; then the first word
    # of a group, or what joins one that is known.
    looks = 3
    grouped = max(seconds(route["group_wait"]), seconds(route["group_interval"]))
    assert sum(map(seconds, windows)) + seconds(rule["for"]) + looks + grouped <= within_s


def test_inhibition_speaks_of_alerts_that_exist() -> None:
    for inhibition in load(ALERTS / "alertmanager.yml")["inhibit_rules"]:
        assert "deployment" in inhibition["equal"]
        for matcher in inhibition["source_matchers"] + inhibition["target_matchers"]:
            found = re.fullmatch(r'alertname =~? "([\w|]+)"', matcher)
            assert found, matcher
            assert set(found[1].split("|")) <= alerts().keys()


PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.stem != "README")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_runbook_belongs_to_an_alert_and_has_its_parts(page: Path) -> None:
    text = page.read_text("utf-8")
    assert any(name.startswith(page.stem) for name in NAMES)
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    assert text.startswith(f"# {page.stem}")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_runbook_exist(page: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.S)
    lines = [line for line in block.splitlines() if not line.startswith("#")]
    assert len(lines) >= 2
    command = get_command(command_line())
    assert isinstance(command, TyperGroup)
    for line in lines:
        words = shlex.split(line)
        if words[0] == "headrace":
            named = command.commands[words[1]]
            if isinstance(named, TyperGroup) and words[2][0] != "-":
                assert words[2] in named.commands, line
        elif words[:3] == ["promtool", "query", "instant"]:
            assert not series_in(words[4]) - exposed(), line
        else:
            assert words[0] in {"amtool", "curl", "df", "docker"}, line


def test_the_queries_of_the_runbooks_are_valid() -> None:
    promtool = tool("promtool")
    queries = {
        shlex.split(line)[4]
        for page in PAGES
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("promtool query instant")
    }
    assert len(queries) > 50
    # Rules are what promtool parses without a server.
    text = yaml.safe_dump(
        {
            "groups": [
                {
                    "name": "runbooks",
                    "rules": [
                        {"record": f"query:{number}", "expr": query}
                        for number, query in enumerate(sorted(queries))
                    ],
                }
            ]
        }
    )
    done = subprocess.run(
        [promtool, "check", "rules", "/dev/stdin"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
