"""Rules, alerts and dashboards on a real Prometheus and Alertmanager, behind a running service."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from monitoring.catalogue import CATALOGUE
from stream.simulate import Drift
from tests.conftest import Starter
from tests.integration.monitoring_harness import (
    DEPLOYMENT,
    ROOT,
    Queries,
    Webhook,
    alertmanager_config,
    prometheus_config,
    rule_files,
    rules,
    wait_until,
)
from tests.integration.shop_harness import Shop
from tests.services import AlertmanagerServer, PrometheusServer
from tests.services.ports import PortLease

pytestmark = [pytest.mark.usefixtures("compiled"), pytest.mark.timeout(1500)]

# Seconds on an idle machine: what the rules promise is checked by `test_alerts`, without a clock,
# and what it comes to is measured by `bench.alerting`.
PATIENCE_S = 240.0
# An alert that must hold for half a minute begins anew with each scrape that is lost.
LONG_S = 600.0
DASHBOARDS = sorted((ROOT / "monitoring" / "dashboards" / "json").glob("*.json"))

# What the service does not expose while a shop runs, each with the reason. A metric that appears
# must leave the table: `test_what_is_said_to_be_missing_is_missing`.
NOT_FILLED: dict[str, str] = {
    "headrace_worker_state": "a shop runs embedded, without Faust",
    "headrace_worker_partitions": "a shop runs embedded, without Faust",
    "headrace_worker_generation": "a shop runs embedded, without Faust",
    "headrace_exchange_timestamp_seconds": "a shop runs embedded: no other process learns",
}

# A series of ours, or `up`, with its matchers.
SELECTOR = re.compile(r"(?<![\w:])(?:up\b|(?:\w+:)?headrace_\w+(?::\w+)?)(?:{[^}]*})?")

VARIABLES = {
    "$__rate_interval": "20s",
    "$__interval": "5s",
    "$__range": "60s",
    "$job": "headrace.*",
}


@dataclass(frozen=True)
class Stack:
    shop: Shop
    queries: Queries
    webhook: Webhook


@pytest.fixture(scope="module")
def stack(start_shared: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with PortLease() as absent, Webhook() as webhook:
        alertmanager = start_shared(
            "alertmanager", lambda: AlertmanagerServer(alertmanager_config(webhook.url))
        )
        with Shop(tmp_path_factory.mktemp("shop")) as shop:
            # A target at which nobody listens.
            config = prometheus_config(
                shop.address, f"127.0.0.1:{absent.port}", alertmanager.address
            )
            prometheus = start_shared("prometheus", lambda: PrometheusServer(config, rule_files()))
            # The first failure makes its series; so all panels can be asked for data.
            shop.fault("failing_early")
            queries = Queries(prometheus.url)
            wait_until(
                lambda: queries.query("headrace_lf_failures_total"),
                PATIENCE_S,
                lambda: "no failures",
            )
            wait_until(
                lambda: queries.query("headrace_lf_gold_accuracy_ratio"),
                PATIENCE_S,
                lambda: "no gold",
            )
            yield Stack(shop, queries, webhook)
            prometheus.stop()


def detected_at(shop: Shop, signal: str, change: Callable[[], None]) -> float:
    """Make a change once the signal has its reference; return when it was detected."""

    def detections() -> float:
        return shop.sample("drift_detections_total", detector="zscore", signal=signal)

    wait_until(
        lambda: shop.sample("drift_reference_samples", signal=signal) >= 2048,
        PATIENCE_S,
        lambda: f"{signal} has no reference",
    )
    before = detections()
    change()
    wait_until(lambda: detections() > before, PATIENCE_S, lambda: f"no drift of {signal}")
    return time.monotonic()


def told_at(webhook: Webhook, alertname: str, signal: str) -> float:
    """Return when the webhook was first told of a signal."""

    def told() -> float | None:
        for at, receiver, alert in webhook.received():
            labels = alert["labels"]
            if (labels["alertname"], labels.get("signal")) == (alertname, signal):
                assert receiver == "learning"
                return at
        return None

    return wait_until(told, PATIENCE_S, lambda: f"{alertname} did not come")


@pytest.fixture(scope="module")
def flipped(stack: Stack) -> float:
    """Let a function flip; return how long the webhook heard of it after its detection.

    Once, and before anything else disturbs the shop.
    """
    # From now on it is wrong as often as it was right. It is not the best of the few there are:
    # that one would shift what most votes say, and labels with it.
    flip = Drift(at=0.0, kind="lf_flip", lfs=(2,))
    signal = "lf_votes/sim_lf_2"
    detected = detected_at(stack.shop, signal, lambda: stack.shop.change(flip))
    return told_at(stack.webhook, "LFDrift", signal) - detected


@pytest.fixture(scope="module")
def shifted(stack: Stack, flipped: float) -> float:
    """Let more be relevant, too; return how long the webhook heard of it after its detection.

    The functions are as good, or as bad, as before: P(Y) changes and nothing else.
    """
    del flipped  # It has come before.
    changes = (
        Drift(at=0.0, kind="lf_flip", lfs=(2,)),
        Drift(at=0.0, kind="label_shift", amount=3.0),
    )
    signal = "label_majority:relevance/class"
    detected = detected_at(stack.shop, signal, lambda: stack.shop.change(*changes))
    return told_at(stack.webhook, "LabelShift", signal) - detected


def filled_in(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\{?[a-z]+\}?", ".+", expr)


def missing_in(expr: str) -> set[str]:
    """Return the metrics of an expression that are known not to be filled."""
    names = set(re.findall(r"headrace_[a-z_]+", expr))
    return {
        name
        for name in NOT_FILLED
        if names & {name, *(name + part for part in ("_bucket", "_sum", "_count"))}
    }


def panels(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_data(stack: Stack, path: Path) -> None:
    board = json.loads(path.read_text("utf-8"))
    wanted = {(title, filled_in(expr)) for title, expr in panels(board) if not missing_in(expr)}
    assert wanted

    def all_have_data() -> bool:
        for each in list(wanted):
            if stack.queries.shows(each[1]):
                wanted.discard(each)
        return not wanted

    wait_until(all_have_data, PATIENCE_S, lambda: f"no data: {sorted(wanted)}")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_what_has_no_data_yet_is_valid_all_the_same(stack: Stack, path: Path) -> None:
    board = json.loads(path.read_text("utf-8"))
    for _, expr in panels(board):
        stack.queries.query(filled_in(expr))
    for annotation in board["annotations"]["list"]:
        stack.queries.query(filled_in(annotation["expr"]))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_variable_has_something_to_choose_from(stack: Stack, path: Path) -> None:
    board = json.loads(path.read_text("utf-8"))
    for variable in board["templating"]["list"]:
        if variable["type"] != "query" or missing_in(variable["query"]):
            continue
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert found, variable["query"]
        series, label = filled_in(found[1]), found[2]
        expr = f"{series} * on ({label}) group_left () group by ({label}) ({series})"
        # A single look may fall behind a scrape that was late.
        wait_until(partial(stack.queries.query, expr), PATIENCE_S, partial(str, expr))


def test_what_is_said_to_be_missing_is_missing(stack: Stack) -> None:
    known = {spec.full_name for spec in CATALOGUE}
    assert set(NOT_FILLED) <= known
    appeared = [
        name for name in NOT_FILLED if stack.queries.query(f'{{__name__=~"{name}(_count)?"}} > 0')
    ]
    assert not appeared, "these are filled now: take them out of NOT_FILLED"


def test_every_recording_rule_yields_data(stack: Stack) -> None:
    wanted = {
        rule["record"] for rule in rules() if "record" in rule and not missing_in(rule["expr"])
    }
    assert len(wanted) > 15

    def all_have_data() -> bool:
        wanted.difference_update(
            [each for each in wanted if stack.queries.shows(f'{each}{{deployment="shop"}}')]
        )
        return not wanted

    wait_until(all_have_data, PATIENCE_S, lambda: f"no data: {sorted(wanted)}")


def test_the_left_side_of_every_alert_yields_data(stack: Stack) -> None:
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    wanted: dict[str, str] = {}
    for rule in rules():
        if "alert" not in rule or rule["alert"] == "Watchdog":
            continue
        found = SELECTOR.search(rule["expr"])
        assert found, rule["alert"]
        name = found[0].split("{")[0]
        if not missing_in(recorded.get(name, name)):
            wanted[rule["alert"]] = found[0]
    assert len(wanted) > 10

    def all_have_data() -> bool:
        for alert, selector in list(wanted.items()):
            if stack.queries.shows(selector):
                del wanted[alert]
        return not wanted

    wait_until(all_have_data, PATIENCE_S, lambda: f"no data: {wanted}")


def test_every_rule_evaluates(stack: Stack) -> None:
    assert not stack.queries.unhealthy_rules()


def test_the_exposition_is_what_promtool_wants(stack: Stack) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=stack.shop.metrics(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_watchdog_reaches_its_receiver(stack: Stack) -> None:
    # What fires before Prometheus has found its Alertmanager is sent again after a minute.
    _, receiver, alert = stack.webhook.wait_for("Watchdog", PATIENCE_S)
    assert receiver == "watchdog"
    assert alert["annotations"]["runbook_url"].endswith("/public/runbooks/Watchdog.md")
    assert "runbooks" not in alert["labels"]


def test_a_target_that_is_gone_pages(stack: Stack) -> None:
    _, receiver, alert = stack.webhook.wait_for("ServiceDown", PATIENCE_S)
    assert receiver == "pager"
    assert alert["labels"]["deployment"] == "gone"


@pytest.mark.usefixtures("shifted")
def test_a_broken_labeling_function_pages(stack: Stack) -> None:
    began = time.monotonic()
    stack.shop.fault("failing_late")

    def told() -> float | None:
        for at, receiver, alert in stack.webhook.received():
            if alert["labels"].get("lf") == "failing_late" and alert["status"] == "firing":
                assert alert["labels"]["alertname"] == "LFFailures"
                assert receiver == "pager"
                return at
        return None

    at = wait_until(told, PATIENCE_S, lambda: "LFFailures did not come")
    print(f"LFFailures reached the webhook after {at - began:.1f} s")
    # The service stops it; the alert stays, by what is known of the last hour.
    wait_until(
        lambda: stack.queries.query('headrace_lf_enabled{lf="failing_late"} == 0'),
        PATIENCE_S,
        lambda: "not stopped",
    )


@pytest.mark.usefixtures("shifted")
def test_a_stalled_consumer_pages(stack: Stack) -> None:
    began = time.monotonic()
    stack.shop.fault("hanging")
    try:
        at, receiver, alert = stack.webhook.wait_for(
            "EventConsumptionStalled", PATIENCE_S, since=began
        )
    finally:
        stack.shop.clear("hanging")
    print(f"EventConsumptionStalled reached the webhook after {at - began:.1f} s")
    assert receiver == "pager"
    assert alert["labels"]["deployment"] == DEPLOYMENT
    stack.webhook.wait_for("EventConsumptionStalled", PATIENCE_S, since=at, status="resolved")


def test_a_flipped_function_reaches_the_webhook(flipped: float) -> None:
    print(f"LFDrift at the webhook {flipped:.1f} s after the detection")


def test_labels_that_shift_reach_the_webhook(shifted: float) -> None:
    print(f"LabelShift at the webhook {shifted:.1f} s after the detection")


@pytest.mark.usefixtures("shifted")
def test_a_collapsed_hit_ratio_is_told(stack: Stack) -> None:
    # It is compared with the median of what was: that must outlast the fall and its `for`.
    known = "count_over_time(deployment_k:headrace_prequential_hit:avg[1d]) > 150"
    wait_until(lambda: stack.queries.query(known), PATIENCE_S, lambda: "no hit ratio")
    began = time.monotonic()
    stack.shop.scrambled.set()
    try:
        at, receiver, _ = stack.webhook.wait_for("HitRateDrop", LONG_S, since=began)
    finally:
        stack.shop.scrambled.clear()
    print(f"HitRateDrop reached the webhook after {at - began:.1f} s")
    assert receiver == "learning"
