"""The short way to a recommendation answers as the long one does."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from monitoring.metrics import Metrics
from stream.api import recommendations
from stream.api.app import create_app
from stream.api.health import Readiness
from stream.api.recommendations import Recommendations, asked_in_query
from stream.config import Settings, load_settings
from stream.embedded_log import EmbeddedLog
from stream.events import DECISIONS
from stream.records import Outgoing, RecordBatch
from stream.serving.catalogue import ServedCatalogue
from stream.serving.sources import Served
from stream.serving.wiring import store_source
from stream.sinks import EmbeddedSink
from stream.stores.memory import MemoryStore

ROUTE = "/v1/recommendations"
TOKENS = {"reads": "recommend", "rules": "admin", "writes": "ingest"}
LONG = "-a-long-secret"


def settings(**api: Any) -> Settings:
    return load_settings(env={}, overrides={"api": api})


def asked(
    folder: Path, chosen: Settings, requests: list[tuple[str, dict[str, Any]]]
) -> tuple[list[tuple[int, Any]], Metrics]:
    catalogue = ServedCatalogue()
    lines = [b'{"item_id":"%s","categories":["%s"]}' % pair for pair in ((b"tea", b"drink"),)]
    lines += [b'{"item_id":"pot","categories":["ware"]}', b'{"item_id":"mat"}']
    keys = [b"tea", b"pot", b"mat"]
    catalogue.apply(RecordBatch("headrace.items", 0, range(3), lines, [0.0] * 3, keys))
    log = EmbeddedLog(folder / "log.db", 1)
    metrics = Metrics()
    served = Served(store_source(chosen, MemoryStore()), catalogue)
    app = create_app(chosen, EmbeddedSink(log), metrics, Readiness({}), served=served)

    async def run() -> list[tuple[int, Any]]:
        transport = ASGITransport(app=app)
        async with AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.request(method, ROUTE, **rest) for method, rest in requests]
            return [(answer.status_code, answer.json()) for answer in answers]

    try:
        return asyncio.run(run()), metrics
    finally:
        log.close()


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({}, {}),
        ({"k": "2"}, {"k": 2}),
        ({"exclude": ["tea", "mat"]}, {"exclude": ["tea", "mat"]}),
        ({"categories": "drink", "explore": "false"}, {"categories": ["drink"], "explore": False}),
        ({"available": "0", "diversity": "0.5"}, {"available": False, "diversity": 0.5}),
        ({"segment": "new ones"}, {"segment": "new ones"}),
    ],
)
def test_a_query_is_answered_as_a_body_is(
    tmp_path: Path, query: dict[str, Any], body: dict[str, Any]
) -> None:
    who = {"user_id": "Ann Ö", "request_id": "r"}
    (direct, posted), metrics = asked(
        tmp_path, settings(), [("GET", {"params": who | query}), ("POST", {"json": who | body})]
    )
    assert direct == posted
    assert direct[0] == 200
    assert direct[1]["items"]
    assert metrics.value("api_requests_total", (ROUTE, "200")) == 2


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ({}, "query.user_id", "is missing; it is required"),
        ({"user_id": ""}, "query.user_id", "should have at least 1 character; found ''"),
        ({"user_id": "ann", "k": "many"}, "query.k", "found 'many'"),
        ({"user_id": "ann", "k": "501"}, "query.k", "less than or equal to 500; found '501'"),
        ({"user_id": "ann", "colour": "red"}, "query.colour", "not permitted; found 'red'"),
    ],
)
def test_what_is_wrong_in_a_query_is_named(
    tmp_path: Path, query: dict[str, str], field: str, reason: str
) -> None:
    ((status, problem),), metrics = asked(tmp_path, settings(), [("GET", {"params": query})])
    assert status == 422
    assert [error["field"] for error in problem["errors"]] == [field]
    assert reason in problem["errors"][0]["reason"]
    assert metrics.value("api_requests_total", (ROUTE, "422")) == 1


def test_tokens_are_asked_for(tmp_path: Path) -> None:
    tokens = [
        {"name": name, "token": name + LONG, "roles": [role]} for name, role in TOKENS.items()
    ]
    presented = [None, "Bearer guess", "Bearer writes", "Basic reads", "Bearer reads"]
    presented += ["bearer  rules", "BEARER rules"]
    answers, _ = asked(
        tmp_path,
        settings(tokens=tokens),
        [
            (
                "GET",
                {
                    "params": {"user_id": "a"},
                    "headers": {"Authorization": one + LONG} if one else {},
                },
            )
            for one in presented
        ],
    )
    assert [status for status, _ in answers] == [401, 401, 403, 401, 200, 200, 200]


def test_requests_over_the_accepted_rate_wait(tmp_path: Path) -> None:
    slow = load_settings(env={}, overrides={"recommendations": {"requests_per_s": 0.001}})
    answers, metrics = asked(tmp_path, slow, [("GET", {"params": {"user_id": "a"}})] * 3)
    assert [status for status, _ in answers] == [200, 429, 429]
    assert "requests_per_s" in answers[-1][1]["detail"]
    assert metrics.value("api_requests_total", (ROUTE, "429")) == 2


def test_decisions_of_a_moment_are_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit for each answer would keep everybody who writes waiting."""
    # A moment in which twenty questions are answered however slow the machine is.
    monkeypatch.setattr(recommendations, "_LINGER_S", 2.0)
    log = EmbeddedLog(tmp_path / "log.db", 2)
    sizes: list[int] = []

    class Sink(EmbeddedSink):
        async def append(self, records: Sequence[Outgoing]) -> None:
            sizes.append(len(records))
            await super().append(records)

    chosen, metrics = settings(), Metrics()
    source = store_source(chosen, MemoryStore())
    asking = Recommendations(chosen, source, ServedCatalogue(), Sink(log), metrics)

    async def run() -> None:
        for n in range(20):
            await asking.queried(asked_in_query([("user_id", f"u{n}")]))
        assert not sizes
        await asking.close()

    asyncio.run(run())
    assert sizes == [20]
    assert sum(log.end_offsets(DECISIONS).values()) == 20
    assert metrics.value("api_events_total", (ROUTE, "accepted")) == 20
    log.close()


def test_decisions_that_the_log_refuses_are_counted(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", 2)
    chosen, metrics = settings(), Metrics()
    source = store_source(chosen, MemoryStore())
    asking = Recommendations(chosen, source, ServedCatalogue(), EmbeddedSink(log), metrics)

    async def run() -> None:
        log.close()
        for n in range(3):
            await asking.queried(asked_in_query([("user_id", f"u{n}")]))
        await asking.close()

    asyncio.run(run())
    assert metrics.value("api_events_total", (ROUTE, "failed")) == 3
    assert metrics.value("api_events_total", (ROUTE, "accepted")) == 0
