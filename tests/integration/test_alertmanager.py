"""Alertmanager alone: what silences what, and the commands that start it and Prometheus."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Starter
from tests.integration.monitoring_harness import (
    ALERTS,
    ROOT,
    Webhook,
    alertmanager_config,
    wait_until,
)
from tests.services import AlertmanagerServer, OwnedProcess, PrometheusServer

PATIENCE_S = 240.0


def test_a_cause_silences_its_consequences_only(
    alertmanager_factory: Callable[..., AlertmanagerServer],
) -> None:
    with Webhook() as webhook:
        alertmanager = alertmanager_factory(alertmanager_config(webhook.url))
        given = [
            {"alertname": "ServiceDown", "deployment": "a"},
            {"alertname": "EventConsumptionStalled", "deployment": "a"},
            {"alertname": "EventConsumptionStalled", "deployment": "b"},
            {"alertname": "LagHigh", "deployment": "b"},
            {"alertname": "LFFailures", "deployment": "a", "lf": "clicked"},
            {"alertname": "LFCoverageCollapse", "deployment": "a", "lf": "clicked"},
            {"alertname": "LFCoverageCollapse", "deployment": "a", "lf": "viewed"},
        ]
        request = urllib.request.Request(
            f"{alertmanager.url}/api/v2/alerts",
            json.dumps([{"labels": labels} for labels in given]).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

        def silenced() -> set[tuple[str, ...]]:
            url = f"{alertmanager.url}/api/v2/alerts?inhibited=true&active=false"
            with urllib.request.urlopen(url, timeout=60) as answer:
                return {tuple(each["labels"].values()) for each in json.load(answer)}

        wanted = {
            ("EventConsumptionStalled", "a"),
            ("LagHigh", "b"),
            ("LFCoverageCollapse", "a", "clicked"),
        }
        wait_until(lambda: silenced() == wanted, PATIENCE_S, lambda: f"silenced: {silenced()}")


@pytest.mark.parametrize("server", [PrometheusServer, AlertmanagerServer])
def test_the_command_of_the_compose_file_starts(
    start_own: Starter, tmp_path: Path, server: type[PrometheusServer | AlertmanagerServer]
) -> None:
    service = server.name
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    mounted = {"/etc/prometheus": ALERTS, "/etc/alertmanager": ALERTS, f"/{service}": tmp_path}
    arguments = []
    for argument in compose["services"][service]["command"]:
        flag, _, value = argument.partition("=")
        for folder, here in mounted.items():
            if value == folder or value.startswith(f"{folder}/"):
                value = f"{here}{value.removeprefix(folder)}"
        arguments.append(f"{flag}={value}")
    # Where it cannot be started at all, this skips. It leaves its address to the other.
    plain = start_own(service, server)
    plain.stop()
    program = next(path for path in map(shutil.which, server.binaries) if path is not None)
    command = [program, *arguments, f"--web.listen-address={plain.address}"]

    def ready() -> bool:
        assert process.running, process.tail()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{plain.url}/-/ready") as answer:
            return bool(answer.status == 200)
        return False

    with OwnedProcess(command, output=tmp_path / "log") as process:
        wait_until(ready, PATIENCE_S, process.tail)
