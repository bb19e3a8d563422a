"""Labeling functions and examples over real sockets: shown, switched, explained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from httpx import AsyncClient
from pydantic import BaseModel

from stream.api.examples import ExampleAnswer
from stream.api.lfs import LfList
from stream.assembly import pipeline_spec
from stream.commands.running import embedded_service
from stream.config import load_settings
from stream.embedded import EmbeddedEngine
from stream.embedded_log import EmbeddedLog
from stream.events import CONTROL, GOVERNANCE, LABELS, TOPICS, LfSwitch
from stream.explained import explained
from stream.ids import user_key
from stream.merged_view import MergedView
from stream.sinks import EmbeddedSink
from stream.state import Checkpoint, Epoch, UserWrite
from stream.stores.memory import MemoryStore
from stream.user_state import USER_FORMAT
from tests.integration import api_harness

pytestmark = pytest.mark.usefixtures("compiled")

PARTITIONS = 2
# Seconds on an idle machine; what compiles first on a busy one takes its time.
WITHIN_S = 180.0
T0 = 1_700_000_000.0
ADMIN = {"authorization": "Bearer admin-token-1234567890"}
TOKENS = [
    {"name": "ops", "token": "admin-token-1234567890", "roles": ["admin"]},
    {"name": "shop", "token": "shop-token-12345678901", "roles": ["ingest", "recommend"]},
    {"name": "asked", "token": "asked-token-1234567890", "roles": ["annotate"]},
]


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[AsyncClient, EmbeddedEngine]]:
    settings = load_settings(
        env={},
        overrides={
            "log": {"url": f"sqlite:///{folder / 'e.db'}", "partitions": PARTITIONS},
            "api": {"port": 0, "tokens": TOKENS},
            "checkpoint": {"interval_s": 0.2},
        },
    )
    with embedded_service(settings) as (engine, api):
        await api.start()
        engine.start()
        try:
            async with AsyncClient(base_url=api.url, timeout=120, headers=ADMIN) as client:
                yield client, engine
        finally:
            await api.stop()
            await asyncio.to_thread(engine.stop)


def rating(n: int, user: str) -> dict[str, Any]:
    return {
        "event_id": f"e{n}",
        "type": "rating",
        "value": 5.0,
        "ts": T0 + n,
        "user_id": user,
        "item_id": f"thing{n}",
    }


def labels(engine: EmbeddedEngine) -> dict[str, dict[str, Any]]:
    """Return the labels that were published, by item."""
    found: dict[str, dict[str, Any]] = {}
    for partition in range(PARTITIONS):
        for value in engine.log.read(LABELS, partition, 0).values:
            label = orjson.loads(value)
            found[label["item_id"]] = label
    return found


async def labelled(client: AsyncClient, engine: EmbeddedEngine, n: int) -> dict[str, Any]:
    """Send an event of each partition's people, and return a label of it."""
    events = [rating(n + person, f"p{person}") for person in range(4)]
    assert (await client.post("/v1/events", json=events)).status_code == 202
    wanted = {event["item_id"] for event in events}
    deadline = time.monotonic() + WITHIN_S
    while not wanted <= set(found := labels(engine)):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return {item: found[item] for item in sorted(wanted)}


async def row_when(client: AsyncClient, name: str, enabled: bool) -> dict[str, Any]:
    deadline = time.monotonic() + WITHIN_S
    while True:
        answer = await client.get("/v1/lfs")
        assert answer.status_code == 200, answer.text
        LfList.model_validate(answer.json())
        (row,) = [row for row in answer.json()["lfs"] if row["name"] == name]
        # Partitions take an order up, and are saved, one by one.
        if row["enabled"] is enabled and not row["off_in_partitions"]:
            found: dict[str, Any] = row
            return found
        assert time.monotonic() < deadline, row
        await asyncio.sleep(0.05)


def voters(label: dict[str, Any]) -> set[str]:
    return {vote["lf"] for vote in label["votes"]}


def test_a_function_is_switched_off_without_a_restart_and_recorded(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(tmp_path) as (client, engine):
            for label in (await labelled(client, engine, 0)).values():
                assert "rated" in voters(label)
            await row_when(client, "rated", True)
            change = {"enabled": False, "reason": " stars were moved ", "by": "ann"}
            answer = await client.patch("/v1/lfs/rated", json=change)
            assert answer.status_code == 202, answer.text
            order = LfSwitch.model_validate(answer.json())
            assert (order.enabled, order.who, order.why) == (False, "ops: ann", "stars were moved")
            # Durable before the answer, as the command and a producer would write it.
            (value,) = engine.log.read(CONTROL, 0, 0).values
            assert TOPICS[CONTROL].validate_json(value) == order

            row = await row_when(client, "rated", False)
            assert row["switched"] == {"ts": order.ts, "who": order.who, "why": order.why}
            for label in (await labelled(client, engine, 100)).values():
                assert "rated" not in voters(label)
            told = [
                orjson.loads(value)
                for partition in range(PARTITIONS)
                for value in engine.log.read(GOVERNANCE, partition, 0).values
            ]
            (record,) = told
            assert (record["action"], record["who"]) == ("lf_disabled", "ops: ann")
            assert (record["subject"], record["why"]) == ("*/rated", "stars were moved")

            change = {"enabled": True, "reason": "they are back"}
            assert (await client.patch("/v1/lfs/rated", json=change)).json()["who"] == "ops"
            await row_when(client, "rated", True)
            for label in (await labelled(client, engine, 200)).values():
                assert "rated" in voters(label)

    asyncio.run(run())


def test_an_example_is_explained_by_its_id_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(tmp_path) as (client, engine):
            for item, label in (await labelled(client, engine, 0)).items():
                path = f"/v1/examples/{label['example_id']}"
                deadline = time.monotonic() + WITHIN_S
                while (answer := await client.get(path)).status_code == 404:
                    assert "checkpoint" in answer.json()["detail"]
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
                assert answer.status_code == 200, answer.text
                found = answer.json()
                assert set(found) == set(ExampleAnswer.model_validate(found).model_fields_set)
                assert (found["item_id"], found["user_id"]) == (item, label["user_id"])
                assert found["labels"]["relevance"]["votes"]
                named = {vote["lf"] for vote in found["labels"]["relevance"]["votes"]}
                assert named == voters(label)
            for name in ("nonsense", "0" * 36):
                missing = await client.get(f"/v1/examples/{name}")
                assert missing.status_code == 404
                assert missing.headers["content-type"] == "application/problem+json"

    asyncio.run(run())


def test_what_is_refused_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    async def run() -> None:
        async with service(tmp_path) as (client, engine):
            unknown = await client.patch("/v1/lfs/ratd", json={"enabled": False, "reason": "x"})
            assert unknown.status_code == 404
            assert unknown.json()["nearest"][0] == "rated" and "rated" in unknown.json()["detail"]
            for body, field in (
                ({"enabled": False}, "reason"),
                ({"enabled": False, "reason": "  "}, "reason"),
                ({"enabled": 0, "reason": "x"}, "enabled"),
                ({"reason": "x"}, "enabled"),
                ({"enabled": False, "reason": "x", "by": ""}, "by"),
                ({"enabled": False, "reason": "x", "why": "y"}, "why"),
            ):
                refused = await client.patch("/v1/lfs/rated", json=body)
                assert refused.status_code == 422, body
                assert [error["field"] for error in refused.json()["errors"]] == [field]
            change = {"enabled": False, "reason": "x", "task": "another"}
            refused = await client.patch("/v1/lfs/rated", json=change)
            assert (refused.status_code, "relevance" in refused.json()["detail"]) == (422, True)
            assert (await client.patch("/v1/lfs/rated", content=b"{")).status_code == 422
            large = await client.patch("/v1/lfs/rated", content=b" " * 100_000)
            assert large.status_code == 413

            shop = {"authorization": "Bearer shop-token-12345678901"}
            asked = {"authorization": "Bearer asked-token-1234567890"}
            change = {"enabled": False, "reason": "x"}
            for headers, statuses in ((shop, [403, 403, 403]), (asked, [403, 403, 404])):
                answers = [
                    await client.get("/v1/lfs", headers=headers),
                    await client.patch("/v1/lfs/rated", json=change, headers=headers),
                    await client.get(f"/v1/examples/{'0' * 36}", headers=headers),
                ]
                assert [answer.status_code for answer in answers] == statuses
            assert len(engine.log.read(CONTROL, 0, 0)) == 0

            paths = (await client.get("/openapi.json")).json()["paths"]
            schemas: tuple[tuple[str, str, str, type[BaseModel]], ...] = (
                ("/v1/lfs", "get", "200", LfList),
                ("/v1/lfs/{name}", "patch", "202", LfSwitch),
                ("/v1/examples/{example_id}", "get", "200", ExampleAnswer),
            )
            for path, method, status, schema in schemas:
                content = paths[path][method]["responses"][status]["content"]
                schema.model_validate(content["application/json"]["example"])

    asyncio.run(run())


def test_without_log_or_store_one_is_told_which(tmp_path: Path) -> None:
    configured = api_harness.settings()
    spec, store = pipeline_spec(configured), MemoryStore()
    log = EmbeddedLog(tmp_path / "log.db", 1, topics={CONTROL: 1})
    source = explained(store, spec, MergedView(store, spec))

    async def run() -> None:
        async with api_harness.serving(EmbeddedSink(log), configured, explained=source) as (
            client,
            _,
            _,
        ):
            change = {"enabled": False, "reason": "x"}
            local = await client.patch("/v1/lfs/rated", json=change)
            assert (local.status_code, "machine" in local.json()["who"]) == (202, True)
            log.close()
            answer = await client.patch("/v1/lfs/rated", json=change)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert "was not stored" in answer.json()["detail"]
            assert (await client.get("/v1/lfs")).status_code == 200
            store.close()
            for path in ("/v1/lfs", f"/v1/examples/{'0' * 36}"):
                answer = await client.get(path)
                assert answer.status_code == 503
                assert "state store" in answer.json()["detail"]

    asyncio.run(run())


def test_state_of_a_newer_program_is_no_bug(tmp_path: Path) -> None:
    configured = api_harness.settings()
    spec, store = pipeline_spec(configured), MemoryStore()
    view, key = MergedView(store, spec), user_key("u")
    epoch = Epoch(0, "newer")
    store.claim(0, epoch)
    users = {key: UserWrite(msgspec.msgpack.encode([USER_FORMAT + 1]), None)}
    counts = {"share/counts": msgspec.msgpack.encode({"format": 99})}
    store.save(Checkpoint(0, {}, {"headrace.events": 1}, users, counts), epoch)
    log = EmbeddedLog(tmp_path / "log.db", 1)
    shown: dict[str, Any] = {"explained": explained(store, spec, view), "status_source": view.read}

    async def run() -> None:
        async with api_harness.serving(EmbeddedSink(log), configured, **shown) as (client, _, _):
            for path in ("/v1/lfs", "/v1/status", f"/v1/examples/{key.hex()}{'0' * 16}"):
                answer = await client.get(path)
                assert answer.status_code == 503, path
                assert "this program reads up to" in answer.json()["detail"]

    asyncio.run(run())
    log.close()
