"""What tests ask of Prometheus and Alertmanager, and what they are told to watch."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "monitoring" / "alerts"
DEPLOYMENT = "shop"

T = TypeVar("T")


class Webhook:
    """Receives what Alertmanager sends, as an operator's pager would."""

    def __init__(self) -> None:
        self._received: list[tuple[float, str, dict[str, Any]]] = []
        received = self._received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    received.append((time.monotonic(), body["receiver"], alert))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def received(self) -> list[tuple[float, str, dict[str, Any]]]:
        """Return when each came, for which receiver, and the alert."""
        return list(self._received)

    def wait_for(
        self, alertname: str, timeout_s: float, *, since: float = 0.0, status: str = "firing"
    ) -> tuple[float, str, dict[str, Any]]:
        """Return when it came, for which receiver, and the alert."""

        def found() -> tuple[float, str, dict[str, Any]] | None:
            for at, receiver, alert in self.received():
                named = alert["labels"]["alertname"] == alertname
                if named and alert["status"] == status and at >= since:
                    return at, receiver, alert
            return None

        return wait_until(
            found,
            timeout_s,
            lambda: (
                f"no {alertname} {status}; received: "
                + ", ".join(sorted({a["labels"]["alertname"] for _, _, a in self._received}))
            ),
        )


class Queries:
    """Ask a Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return an instant vector."""
        result: list[dict[str, Any]] = self._get("query", {"query": expr})["result"]
        return result

    def shows(self, expr: str) -> bool:
        """Tell whether an expression has a value; 0 divided by 0 is none."""
        return any(sample["value"][1] != "NaN" for sample in self.query(expr))

    def unhealthy_rules(self) -> list[str]:
        """Return the rules whose last evaluation failed."""
        groups = self._get("rules", {})["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] == "err"
        ]

    def _get(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=120) as answer:
                data: dict[str, Any] = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        return data


def wait_until(
    condition: Callable[[], T | None], timeout_s: float, otherwise: Callable[[], str]
) -> T:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.1)


def prometheus_config(target: str, absent: str, alertmanager: str, interval_s: float = 1.0) -> str:
    """Return the deployed configuration: other addresses, intervals, a target that is gone."""
    config: dict[str, Any] = yaml.safe_load((ALERTS / "prometheus.yml").read_text("utf-8"))
    config["global"] |= {
        "scrape_interval": f"{interval_s:g}s",
        "evaluation_interval": f"{interval_s:g}s",
    }
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    ours = [job for job in config["scrape_configs"] if job["job_name"].startswith("headrace")]
    scraped = []
    for job, address, deployment in zip(ours, (target, absent), (DEPLOYMENT, "gone"), strict=True):
        (relabel,) = job["relabel_configs"]
        scraped.append(
            {
                "job_name": job["job_name"],
                "static_configs": [{"targets": [address]}],
                "relabel_configs": [relabel | {"replacement": deployment}],
            }
        )
    config["scrape_configs"] = scraped
    return yaml.safe_dump(config)


def rule_files() -> dict[str, str]:
    """Return the rule files that the deployed configuration names."""
    config = yaml.safe_load((ALERTS / "prometheus.yml").read_text("utf-8"))
    return {name: (ALERTS / name).read_text("utf-8") for name in config["rule_files"]}


def alertmanager_config(webhook: str) -> str:
    """Return the deployed configuration with an integration for every receiver."""
    config = yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8"))
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": webhook}]
    return yaml.safe_dump(config)


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule, recording and alerting."""
    for text in rule_files().values():
        for group in yaml.safe_load(text)["groups"]:
            yield from group["rules"]
