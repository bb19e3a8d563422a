"""`headrace serve` beside a worker on real Kafka and Redis: what was learned is recommended."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.kafka_deployment import environment, records_of
from stream.events import DECISIONS, EVENTS, TOPICS
from stream.ids import example_id, user_key
from tests.services import KafkaBroker, RedisServer
from tests.services.ports import PortLease
from tests.services.process import OwnedProcess

pytestmark = pytest.mark.usefixtures("compiled")

# What compiles first on a busy machine takes its time.
WITHIN_S = 300.0


def ask(url: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            raise


def wait_for(
    condition: Callable[[], bool], processes: list[OwnedProcess], what: str, within_s: float
) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        for process in processes:
            assert process.running, process.tail()
        assert time.monotonic() < deadline, f"{what}:\n" + "\n".join(p.tail(20) for p in processes)
        time.sleep(0.2)


@pytest.fixture
def port() -> Iterator[int]:
    with PortLease() as lease:
        yield lease.port


@pytest.mark.timeout(900)
def test_serve_recommends_within_seconds_what_a_worker_learned(
    kafka_factory: Callable[..., KafkaBroker],
    redis_factory: Callable[[], RedisServer],
    tmp_path: Path,
    port: int,
) -> None:
    broker, redis = kafka_factory({"group.min.session.timeout.ms": "1000"}), redis_factory()
    env = environment(
        broker.bootstrap,
        redis.url,
        HEADRACE_API__PORT=str(port),
        HEADRACE_RECOMMENDATIONS__REFRESH_S="0.2",
        HEADRACE_RECOMMENDATIONS__EXPLORATION="0.5",
    )
    url = f"http://127.0.0.1:{port}"

    def headrace(command: str) -> OwnedProcess:
        argv = [sys.executable, "-m", "stream.cli", command]
        return OwnedProcess(argv, output=tmp_path / f"{command}.log", env=env)

    with headrace("topics") as topics:
        assert topics.wait(timeout_s=WITHIN_S) == 0, topics.tail()
    with ExitStack() as stack:
        processes = [stack.enter_context(headrace(name)) for name in ("worker", "serve")]
        wait_for(lambda: ask(f"{url}/readyz")["ready"], processes, "serve is not ready", WITHIN_S)
        stranger = ask(f"{url}/v1/recommendations?user_id=nobody")
        assert stranger["items"] == []
        items = [
            {"item_id": "pot", "title": "clay vessel"},
            {"item_id": "new pot", "title": "clay vessel"},
            {"item_id": "gone", "title": "clay vessel", "available": False},
        ]
        ask(f"{url}/v1/items", items)
        now = time.time()
        events = [
            {
                "event_id": f"{person}-{n}",
                "type": "click",
                "ts": now + n,
                "user_id": f"person-{person}",
                "item_id": item,
            }
            for person in range(40)
            for n, item in enumerate(("tea", "pot") if person % 2 else ("coffee", "mill"))
        ]
        ask(f"{url}/v1/events", events)
        newcomer = {"event_id": "n", "type": "click", "ts": now, "user_id": "ann", "item_id": "tea"}
        ask(f"{url}/v1/events", newcomer)

        wait_for(
            lambda: ask(f"{url}/v1/status")["events"].get(EVENTS) == len(events) + 1,
            processes,
            "the worker does not apply the events",
            WITHIN_S,
        )

        def leads() -> bool:
            """Tell whether what ann did leads, and what is like it has been borrowed for."""
            best = ask(f"{url}/v1/recommendations?user_id=ann&explore=false&k=5")["items"]
            names = [item["item_id"] for item in best]
            return (
                names[:1] == ["pot"]
                and best[0]["reason"].get("because") == "tea"
                and "new pot" in names
                and "gone" not in names
            )

        wait_for(leads, processes, "what was learned is not recommended", WITHIN_S)

        question = {"user_id": "ann", "k": 3, "request_id": "page-1"}
        slate = ask(f"{url}/v1/recommendations", question)
        assert slate["policy"] == "inverse_gap"
        feedback = [
            {
                "event_id": f"shown-{n}",
                "type": kind,
                "ts": now + 10 + n,
                "user_id": "ann",
                "item_id": slate["items"][0]["item_id"],
                "request_id": slate["request_id"],
                **(
                    {"position": 1, "propensity": slate["items"][0]["propensity"]} if n == 0 else {}
                ),
            }
            for n, kind in enumerate(("impression", "click"))
        ]
        ask(f"{url}/v1/events", feedback)
        wait_for(
            lambda: ask(f"{url}/v1/status")["join"]["matched"] == 1,
            processes,
            "feedback does not join its recommendation",
            WITHIN_S,
        )

        shown = slate["items"][0]["item_id"]
        name = example_id(user_key("ann"), slate["request_id"], shown, "shown-0")
        found = ask(f"{url}/v1/examples/{name}")
        assert (found["user_id"], found["item_id"]) == ("ann", shown)
        assert "clicked" in [vote["lf"] for vote in found["labels"]["relevance"]["votes"]]
        order = ask(
            f"{url}/v1/lfs/clicked",
            {"enabled": False, "reason": "new layout", "by": "ann"},
            method="PATCH",
        )

        def clicked() -> Any:
            return next(lf for lf in ask(f"{url}/v1/lfs")["lfs"] if lf["name"] == "clicked")

        wait_for(
            lambda: not clicked()["enabled"] and not clicked()["off_in_partitions"],
            processes,
            "the order does not reach every partition",
            WITHIN_S,
        )
        switched = {key: order[key] for key in ("ts", "who", "why")}
        assert clicked()["switched"] == switched
        for process in processes:
            process.terminate()
            assert process.returncode == 0, process.tail()
    decisions = [
        TOPICS[DECISIONS].validate_json(value) for value in records_of(broker.bootstrap, DECISIONS)
    ]
    (decided,) = [each for each in decisions if each.request_id == "page-1"]
    assert [(i.item_id, i.position, i.propensity) for i in decided.items] == [
        (i["item_id"], i["position"], i["propensity"]) for i in slate["items"]
    ]
