"""What two workers and `headrace serve` export on real Kafka: the whole of it is their sum."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.kafka_deployment import environment, make_topics
from monitoring.catalogue import CATALOGUE
from stream.distributed.health import WORKER_STATES
from stream.events import EVENTS
from stream.simulate import SimulatedLF, World, WorldConfig
from tests.conftest import services_required
from tests.services import KafkaBroker, RedisServer
from tests.services.kafka import NEVER_KILLED
from tests.services.ports import PortLease
from tests.services.process import OwnedProcess

pytestmark = [pytest.mark.usefixtures("compiled"), pytest.mark.timeout(1200)]

# What compiles first on a busy machine takes its time.
WITHIN_S = 300.0
N_EVENTS = 12_000
SIGNAL = "lf_votes/sim_lf_0"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Exporter:
    """A process of the deployment, and what it exposes."""

    def __init__(self, process: OwnedProcess, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def page(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def samples(self) -> Samples:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.page())
            for sample in family.samples
        }

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/v1/status", timeout=60) as answer:
            figures: dict[str, Any] = json.load(answer)
            return figures


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of a metric's series with these labels."""
    wanted = set(labels.items())
    return sum(
        value
        for (known, has), value in samples.items()
        if known == f"headrace_{name}" and wanted <= has
    )


def wait_until(condition: Callable[[], bool], exporters: list[Exporter], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        for each in exporters:
            assert each.process.running, each.process.tail()
        assert time.monotonic() < deadline, f"{what}:\n" + "\n".join(
            each.process.tail(10) for each in exporters
        )
        time.sleep(0.3)


def eventually(check: Callable[[], None]) -> None:
    """Check again and again, until it is right or stays wrong."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)


def assert_sums(parts: list[Samples], whole: Samples, status: dict[str, Any]) -> None:
    """Check what the workers show, each its own, against what serve shows of the whole."""
    assert all(total(part, "events_consumed_total", topic=EVENTS) > 0 for part in parts)

    def summed(name: str, **labels: str) -> float:
        return sum(total(part, name, **labels) for part in parts)

    # Counters of the workers add up to what serve shows of the whole.
    assert summed("events_consumed_total", topic=EVENTS) == N_EVENTS
    for what, name in (
        ("labels", "labels_total"),
        ("matched", "join_matched_total"),
        ("expired", "join_expired_total"),
        ("duplicates", "duplicate_events_total"),
    ):
        assert total(whole, "merged_records", what=what) == summed(name), what
    for lf in status["tasks"]["relevance"]["lfs"]:
        assert sum(lf["votes"]) == summed("lf_votes_total", lf=lf["name"]), lf["name"]
    # So do references: each worker's own, and all of their samples in serve.
    samples = [total(part, "drift_reference_samples", signal=SIGNAL) for part in parts]
    assert min(samples) >= 2048
    assert total(whole, "drift_reference_samples", signal=SIGNAL) == sum(samples)
    # Recent rates of the whole lie between those of the workers.
    rates = [total(part, "lf_coverage_ratio", lf="sim_lf_0") for part in parts]
    assert min(rates) <= total(whole, "lf_coverage_ratio", lf="sim_lf_0") <= max(rates)

    # Faust's own state, and the lag of what each worker owns.
    assert [total(part, "worker_state") for part in parts] == [1.0, 1.0]
    assert {
        dict(labels)["state"] for name, labels in parts[0] if name == "headrace_worker_state"
    } == set(WORKER_STATES)
    assert len({total(part, "worker_generation") for part in parts}) == 1
    owned = [
        {
            dict(labels)["partition"]
            for name, labels in part
            if name == "headrace_consumer_lag_messages"
        }
        for part in parts
    ]
    assert sorted(map(sorted, owned)) == [["0"], ["1"]]


def post(url: str, lines: list[bytes]) -> None:
    request = urllib.request.Request(
        f"{url}/v1/events", b"\n".join(lines), {"Content-Type": "application/x-ndjson"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 202


def test_workers_export_their_own_and_serve_the_sum(
    kafka_factory: Callable[..., KafkaBroker],
    redis_factory: Callable[[], RedisServer],
    tmp_path: Path,
) -> None:
    if shutil.which("promtool") is None:
        told = "no promtool on PATH: it comes with Debian's package prometheus"
        if services_required():
            pytest.fail(told, pytrace=False)
        pytest.skip(told)
    broker, redis = kafka_factory(NEVER_KILLED), redis_factory()
    common = {
        # What a worker that was expelled had counted is counted again.
        "HEADRACE_KAFKA__SESSION_TIMEOUT_S": "30",
        "HEADRACE_LOG__PARTITIONS": "2",
        "HEADRACE_LFS__CONTEXT_VOTES": '["sim_lf_0", "sim_lf_1"]',
        "HEADRACE_MONITORING__SEGMENTS": '["newcomer", "regular", "loyal"]',
        "HEADRACE_MONITORING__FIRST_REFERENCE": "2048",
        "HEADRACE_MONITORING__REFERENCE_VALUES": "2048",
    }
    make_topics(environment(broker.bootstrap, redis.url, **common), tmp_path)
    with ExitStack() as stack:

        def started(name: str, command: str, variable: str) -> Exporter:
            # Held for as long as the process: until it listens, nobody else may take the port.
            lease = stack.enter_context(PortLease())
            env = environment(broker.bootstrap, redis.url, **common, **{variable: str(lease.port)})
            argv = [sys.executable, "-m", "stream.cli", command]
            process = OwnedProcess(argv, output=tmp_path / f"{name}.log", env=env)
            return Exporter(stack.enter_context(process), lease.port)

        workers = [
            started(f"worker-{n}", "worker", "HEADRACE_WORKER__METRICS_PORT") for n in range(2)
        ]
        serve = started("serve", "serve", "HEADRACE_API__PORT")
        everybody = [*workers, serve]

        def one_partition_each() -> bool:
            return all(
                total(worker.samples(), "worker_partitions") == 1
                and total(worker.samples(), "worker_state", state="running") == 1
                for worker in workers
            )

        # Nothing is counted before the group is settled: what a partition counted stays with it,
        # what a process counted does not move.
        wait_until(one_partition_each, everybody, "the workers do not share the partitions")
        wait_until(lambda: bool(serve.status()), everybody, "serve does not answer")
        config = WorldConfig(
            seed=3, events=N_EVENTS, users=400, items=100,
            sim_lfs=(SimulatedLF(abstention=0.1), SimulatedLF(accuracy=0.7)),
        )  # fmt: skip
        for lines in World(config).chunks(1_000):
            post(serve.url, lines)

        def all_applied() -> bool:
            told = total(serve.samples(), "merged_records", what="events")
            return told == N_EVENTS and serve.status()["events"].get(EVENTS) == N_EVENTS

        wait_until(all_applied, everybody, "the merged view does not have all events")

        # What a partition at rest has counted is shown within a second or two.
        eventually(
            lambda: assert_sums(
                [worker.samples() for worker in workers], serve.samples(), serve.status()
            )
        )

        known = {spec.full_name: spec for spec in CATALOGUE}
        for each in everybody:
            page = each.page()
            done = subprocess.run(
                ["promtool", "check", "metrics"],
                input=page, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            ours = dict(re.findall(r"^# HELP (headrace_\S+) (.*)$", page, re.MULTILINE))
            assert len(ours) > 40
            assert {name: known[name].help for name in ours} == ours
        for each in everybody:
            each.process.terminate()
            assert each.process.returncode == 0, each.process.tail()
