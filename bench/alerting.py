"""How long it takes from what happens in a shop to a webhook, through Prometheus and Alertmanager.

    python -m bench.alerting [--interval 15]

Real Prometheus and Alertmanager with the deployed rules and routes, scraping the embedded service
behind a simulated shop. A labeling function flips, labels shift (more is relevant, the functions
are as good as before), and another function breaks; printed is the time from the detector's firing
(or the break) to the webhook. Aims: 10 s at scrapes every second, 60 s
at every 15.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from stream.simulate import Drift
from tests.integration.monitoring_harness import (
    Webhook,
    alertmanager_config,
    prometheus_config,
    rule_files,
    wait_until,
)
from tests.integration.shop_harness import Shop
from tests.services import AlertmanagerServer, PrometheusServer
from tests.services.ports import PortLease

_VOTES = "lf_votes/sim_lf_2"
_LABELS = "label_majority:relevance/class"
_FLIP = Drift(at=0.0, kind="lf_flip", lfs=(2,))
_SHIFT = Drift(at=0.0, kind="label_shift", amount=3.0)
_PATIENCE_S = 240.0


def measure(interval_s: float) -> None:
    """Print the times at one scrape interval."""
    with ExitStack() as stack:
        absent = PortLease()
        stack.callback(absent.release)
        webhook = stack.enter_context(Webhook())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        alertmanager = stack.enter_context(AlertmanagerServer(alertmanager_config(webhook.url)))
        shop = stack.enter_context(Shop(folder))
        config = prometheus_config(
            shop.address, f"127.0.0.1:{absent.port}", alertmanager.address, interval_s
        )
        stack.enter_context(PrometheusServer(config, rule_files()))
        _drift(shop, webhook, "LFDrift", _VOTES, _FLIP)
        _drift(shop, webhook, "LabelShift", _LABELS, _FLIP, _SHIFT)
        _broken(shop, webhook)


def _drift(shop: Shop, webhook: Webhook, alertname: str, signal: str, *changes: Drift) -> None:
    def detected() -> float:
        return shop.sample("drift_detections_total", detector="zscore", signal=signal)

    wait_until(
        lambda: shop.sample("drift_reference_samples", signal=signal) >= 2048,
        _PATIENCE_S,
        lambda: f"{signal} has no reference",
    )
    before, began = detected(), time.monotonic()
    shop.change(*changes)
    wait_until(lambda: detected() > before, _PATIENCE_S, lambda: f"no drift of {signal}")
    fired = time.monotonic()
    _tell(webhook, alertname, fired, ("signal", signal), fired - began)


def _broken(shop: Shop, webhook: Webhook) -> None:
    began = time.monotonic()
    shop.fault("failing_late")
    _tell(webhook, "LFFailures", began, ("lf", "failing_late"), 0.0)


def _tell(
    webhook: Webhook,
    alertname: str,
    since: float,
    label: tuple[str, str],
    detection_s: float,
) -> None:
    def told() -> float | None:
        for at, _, alert in webhook.received():
            if alert["labels"]["alertname"] == alertname and label in alert["labels"].items():
                return at
        return None

    at = wait_until(told, _PATIENCE_S, lambda: f"{alertname} did not come")
    print(
        f"  {alertname:<12} detected after {detection_s:5.1f} s, at the webhook "
        f"{at - since:5.1f} s after that",
        flush=True,
    )


def main() -> None:
    """Print the times at one interval, or at both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, action="append", help="seconds; 1 and 15")
    for interval_s in parser.parse_args().interval or [1.0, 15.0]:
        print(f"scrapes and evaluation every {interval_s:g} s", flush=True)
        measure(interval_s)


if __name__ == "__main__":
    main()
